"""Colouring photos, from the command line to files."""

import shutil

import cv2
import numpy as np
import pytest
from PIL import Image, ImageCms
from skimage import data

from calotype.cli import main
from calotype.ops.colorize import chroma_of, grey_values
from calotype.picture import Picture, read_record

SUIT = np.s_[150:170, 80:110]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A grey portrait in 8 and 16 bits, with and without transparency, strokes for it, and a reference."""
    monkeypatch.chdir(tmp_path)
    colours = cv2.resize(data.astronaut(), (256, 256), interpolation=cv2.INTER_AREA)
    grey = grey_values(colours)
    Image.fromarray(grey).save("grey.png", dpi=(300, 300))
    cv2.imwrite("deep.png", grey.astype(np.uint16) * 257 + 77)
    Image.fromarray(np.clip(grey[..., None] * [1.05, 0.95, 0.76], 0, 255).astype(np.uint8)).save("sepia.png")
    clear = np.full((256, 256), 255, np.uint8)
    clear[:20] = 0
    Image.fromarray(np.dstack([grey, grey, grey, clear]), "RGBA").save("clear.png")
    layer = np.zeros((256, 256, 4), np.uint8)
    cv2.polylines(layer, [np.int32([(100, 165), (80, 200), (130, 210)])], False, (230, 110, 60, 255), 4)
    Image.fromarray(layer, "RGBA").save("strokes.png")
    Image.fromarray(colours[:, ::-1]).save("reference.jpg", quality=95)
    Image.fromarray(colours).save("colours.png")
    return tmp_path


@pytest.mark.parametrize("name", ["grey.png", "deep.png", "sepia.png", "clear.png"])
def test_strokes_colour_a_photo_and_its_lightness_stays(folder, name):
    assert main(["colour", name, "--hints", "strokes.png", "-o", "out"]) == 0
    before, after = Picture.open(folder / name), Picture.open(folder / "out" / name)
    assert after.pixels.dtype == before.pixels.dtype
    np.testing.assert_array_equal(grey_values(after.pixels), grey_values(before.pixels))
    blue, red = chroma_of(after.pixels[SUIT]).reshape(-1, 2).mean(0)
    assert red > 0.15 > -0.05 > blue
    if before.alpha is not None:
        np.testing.assert_array_equal(after.alpha, before.alpha)
    assert after.metadata.dpi == before.metadata.dpi


def test_a_reference_colours_a_photo(folder):
    assert main(["colour", "grey.png", "--reference", "reference.jpg", "-o", "out"]) == 0
    before, after = Picture.open(folder / "grey.png"), Picture.open(folder / "out" / "grey.png")
    np.testing.assert_array_equal(grey_values(after.pixels), before.pixels[..., 0])
    wanted = chroma_of(Picture.open(folder / "colours.png").pixels)
    assert np.abs(chroma_of(after.pixels) - wanted).mean() < 0.5 * np.abs(wanted).mean()


def test_strokes_count_before_the_reference(folder):
    Image.fromarray(np.asarray(Image.open("strokes.png"))[..., [2, 1, 0, 3]], "RGBA").save("blue.png")  # not orange
    assert main(["colour", "grey.png", "--hints", "blue.png", "--reference", "reference.jpg", "-o", "both.png"]) == 0
    blue, red = chroma_of(Picture.open(folder / "both.png").pixels[178:182, 90:94]).reshape(-1, 2).mean(0)
    assert blue > 0.1 > red


def test_the_record_says_so_and_the_result_is_made_again(folder, capsys):
    assert main(["colour", "grey.png", "--hints", str(folder / "strokes.png"), "-o", "out"]) == 0
    assert '"task":"colour"' in read_record(folder / "out" / "grey.png")
    capsys.readouterr()
    assert main(["again", "out/grey.png", "-o", "again.png"]) == 0
    assert "the same to the last byte" in capsys.readouterr().out
    shutil.move("strokes.png", "out/strokes.png")
    assert main(["again", "out/grey.png", "-o", "again-2.png"]) == 0
    (folder / "out" / "strokes.png").write_bytes((folder / "grey.png").read_bytes())
    assert main(["again", "out/grey.png", "-o", "again-3.png"]) == 2
    assert "strokes.png, which gave the colours, is missing or has changed" in capsys.readouterr().err


def test_a_run_resumes_unless_the_strokes_changed(folder, capsys):
    command = ["colour", "grey.png", "--hints", "strokes.png", "-o", "out"]
    assert main(command) == 0
    assert main(command) == 0
    assert "done already" in capsys.readouterr().err
    assert main([*command[:3], str(folder / "strokes.png"), *command[4:]]) == 0  # the same file
    strokes = np.array(Image.open("strokes.png"))
    strokes[..., :3] = strokes[..., [2, 1, 0]]
    Image.fromarray(strokes, "RGBA").save("strokes.png")
    assert main(command) == 1
    assert "was made with other options" in capsys.readouterr().err
    assert main([*command, "--overwrite"]) == 0


def test_an_album_is_coloured_by_one_reference(folder):
    (folder / "album").mkdir()
    for name in ("a.png", "b.png"):
        shutil.copy("grey.png", folder / "album" / name)
    assert main(["colour", "album", "--reference", "reference.jpg", "-o", "out", "--report", "report.html"]) == 0
    assert {path.name for path in (folder / "out").glob("*.png")} == {"a.png", "b.png"}
    assert (folder / "report.html").exists()


def test_a_grey_profile_becomes_srgb(folder, capsys):
    grey = ImageCms.createProfile("sRGB")  # any bytes of a grey profile will do; Pillow makes none
    Image.open("grey.png").save("profile.png", icc_profile=_grey_profile(ImageCms.ImageCmsProfile(grey).tobytes()))
    assert main(["colour", "profile.png", "--hints", "strokes.png", "-o", "out"]) == 0
    after = Picture.open(folder / "out" / "profile.png")
    assert after.metadata.icc[16:20] == b"RGB "
    assert "another tone curve than sRGB" in capsys.readouterr().err
    assert main(["colour", "profile.png", "--reference", "deep.png", "-o", "out"]) == 1
    assert "tone curve" not in capsys.readouterr().err  # no note before what the run is refused for


def test_a_grey_photo_with_an_srgb_profile_keeps_its_values(folder, capsys):
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    grey = Image.open("grey.png")
    grey.save("profile.png", icc_profile=srgb)
    assert main(["colour", "profile.png", "--hints", "strokes.png", "-o", "out"]) == 0
    after = Picture.open(folder / "out" / "profile.png")
    assert after.metadata.icc[16:20] == b"RGB "
    assert np.array_equal(grey_values(after.pixels), np.asarray(grey))
    assert "profile" not in capsys.readouterr().err.replace("profile.png", "")


def _grey_profile(rgb: bytes) -> bytes:
    """A minimal grey profile of gamma 2.2, with the header of another."""
    curve = b"curv" + bytes(4) + (1).to_bytes(4, "big") + round(2.2 * 256).to_bytes(2, "big") + bytes(2)
    white = b"XYZ " + bytes(4) + b"".join(n.to_bytes(4, "big") for n in (63190, 65536, 54061))
    tags = (b"wtpt", white), (b"kTRC", curve)
    start, table, body = 128 + 4 + 12 * len(tags), b"", b""
    for name, content in tags:
        table += name + (start + len(body)).to_bytes(4, "big") + len(content).to_bytes(4, "big")
        body += content
    whole = len(tags).to_bytes(4, "big") + table + body
    return (128 + len(whole)).to_bytes(4, "big") + rgb[4:16] + b"GRAY" + rgb[20:128] + whole


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["grey.png"], "colours come from --hints or --reference"),
        (["colours.png", "--hints", "strokes.png"], "is in colour already"),
        (["grey.png", "--hints", "missing.png"], "does not exist"),
        (["grey.png", "--hints", "grey.png"], "there is no stroke of colour"),
        (["grey.png", "--hints", "small.png"], "has 100 × 80 pixels"),
        (["grey.png", "--reference", "deep.png"], "grey.png: the reference deep.png has no colours"),
        (["grey.png", "--hints", "text.jpg"], "grey.png: --hints: text.jpg is text, not a picture"),
        (["grey.png", "--reference", "text.jpg"], "grey.png: --reference: text.jpg is text, not a picture"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(folder, capsys, options, sentence):
    Image.new("RGBA", (100, 80), (200, 0, 0, 255)).save("small.png")
    (folder / "text.jpg").write_bytes(b"no picture")
    assert main(["colour", *options, "-o", "out"]) in (1, 2)
    (line,) = capsys.readouterr().err.splitlines()
    assert sentence in line
