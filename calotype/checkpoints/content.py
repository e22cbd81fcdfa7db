"""What a file given as weights really is, by its first bytes: names lie, and downloads end in web pages. No torch."""

import json
import re
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from calotype.errors import CalotypeError, Message

SAFETENSORS, TORCH, PICKLE, NCNN, UNKNOWN = "safetensors", "torch", "pickle", "ncnn", "unknown"
MAX_HEADER = 100_000_000  # bytes, the limit of safetensors itself
NCNN_MAGIC = b"7767517"
START = 4096  # bytes that are looked at
UNFINISHED = (".part", ".crdownload", ".download", ".aria2", ".incomplete", ".partial", ".tmp")  # of downloads


@dataclass(frozen=True)
class _Start:
    """The beginning of a file."""

    path: Path
    data: bytes
    size: int

    @property
    def text(self) -> str:
        """Without byte order mark and leading spaces, lower case; empty if the bytes are not text."""
        if b"\0" in self.data:
            return ""
        text = self.data.decode("utf-8", "replace").lstrip("\ufeff \t\r\n")
        control = sum(letter == "\ufffd" or not (letter.isprintable() or letter in "\t\r\n") for letter in text)
        return text if control * 20 <= len(text) else ""

    @property
    def suffix(self) -> str:
        return self.path.suffix.lower()


def content_of(path: Path) -> str:
    """SAFETENSORS, TORCH (zip), PICKLE, NCNN (its .param) or UNKNOWN.

    Raises:
        CalotypeError: it is recognised as something that holds no weights which Calotype reads; the message says what
            it is and what to do.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        start = _Start(path, file.read(START), path.stat().st_size)
    if _is_safetensors(start):
        return SAFETENSORS
    if start.data.startswith(b"PK\x03\x04"):
        return _kind_of_zip(start)
    if start.data[:1] == b"\x80" and start.data[1:2] in (b"\x01", b"\x02", b"\x03", b"\x04", b"\x05"):
        return PICKLE
    if start.data.lstrip().startswith(NCNN_MAGIC):
        return NCNN
    for detects, describe, kind in _FOREIGN:
        if detects(start):
            raise CalotypeError(describe(start, kind) if kind else describe(start))
    return UNKNOWN


def is_safetensors(path: Path) -> bool:
    """Whether a file begins as a safetensors file, whatever its name; False if it cannot be read."""
    try:
        with path.open("rb") as file:
            return _is_safetensors(_Start(path, file.read(16), 0))
    except OSError:
        return False


def _is_safetensors(start: _Start) -> bool:
    length = int.from_bytes(start.data[:8], "little")
    return start.data[8:9] == b"{" and 2 <= length <= MAX_HEADER


def _kind_of_zip(start: _Start) -> str:
    try:
        with zipfile.ZipFile(start.path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, EOFError):
        raise CalotypeError(
            "{path} is cut off or damaged: it begins as a file of torch.save, and its end is missing; fetch or copy it "
            "again",
            path=start.path,
        ) from None
    if any(name == "data.pkl" or name.endswith("/data.pkl") for name in names):
        return TORCH
    if any("coremldata" in name or ".mlmodel" in name or "com.apple.CoreML" in name for name in names):
        raise CalotypeError(_converted(start, "Core ML"))
    if any(name.endswith(".npy") for name in names):
        raise CalotypeError(_converted(start, "NumPy"))
    if "model.weights.h5" in names:
        raise CalotypeError(_converted(start, "Keras"))
    raise CalotypeError(_archive(start, "zip"))


def _converted(start: _Start, program: str) -> Message:
    return Message(
        "{path} is a model in the format of {program}, which Calotype does not read; give the .safetensors file of the "
        "same model",
        path=start.path,
        program=program,
    )


def _archive(start: _Start, kind: str) -> Message:
    return Message(
        "{path} is an archive ({kind}), not a file of weights; unpack it and give the file of weights in it",
        path=start.path,
        kind=kind,
    )


def _document(start: _Start, kind: str) -> Message:
    return Message("{path} is {kind}, not a file of weights; give the file of weights", path=start.path, kind=kind)


def _lfs_pointer(start: _Start) -> Message:
    size = re.search(r"^size (\d{1,15})$", start.text, re.M)
    return Message(
        "{path} is a pointer of Git LFS, not the weights, which have {size:,} bytes and were not fetched; run git lfs "
        "pull in its repository, or download the file itself",
        path=start.path,
        size=int(size[1]) if size else 0,
    )


def _web_page(start: _Start) -> Message:
    title = re.search(r"<title[^>]*>([^<]{1,200})", start.text, re.I)
    return Message(
        "{path} is a web page{title}, not the weights: the download needs a login, an accepted licence or another "
        "address; download it again in the browser, or with an access token",
        path=start.path,
        title=Message(" ({title})", title=_short(title[1])) if title else Message(""),
    )


def _server_error(start: _Start) -> Message:
    return Message(
        "{path} is an answer of a server, not the weights ({text}); download it again, where needed with a login or an "
        "access token",
        path=start.path,
        text=_short(re.sub(r"<[^>]*>", " ", start.text) if start.text.startswith("<") else start.text),
    )


def _json(start: _Start) -> Message:
    if '"weight_map"' in start.text:
        return Message(
            "{path} is the index of a model whose weights are split into several files; give the diffusers folder that "
            "it belongs to, the one with model_index.json",
            path=start.path,
        )
    if '"_class_name"' in start.text or '"architectures"' in start.text or '"model_type"' in start.text:
        return Message(
            "{path} is the configuration of a model, not its weights; give the file of weights, or the diffusers "
            "folder with model_index.json",
            path=start.path,
        )
    if '"class_type"' in start.text or '"last_node_id"' in start.text:
        return _document(start, "a workflow of ComfyUI")
    return _server_error(start)


def _text(start: _Start) -> Message:
    return Message(
        "{path} is text, not weights ({text}); if it was downloaded, that is the answer of the server: download it "
        "again, where needed with a login or an access token",
        path=start.path,
        text=_short(start.text),
    )


def _zeros(start: _Start) -> Message:
    return Message("{path} begins with zeros: its download did not finish; fetch or copy it again", path=start.path)


def _unfinished(start: _Start) -> Message:
    return Message("{path} is a download that did not finish; fetch it again", path=start.path)


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= 80 else f"{text[:79]}…"


def _begins(*starts: bytes) -> Callable[[_Start], bool]:
    return lambda start: start.data.startswith(starts)


def _says(pattern: str) -> Callable[[_Start], bool]:
    return lambda start: re.match(pattern, start.text, re.I) is not None


def _is_json(start: _Start) -> bool:
    if not start.text.startswith(("{", "[")):
        return False
    if start.size > len(start.data):
        return re.match(r'[{\[]\s*(["{\[\]}]|-?\d)', start.text) is not None
    try:
        json.loads(start.text)
    except (ValueError, RecursionError):
        return False
    return True


def _is_protobuf(*words: bytes, suffix: str = "") -> Callable[[_Start], bool]:
    """ONNX and Core ML files are protobuf messages that begin with a version, and then a text."""

    def detects(start: _Start) -> bool:
        is_message = start.data[:1] == b"\x08" and start.data[2:3] in (b"\x12", b"\x3a", b"\x42", b"\x22")
        return is_message and (start.suffix == suffix or any(word in start.data for word in words))

    return detects


def _is_zeros(start: _Start) -> bool:
    return start.size >= 64 and not any(start.data)


def _is_text(start: _Start) -> bool:
    return start.suffix != ".param" and len(start.text) > 8


def _at(offset: int, word: bytes) -> Callable[[_Start], bool]:
    return lambda start: start.data[offset : offset + len(word)] == word


def _ends(*suffixes: str) -> Callable[[_Start], bool]:
    return lambda start: start.suffix in suffixes


_PICTURES = (b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"II*\0", b"MM\0*")
_FOREIGN: tuple[tuple[Callable[[_Start], bool], Callable[..., Message], str], ...] = (  # the first that fits
    (_says(r"version https://git-lfs"), _lfs_pointer, ""),
    (_says(r"<!doctype html|<html|<head|<body|<script|<meta"), _web_page, ""),
    (_says(r"<\?xml|<[a-z]+[ >]"), _server_error, ""),
    (_is_json, _json, ""),
    (_begins(b"GGUF"), _converted, "GGUF"),
    (_begins(b"ftrt", b"ptrt"), _converted, "TensorRT"),
    (_begins(b"\x89HDF"), _converted, "Keras (HDF5)"),
    (_begins(b"\x93NUMPY"), _converted, "NumPy"),
    (_at(4, b"TFL3"), _converted, "TensorFlow Lite"),
    (_is_protobuf(b"onnx", b"pytorch", suffix=".onnx"), _converted, "ONNX"),
    (_is_protobuf(b"coreml", b"CoreML", suffix=".mlmodel"), _converted, "Core ML"),
    (_ends(".onnx"), _converted, "ONNX"),
    (_ends(".engine", ".trt", ".plan"), _converted, "TensorRT"),
    (_ends(".msgpack"), _converted, "Flax (JAX)"),
    (_ends(".h5", ".tflite", ".pb"), _converted, "TensorFlow"),
    (_begins(b"\x1f\x8b"), _archive, "gzip"),
    (_begins(b"7z\xbc\xaf\x27\x1c"), _archive, "7z"),
    (_begins(b"Rar!"), _archive, "rar"),
    (_begins(b"\xfd7zXZ"), _archive, "xz"),
    (_begins(b"BZh"), _archive, "bzip2"),
    (_begins(b"\x28\xb5\x2f\xfd"), _archive, "zstd"),
    (_at(257, b"ustar"), _archive, "tar"),
    (_begins(*_PICTURES), _document, "a picture"),
    (_at(8, b"WEBP"), _document, "a picture"),
    (_begins(b"%PDF"), _document, "a PDF"),
    (_is_zeros, _zeros, ""),
    (_ends(*UNFINISHED), _unfinished, ""),
    (_is_text, _text, ""),
)
