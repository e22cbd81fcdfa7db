"""A file is what its bytes say, whatever its name; and one that holds no weights is called what it is."""

import gzip
import io
import json
import zipfile

import numpy as np
import pytest
import torch
from safetensors.torch import save, save_file

from calotype.checkpoints.content import PICKLE, SAFETENSORS, TORCH, content_of
from calotype.checkpoints.header import check_file, data_start, metadata_of
from calotype.checkpoints.shapes import shapes_in
from calotype.checkpoints.state_dict import read_state
from calotype.errors import CalotypeError

STATE = {"layer.weight": torch.arange(6.0).reshape(2, 3)}
SAVED = save(STATE, {"made": "here"})


def zipped(*names: str) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        for name in names:
            archive.writestr(name, b"x" * 40)
    return data.getvalue()


def numpy_archive() -> bytes:
    data = io.BytesIO()
    np.savez(data, weight=np.ones(3))
    return data.getvalue()


@pytest.mark.parametrize("name", ["x.pt", "x.ckpt", "x.pth", "x.bin", "x.sft", "x", "x.safetensors.part"])
def test_a_safetensors_file_is_read_under_any_name(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(SAVED)
    assert content_of(path) == SAFETENSORS and shapes_in(path) == {"layer.weight": (2, 3)}
    assert torch.equal(read_state(path)["layer.weight"], STATE["layer.weight"])
    assert metadata_of(path) == {"made": "here"} and data_start(path) == len(SAVED) - 24


@pytest.mark.parametrize("is_zip", [True, False])
@pytest.mark.parametrize("name", ["x.safetensors", "x.SafeTensors", "x.model", "x"])
def test_a_pickle_is_read_under_any_name(tmp_path, name, is_zip):
    path = tmp_path / name
    torch.save(STATE, path, _use_new_zipfile_serialization=is_zip)
    assert content_of(path) == (TORCH if is_zip else PICKLE) and shapes_in(path) == {"layer.weight": (2, 3)}
    assert torch.equal(read_state(path)["layer.weight"], STATE["layer.weight"])
    assert metadata_of(path) == {} and data_start(path) == 0


@pytest.mark.parametrize("name", ["trap.safetensors", "trap.sft", "trap"])
def test_a_pickle_with_code_is_refused_under_any_name(tmp_path, name):
    class Trap:
        def __reduce__(self):
            return exec, ("raise SystemExit",)

    path = tmp_path / name
    torch.save({"layer.weight": torch.ones(2), "trap": Trap()}, path)
    with pytest.raises(CalotypeError, match="has code in it"):
        read_state(path)


@pytest.mark.parametrize(
    "data, words",
    [
        (b"<!DOCTYPE html>\n<html><title>Sign in | Site</title>", "is a web page (Sign in | Site), not the weights"),
        (b"\xef\xbb\xbf  <HTML><body>Forbidden", "is a web page, not the weights"),
        (b'{"error":"Invalid username or password."}', 'an answer of a server, not the weights ({"error":"Invalid'),
        (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "is an answer of a server, not the weights"),
        (b"Entry not found", "is text, not weights (Entry not found)"),
        (b"version https://git-lfs.github.com/spec/v1\nsize 42651463\n", "have 42,651,463 bytes"),
        (b'{"metadata": {}, "weight_map": {"a": "model-00001-of-00002.safetensors"}}', "split into several files"),
        (json.dumps({"_class_name": "UNet2DConditionModel"}, indent=2).encode(), "is the configuration of a model"),
        (json.dumps({"3": {"class_type": "KSampler"}}).encode(), "is a workflow of ComfyUI"),
        (b"GGUF\x03\0\0\0" + bytes(60), "in the format of GGUF"),
        (b"\x08\x08\x12\x07pytorch\x1a\x03" + bytes(60), "in the format of ONNX"),
        (b"ftrt" + bytes(60), "in the format of TensorRT"),
        (b"\x89HDF\r\n\x1a\n" + bytes(60), "in the format of Keras"),
        (b"\x1c\0\0\0TFL3" + bytes(60), "in the format of TensorFlow Lite"),
        (zipped("m.mlpackage/Data/com.apple.CoreML/model.mlmodel"), "in the format of Core ML"),
        (numpy_archive(), "in the format of NumPy"),
        (zipped("readme.txt"), "is an archive (zip)"),
        (gzip.compress(SAVED), "is an archive (gzip)"),
        (b"Rar!\x1a\x07" + bytes(60), "is an archive (rar)"),
        (b"\x89PNG\r\n\x1a\n" + bytes(60), "is a picture, not a file of weights"),
        (bytes(5000), "its download did not finish"),
        (SAVED[:-5], "is cut off: 5 bytes are missing"),
        (SAVED[:30], "is cut off within its header"),
        (zipped("x/data.pkl")[:-30], "is cut off or damaged: it begins as a file of torch.save"),
        (bytes(range(256)) * 4, "does not begin as a safetensors file"),
    ],
)  # fmt: skip
def test_what_holds_no_weights_is_called_what_it_is(tmp_path, data, words):
    path = tmp_path / "model.safetensors"
    path.write_bytes(data)
    for read in (read_state, shapes_in):
        if read is shapes_in and "bytes are missing" in words:
            continue  # the header is whole
        with pytest.raises(CalotypeError) as caught:
            read(path)
        text = str(caught.value)
        assert words in text and str(path) in text and ";" in text and "\n" not in text


@pytest.mark.parametrize(
    "name, words",
    [("x.onnx", "ONNX"), ("x.engine", "TensorRT"), ("x.msgpack", "Flax"), ("x.crdownload", "did not finish")],
)
def test_a_known_suffix_says_what_unknown_bytes_are(tmp_path, name, words):
    path = tmp_path / name
    path.write_bytes(bytes(range(1, 256)))
    with pytest.raises(CalotypeError, match=words):
        check_file(path)


def test_a_header_that_json_could_be_is_no_safetensors_file(tmp_path):
    """The ninth byte of a safetensors file is the brace; a JSON text has a length of 19 digits there."""
    path = tmp_path / "x.safetensors"
    path.write_bytes(b'[[1, 2], {"error": "gone"}]')
    with pytest.raises(CalotypeError, match="an answer of a server"):
        read_state(path)


def test_the_shape_of_a_file_with_metadata_stays(tmp_path):
    save_file(STATE, tmp_path / "x.ckpt", {"modelspec.title": "x"})
    assert metadata_of(tmp_path / "x.ckpt") == {"modelspec.title": "x"}
