"""Texts of image generators, wherever a file has them: chunks, EXIF, XMP, comments, the lowest bits of pixels."""

import gzip
import io
import json
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from calotype.dialects.readers import read_parameters
from calotype.picture import Picture, save
from calotype.picture.metadata import exif as exif_blocks

STEPS = "Steps: 6, Sampler: Euler, CFG scale: 3.5, Seed: 9, Size: 64x64, Model: emoji"
CHINESE = f"猫，微笑\nNegative prompt: 手\n{STEPS}"
ENGLISH = f"red apple, “x”\n{STEPS}"
GRAPH = {"3": {"class_type": "KSampler", "inputs": {"seed": 7, "steps": 6, "sampler_name": "euler", "model": ["4", 0]}}}
SWARM = {"sui_image_params": {"prompt": "猫", "seed": 5, "steps": 4, "width": 64, "height": 64}}


def parameters(path):
    picture = Picture.open(path)
    return read_parameters(picture.metadata.texts, picture.pixels.shape[:2])


def block(body, order="<", kind=exif_blocks.UNDEFINED, root=None):
    entry = exif_blocks.ExifEntry(kind, len(body), body)
    entries = {tag: exif_blocks.ExifEntry(2, len(data), data) for tag, data in (root or {}).items()}
    exif = exif_blocks.Exif(order, root=entries, photo={exif_blocks.USER_COMMENT: entry} if body else {})
    return b"Exif\0\0" + exif_blocks.pack(exif)


CODES = {
    "utf-16-le": lambda text: b"UNICODE\0" + text.encode("utf-16-le"),
    "utf-16-be": lambda text: b"UNICODE\0" + text.encode("utf-16-be"),
    "utf-16 with its mark": lambda text: b"UNICODE\0" + b"\xff\xfe" + text.encode("utf-16-le"),
    "utf-16-be with its mark": lambda text: b"UNICODE\0" + b"\xfe\xff" + text.encode("utf-16-be"),
    "utf-8 under UNICODE": lambda text: b"UNICODE\0" + text.encode(),
    "utf-8 under ASCII": lambda text: b"ASCII\0\0\0" + text.encode(),
    "undefined": lambda text: bytes(8) + text.encode(),
    "without a code": lambda text: text.encode() + b"\0",
    "JIS": lambda text: b"JIS\0\0\0\0\0" + text.replace("“x”", "猫").encode("iso2022_jp", "ignore"),
}


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("text", [CHINESE, ENGLISH])
def test_a_user_comment_in_any_code(tmp_path, text, code, order):
    path = tmp_path / "a.jpg"
    Image.new("RGB", (64, 48)).save(path, exif=block(CODES[code](text), order))
    told = parameters(path)
    right = read_parameters({"parameters": text})
    assert (told.seed, told.steps, told.model) == (9, 6, "emoji")
    if code != "JIS":
        assert (told.prompt, told.negative) == (right.prompt, right.negative)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("text", ["夏天，湖边", "夏天 2019", "été 2019", "Лето", "夏の湖"])
@pytest.mark.parametrize("is_block_order", [True, False])
def test_a_persons_comment_is_read_and_is_no_prompt(tmp_path, text, order, is_block_order):
    is_little = (order == "<") == is_block_order
    body = b"UNICODE\0" + text.encode("utf-16-le" if is_little else "utf-16-be")
    parsed = exif_blocks.parse(block(body, order)[6:])
    if is_block_order or any(c.isascii() for c in text):
        assert exif_blocks.comment(parsed) == text
    Image.new("RGB", (64, 48)).save(tmp_path / "a.jpg", exif=block(body, order))
    picture = Picture.open(tmp_path / "a.jpg")
    assert picture.metadata.infotext == "" and parameters(tmp_path / "a.jpg") is None
    save(picture, tmp_path / "a.png", format="png")
    assert "parameters" not in Image.open(tmp_path / "a.png").info


@pytest.mark.parametrize("suffix", ["jpg", "webp", "avif", "png", "tif"])
def test_exif_of_every_format(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    Image.new("RGB", (64, 48)).save(path, exif=block(CODES["utf-16-be"](CHINESE), ">"))
    assert parameters(path).prompt == "猫，微笑"
    save(Picture.open(path), tmp_path / "b.png", format="png")
    assert Image.open(tmp_path / "b.png").info["parameters"] == CHINESE


@pytest.mark.parametrize("kind", [1, 2, 7])
@pytest.mark.parametrize("suffix", ["jpg", "webp"])
def test_a_comment_in_the_wrong_directory(tmp_path, kind, suffix):
    """infinite-image-browsing #942, TavernAI #110: UserComment in the first directory, as BYTE or ASCII."""
    body = CODES["utf-16-be"](CHINESE) if kind != 2 else ENGLISH.encode() + b"\0"
    entry = exif_blocks.ExifEntry(kind, len(body), body)
    data = exif_blocks.pack(exif_blocks.Exif(">", root={exif_blocks.USER_COMMENT: entry}))
    Image.new("RGB", (64, 48)).save(tmp_path / f"a.{suffix}", exif=b"Exif\0\0" + data)
    read = parameters(tmp_path / f"a.{suffix}")
    assert (read.prompt, read.seed) == ("red apple, “x”" if kind == 2 else "猫，微笑", 9)
    save(Picture.open(tmp_path / f"a.{suffix}"), tmp_path / "b.png", format="png")
    assert Image.open(tmp_path / "b.png").info["parameters"] == (ENGLISH if kind == 2 else CHINESE)


@pytest.mark.parametrize("suffix", ["jpg", "webp", "png", "tiff", "avif"])
@pytest.mark.parametrize("code", [*CODES, "ASCII   ", "ascii\0\0\0", "Unicode\0", "none"])
def test_invokeai_in_the_exif_comment(tmp_path, suffix, code):
    text = json.dumps(
        {
            **{"app_version": "5.1", "generation_mode": "txt2img", "positive_prompt": "猫", "negative_prompt": "手"},
            **{"seed": 9, "steps": 6, "cfg_scale": 3.5, "scheduler": "euler", "width": 64, "height": 48},
        },
        ensure_ascii="ASCII" in code.upper(),
    )
    if code in CODES:
        body = CODES[code](text)
    elif code == "none":
        body = text.encode()
    else:
        body = code.encode() + text.encode("utf-16-be" if code.startswith("U") else "utf-8")
    Image.new("RGB", (64, 48)).save(tmp_path / f"a.{suffix}", exif=block(body))
    read = parameters(tmp_path / f"a.{suffix}")
    assert (read.program, read.prompt, read.negative, read.seed) == ("InvokeAI", "猫", "手", 9)


@pytest.mark.parametrize("tag, prefix", [(272, "prompt:"), (271, "Prompt:"), (270, "prompt: ")])
def test_comfyui_in_webp(tmp_path, tag, prefix):
    root = {tag: f"{prefix}{json.dumps(GRAPH)}\0".encode(), 305: b"x\0"}
    root |= {270 if tag != 270 else 271: b'Workflow:{"nodes": []}\0'}
    Image.new("RGB", (64, 48)).save(tmp_path / "a.webp", exif=block(b"", "<", root=root))
    assert (parameters(tmp_path / "a.webp").program, parameters(tmp_path / "a.webp").seed) == ("ComfyUI", 7)


def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


CHUNKS = {
    "tEXt": lambda key, text: chunk(b"tEXt", key + b"\0" + text),
    "zTXt": lambda key, text: chunk(b"zTXt", key + b"\0\0" + zlib.compress(text)),
    "iTXt": lambda key, text: chunk(b"iTXt", key + b"\0\0\0\0\0" + text),
    "iTXt, compressed": lambda key, text: chunk(b"iTXt", key + b"\0\1\0en\0k\0" + zlib.compress(text)),
}


@pytest.mark.parametrize("kind", CHUNKS)
@pytest.mark.parametrize("key, text", [("parameters", CHINESE), ("prompt", json.dumps(GRAPH)), ("Comment", CHINESE)])
def test_chunks_of_png(tmp_path, kind, key, text):
    out = io.BytesIO()
    Image.new("RGB", (64, 48)).save(out, "png")
    data = out.getvalue()
    (tmp_path / "a.png").write_bytes(data[:33] + CHUNKS[kind](key.encode(), text.encode()) + data[33:])
    told = parameters(tmp_path / "a.png")
    assert told.seed == (7 if key == "prompt" else 9) and (key == "prompt" or told.prompt == "猫，微笑")


@pytest.mark.parametrize("prompt", ["café", "Ã©t", "ÿ", "猫", "plain"])  # "Ã©" as Latin-1 is "é" in UTF-8
def test_what_is_written_is_read(tmp_path, prompt):
    info = PngImagePlugin.PngInfo()
    info.add_text("parameters", f"x\n{STEPS}")
    Image.new("RGB", (64, 48)).save(tmp_path / "a.png", pnginfo=info)
    picture = Picture.open(tmp_path / "a.png")
    picture.metadata.texts["parameters"] = f"{prompt}\n{STEPS}"
    for name, format in (("b.png", "png"), ("b.jpg", "jpeg"), ("b.webp", "webp")):
        save(picture, tmp_path / name, format=format)
        assert parameters(tmp_path / name).prompt == prompt


@pytest.mark.parametrize(
    "property",
    [
        "<exif:UserComment><rdf:Alt><rdf:li xml:lang='x'>{}</rdf:li><rdf:li>b</rdf:li></rdf:Alt></exif:UserComment>",
        "<dc:description><rdf:Alt><rdf:li xml:lang='x-default'>{}</rdf:li></rdf:Alt></dc:description>",
        "<sd:parameters>{}</sd:parameters>",
    ],
)
def test_xmp(tmp_path, property):
    packet = (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        '<rdf:Description rdf:about="" xmlns:exif="http://ns.adobe.com/exif/1.0/" xmlns:sd="http://x/"'
        f' xmlns:dc="http://purl.org/dc/elements/1.1/">{property.format(CHINESE)}</rdf:Description></rdf:RDF></x:xmpmeta>'
    )
    Image.new("RGB", (64, 48)).save(tmp_path / "a.jpg", xmp=packet.encode())
    assert parameters(tmp_path / "a.jpg").prompt == "猫，微笑"


@pytest.mark.parametrize("suffix", ["jpg", "gif"])
def test_comments(tmp_path, suffix):
    Image.new("RGB", (64, 48)).save(tmp_path / f"a.{suffix}", comment=CHINESE.encode())
    assert parameters(tmp_path / f"a.{suffix}").prompt == "猫，微笑"


def test_swarmui_in_a_jpeg_goes_into_png(tmp_path):
    body = CODES["utf-16-be"](json.dumps(SWARM, ensure_ascii=False))
    Image.new("RGB", (64, 48)).save(tmp_path / "a.jpg", exif=block(body))
    assert parameters(tmp_path / "a.jpg").prompt == "猫"
    save(Picture.open(tmp_path / "a.jpg"), tmp_path / "b.png", format="png")
    assert parameters(tmp_path / "b.png").seed == 5


def hidden(mode, is_compressed, text, size=(96, 128)):
    """A picture with a text in its lowest bits, down the columns."""
    data = gzip.compress(text.encode()) if is_compressed else text.encode()
    signature = f"stealth_{'png' if mode == 'alpha' else 'rgb'}{'comp' if is_compressed else 'info'}".encode()
    bits = np.unpackbits(np.frombuffer(signature + struct.pack(">I", len(data) * 8) + data, np.uint8))
    pixels = np.random.default_rng(0).integers(0, 255, (*size, 4), np.uint8)
    channels = (3,) if mode == "alpha" else (0, 1, 2)
    flat = pixels[:, :, channels].swapaxes(0, 1).reshape(-1)
    flat[: len(bits)] = flat[: len(bits)] & 0xFE | bits
    pixels[:, :, channels] = flat.reshape(size[1], size[0], len(channels)).swapaxes(0, 1)
    return Image.fromarray(pixels) if mode == "alpha" else Image.fromarray(pixels[:, :, :3])


@pytest.mark.parametrize("mode", ["alpha", "rgb"])
@pytest.mark.parametrize("is_compressed", [True, False])
@pytest.mark.parametrize("suffix", ["png", "webp"])
def test_stealth(tmp_path, mode, is_compressed, suffix):
    options = {"lossless": True, "exact": True} if suffix == "webp" else {}
    hidden(mode, is_compressed, CHINESE).save(tmp_path / f"a.{suffix}", **options)
    assert parameters(tmp_path / f"a.{suffix}").prompt == "猫，微笑"


def test_stealth_of_novelai_and_damaged_ones(tmp_path):
    comment = {"steps": 6, "scale": 5, "uc": "bad", "seed": 3, "sampler": "k_euler", "width": 64, "height": 64}
    told = {"Software": "NovelAI", "Source": "NovelAI V4", "Description": "cat", "Comment": json.dumps(comment)}
    hidden("alpha", True, json.dumps(told)).save(tmp_path / "a.png")
    assert (parameters(tmp_path / "a.png").program, parameters(tmp_path / "a.png").seed) == ("NovelAI", 3)
    picture = np.array(hidden("alpha", True, CHINESE))
    picture[40:, 1:3, 3] ^= 1  # within the compressed text
    Image.fromarray(picture).save(tmp_path / "b.png")
    assert parameters(tmp_path / "b.png") is None
    picture = np.array(hidden("alpha", False, CHINESE))[:30, :6]  # cut: the signature is gone
    Image.fromarray(picture).save(tmp_path / "c.png")
    assert parameters(tmp_path / "c.png") is None
    bomb = zlib.compress(bytes(32 << 20), 9)
    image = hidden("alpha", True, "x", (1024, 1024))
    pixels = np.array(image)
    bits = np.unpackbits(np.frombuffer(b"stealth_pngcomp" + struct.pack(">I", len(bomb) * 8) + bomb, np.uint8))
    flat = pixels[:, :, 3].T.reshape(-1).copy()
    flat[: len(bits)] = flat[: len(bits)] & 0xFE | bits
    pixels[:, :, 3] = flat.reshape(1024, 1024).T
    Image.fromarray(pixels).save(tmp_path / "d.png", compress_level=0)
    assert parameters(tmp_path / "d.png") is None


NOVEL = json.dumps({"prompt": "猫", "steps": 6, "uc": "手", "seed": 7, "sampler": "k_euler", "width": 64, "height": 48})
GENERATED = {
    "ComfyUI": {"prompt": json.dumps(GRAPH), "workflow": '{"nodes": []}'},
    "InvokeAI": {"invokeai_metadata": json.dumps({"positive_prompt": "猫", "seed": 7, "steps": 6})},
    "NovelAI": {"Comment": NOVEL, "Software": "NovelAI", "Source": "V3", "Description": "猫", "Title": "AI"},
    "Easy Diffusion": {"prompt": "cat", "use_stable_diffusion_model": "emoji", "seed": "7", "width": "64"},
}


@pytest.mark.parametrize("program", GENERATED)
def test_texts_of_other_generators_survive_in_png_and_are_missed_elsewhere(tmp_path, program):
    """IOPaint #299, InvokeAI #6291: they were gone after any work on the picture, without a word."""
    info = PngImagePlugin.PngInfo()
    for keyword, text in GENERATED[program].items():
        info.add_itxt(keyword, text)
    Image.new("RGB", (64, 48)).save(tmp_path / "a.png", pnginfo=info)
    before = parameters(tmp_path / "a.png")
    assert (before.program, before.seed) == (program, 7)
    assert save(Picture.open(tmp_path / "a.png"), tmp_path / "b.png", format="png") == ()
    assert parameters(tmp_path / "b.png") == before
    with Image.open(tmp_path / "b.png") as image:
        assert {keyword: image.text.get(keyword) for keyword in GENERATED[program]} == GENERATED[program]
    for format in ("jpeg", "webp", "tiff", "bmp"):
        (note,) = save(Picture.open(tmp_path / "a.png"), tmp_path / "c", format=format)
        assert "generation parameters" in note and "left out" in note


def test_texts_in_exif_too_are_not_missed(tmp_path):
    root = {272: f"prompt:{json.dumps(GRAPH)}\0".encode()}
    Image.new("RGB", (64, 48)).save(tmp_path / "a.webp", exif=block(b"", root=root))
    assert save(Picture.open(tmp_path / "a.webp"), tmp_path / "b.jpg", format="jpeg") == ()
    assert parameters(tmp_path / "b.jpg").seed == 7
    save(Picture.open(tmp_path / "a.webp"), tmp_path / "b.png", format="png")
    assert json.loads(Image.open(tmp_path / "b.png").text["prompt"]) == GRAPH


def test_words_of_a_photo_are_no_texts_of_a_generator(tmp_path):
    info = PngImagePlugin.PngInfo()
    for keyword in ("Title", "Software", "Source", "Description", "Comment"):
        info.add_text(keyword, f"a {keyword}")
    Image.new("RGB", (64, 48)).save(tmp_path / "a.png", pnginfo=info)
    assert save(Picture.open(tmp_path / "a.png"), tmp_path / "b.jpg", format="jpeg") == ()
    save(Picture.open(tmp_path / "a.png"), tmp_path / "b.png", format="png")
    assert Image.open(tmp_path / "b.png").text.keys() & {"Title", "Software", "Source"} == set()
