"""One list of suffixes: what `restore` finds in a folder, every trainer and the caption task find and read too."""

import io
import struct
import tarfile
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import torch
from PIL import Image

from calotype.errors import CalotypeError
from calotype.outputs.inputs import plan
from calotype.outputs.names import FORMATS, ending, format_of
from calotype.picture import Picture, save
from calotype.picture.codecs.formats import KNOWN, SOURCES
from calotype.suffixes import DOCUMENTS, REPLACED, SUFFIXES
from calotype.tasks import Caption
from calotype.tasks.events import Saved
from calotype.tasks.output import Album
from calotype.training.data import captioned, dataset, faces, patches, squares
from calotype.training.data.inspect import image_stats
from tests.picture import more_formats

SIDE, MAX_PIXELS = 64, 10**6
LIMITS = {"free": 1 << 30, "max_pixels": MAX_PIXELS}


def pixels(seed):
    small = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), np.uint8)
    return small.repeat(SIDE // 4, 0).repeat(SIDE // 4, 1)


def pillow(samples, format, **options):
    out = io.BytesIO()
    Image.fromarray(samples).save(out, format, **options)
    return out.getvalue()


def linear(samples):
    return np.where(samples <= 10, samples / 255 / 12.92, ((samples / 255 + 0.055) / 1.055) ** 2.4)


def dcx(samples):
    return struct.pack("<4I", 0x3ADE68B1, 12, 0, 0)[:12] + pillow(samples, "pcx")


WRITERS = {  # of formats that are only read
    "jp2": lambda samples: imagecodecs.jpeg2k_encode(samples, level=0, reversible=True),
    "psd": more_formats.psd,
    "tga": lambda samples: pillow(samples, "tga"),
    "pcx": lambda samples: pillow(samples, "pcx"),
    "dcx": dcx,
    "pnm": lambda samples: b"P6 %d %d 255\n" % samples.shape[1::-1] + samples.tobytes(),
    "qoi": imagecodecs.qoi_encode,
    "ico": lambda samples: pillow(samples, "ico", sizes=[samples.shape[:2]]),
    "raw": lambda samples: more_formats.dng(linear(samples)),
}


def write(path, seed=0):
    """Of several frames where the suffix promises them; the first one is the picture."""
    frames = [Image.fromarray(pixels(seed)), Image.fromarray(pixels(seed + 100))]
    suffix = path.suffix.lower()
    kind = {".gif": "GIF", ".apng": "PNG", ".mpo": "MPO"}.get(suffix)
    if writer := WRITERS.get(SUFFIXES[suffix]):
        path.write_bytes(writer(pixels(seed)))
    elif kind:
        frames[0].save(path, kind, save_all=True, append_images=frames[1:])
    else:
        save(Picture(pixels(seed)), path, format=SUFFIXES[path.suffix.lower()])
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """One picture for each suffix, some in capitals as cameras write them."""
    pytest.importorskip("rawpy")
    folder = tmp_path_factory.mktemp("photos") / "10_cat"
    folder.mkdir()
    for n, suffix in enumerate(SUFFIXES):
        write(folder / f"p{n:02d}{suffix.upper() if n % 3 == 0 else suffix}", n)
    return folder


@pytest.fixture
def paths(folder):
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)


def only(steps, kind):
    return [step for step in steps if isinstance(step, kind)]


def test_the_list_is_of_formats_that_are_known_and_results_have_one_of_its_suffixes():
    readable = {source.name for source in SOURCES}
    assert set(SUFFIXES.values()) | set(DOCUMENTS.values()) == readable and readable > KNOWN.keys()
    assert FORMATS.keys() | REPLACED.keys() == SUFFIXES.keys() and set(REPLACED.values()) <= FORMATS.keys()
    assert [ending(Path("a.x"), format) for format in KNOWN] == [
        ".jpg",
        ".png",
        ".webp",
        ".tif",
        ".bmp",
        ".avif",
        ".heic",
        ".jxl",
    ]
    assert all(format_of(Path("a" + ending(Path("a" + suffix), "auto"))) for suffix in SUFFIXES)


def test_every_suffix_opens_as_its_first_frame(paths):
    assert len(paths) == len(SUFFIXES)
    for n, path in enumerate(paths):
        opened = Picture.open(path).pixels
        opened = opened // 257 if opened.itemsize > 1 else opened
        difference = np.abs(opened.astype(int) - pixels(n)).mean()
        assert difference < 12, path.name  # JPEG at worst; the second frame is 80 away


def test_restoring_finds_them(folder, paths, tmp_path):
    items = plan([folder], Album(out=tmp_path / "out")).items
    assert {item.source for item in items} == set(paths) and not any(item.fault for item in items)


def test_lora_training_finds_and_inspects_them(folder, paths):
    found = dataset.find_photos(folder.parent)
    assert [photo.path for photo in found.photos] == paths and {photo.repeats for photo in found.photos} == {10}
    for path in paths:
        assert image_stats(path, SIDE, MAX_PIXELS).size == (SIDE, SIDE)


def test_gan_training_reads_them(folder, paths):
    *_, images = squares.of_folder(folder, SIDE, **LIMITS)
    expected = [captioned.squared(Picture.open(path), SIDE) for path in paths]
    assert torch.equal(images.pictures, torch.stack(expected))


def test_upscaler_training_reads_them(folder, paths):
    found = only(patches.open_images(folder, MAX_PIXELS), patches.HighRes)
    assert [picture.path for picture in found] == paths
    assert all(np.array_equal(picture.pixels, Picture.open(picture.path).pixels) for picture in found)


def test_face_training_reads_them(folder, paths):
    class NoDetector:
        def find(self, _):
            return []

    found = only(faces.faces_in(folder, SIDE, True, NoDetector(), None, MAX_PIXELS), faces.Face)
    assert [face.name for face in found] == [path.stem for path in paths]


def test_diffusion_training_reads_them_from_a_folder_and_from_a_tar(folder, paths, tmp_path):
    with tarfile.open(tmp_path / "set.tar", "w") as tar:
        for path in paths:
            tar.add(path, f"10_cat/{path.name}")
            info = tarfile.TarInfo(f"10_cat/{path.stem}.txt")
            info.size = 3
            tar.addfile(info, io.BytesIO(b"cat"))
    *_, packed = captioned.read_pairs(tmp_path / "set.tar", SIDE)
    *_, loose = captioned.read_pairs(folder.parent, SIDE)
    assert len(packed.pairs) == len(loose.pairs) == len(SUFFIXES)
    assert torch.equal(packed.pixels, loose.pixels)


def test_captions_are_written_for_them_and_never_over_them(engine, folder, paths, tmp_path):
    steps = list(engine.run(Caption(photos=folder.parent, trigger="tom", out=tmp_path)))
    assert {step.source for step in only(steps, Saved)} == {str(path) for path in paths}
    for suffix in SUFFIXES:
        with pytest.raises(CalotypeError, match="is the extension of a picture"):
            Caption(photos=folder, caption_extension=suffix)


def test_the_film_of_a_run_is_a_result_and_not_learnt_from(tmp_path):
    write(tmp_path / "mine.gif")
    write(tmp_path / "cat.gif")
    (tmp_path / "mine.log.jsonl").touch()
    found, note = dataset.pictures_below(tmp_path)
    assert [path.name for path in found] == ["cat.gif"] and "1 drawn during training" in str(note)
