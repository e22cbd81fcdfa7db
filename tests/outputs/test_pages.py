"""Files that hold several pictures: each chosen one is a result of its own, and a note says what was left out."""

import io
from pathlib import Path

import imagecodecs
import numpy as np
import pillow_heif
import pytest
import tifffile
from PIL import Image

from calotype.errors import CalotypeError
from calotype.outputs.describe import describe_picture
from calotype.outputs.inputs import plan
from calotype.outputs.reproduce import reproduction
from calotype.outputs.sidecar import read_stored
from calotype.picture import Picture, pages_of
from calotype.runner import Request, again, run
from calotype.tasks import Upscale, read_task
from calotype.tasks.events import Compared, Note, Saved, Skipped
from calotype.tasks.output import Album, chosen_pages, missing_pages

COLOURS = ((200, 20, 40), (30, 190, 60), (40, 50, 210))
PAGES = [np.full((24, 32, 3), colour, np.uint8) for colour in COLOURS]


def several(kind):
    """A file of three pictures."""
    out, images = io.BytesIO(), [Image.fromarray(page) for page in PAGES]
    if kind == "tiff":
        tifffile.imwrite(out, np.stack(PAGES), photometric="rgb")
    elif kind == "jxl":
        return imagecodecs.jpegxl_encode(np.stack(PAGES), photometric="rgb")
    elif kind == "pnm":
        return b"".join(b"P6 32 24 255\n" + page.tobytes() for page in PAGES)
    elif kind == "heic":
        file = pillow_heif.HeifFile()
        for image in images:
            file.add_from_pillow(image)
        file.save(out, quality=90)
    elif kind == "ico":
        sizes = [(image.width * n // 2, image.height * n // 2) for n, image in enumerate(images, 2)]
        images[2].resize(sizes[2]).save(out, kind, sizes=sizes)
    else:
        options = {"lossless": True} if kind == "webp" else {}
        images[0].save(out, kind, save_all=True, append_images=images[1:], **options)
    return out.getvalue()


@pytest.mark.parametrize("kind", ["tiff", "gif", "webp", "png", "avif", "heic", "mpo", "pnm", "jxl", "pdf"])
def test_each_picture_of_a_file_opens_by_its_number(tmp_path, kind):
    if kind == "pdf":
        pytest.importorskip("pypdfium2")
    path = tmp_path / "scan"
    path.write_bytes(several(kind))
    assert pages_of(path, 1 << 30) == 3
    for number, page in enumerate(PAGES, 1):
        picture = Picture.open(path, page=number)
        assert np.abs(picture.pixels.astype(int) - page).max() <= 4 and picture.count == 3
        assert not [note for note in picture.notes if "pictures" in str(note)]
    main = Picture.open(path)
    assert np.abs(main.pixels.astype(int) - PAGES[0]).max() <= 4
    assert str(main.notes[0]) == "it holds 3 pictures; only the first was taken; pages all takes them all"
    with pytest.raises(CalotypeError, match="has no picture 4: it holds 3"):
        Picture.open(path, page=4)


def test_the_primary_picture_of_a_heic_is_the_main_one(tmp_path):
    file = pillow_heif.HeifFile()
    for page in PAGES:
        file.add_from_pillow(Image.fromarray(page))
    file.save(tmp_path / "a.heic", quality=90, primary_index=1)
    picture = Picture.open(tmp_path / "a.heic")
    assert np.abs(picture.pixels.astype(int) - PAGES[1]).max() <= 4
    assert "only the primary one was taken" in str(picture.notes[0])


def test_thumbnails_do_not_count(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        writer.write(PAGES[0][::4, ::4], photometric="rgb", subfiletype=1)
        for page in PAGES[1:]:
            writer.write(page, photometric="rgb")
    assert pages_of(tmp_path / "a.tif", 1 << 30) == 2
    np.testing.assert_array_equal(Picture.open(tmp_path / "a.tif").pixels, PAGES[1])
    np.testing.assert_array_equal(Picture.open(tmp_path / "a.tif", page=2).pixels, PAGES[2])


def test_metadata_are_those_of_the_page(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        for n, page in enumerate(PAGES, 1):
            writer.write(page, photometric="rgb", description=f"page {n}", resolution=(n * 100, n * 100), metadata=None)
    for number in (1, 2, 3):
        metadata = Picture.open(tmp_path / "a.tif", page=number).metadata
        assert metadata.dpi == (number * 100, number * 100) and f"page {number}".encode() in metadata.exif


@pytest.mark.parametrize(
    ("text", "chosen"),
    [
        ("all", [1, 2, 3, 4, 5]),
        ("2", [2]),
        ("1-3,5", [1, 2, 3, 5]),
        (" 4 - , 2", [2, 4, 5]),
        ("3-99", [3, 4, 5]),
        ("9", []),
    ],
)
def test_choosing_pages(text, chosen):
    assert chosen_pages(text, 5) == chosen


@pytest.mark.parametrize(
    ("text", "missing"),
    [("", ""), ("all", ""), ("1-5, 4-", ""), ("1-3,6", "6"), ("9,2-7,8", "6-9"), ("12,1-6", "6, 12"), ("8-,7", "7-")],
)
def test_missing_pages(text, missing):
    assert missing_pages(text, 5) == missing


def test_chosen_pages_that_a_file_does_not_have_are_named(tmp_path):
    (tmp_path / "scan.tif").write_bytes(several("tiff"))
    Image.fromarray(PAGES[0]).save(tmp_path / "photo.jpg")
    planned = plan([tmp_path / "scan.tif"], Album(out=tmp_path / "out", pages="2-3,5,7-9"))
    assert [item.page for item in planned.items] == [2, 3]
    path = tmp_path / "scan.tif"
    assert str(planned.notes[0]) == f"{path} holds 3 pictures, so 5, 7-9 of pages was left out"
    planned = plan([tmp_path], Album(out=tmp_path / "out", pages="1-4"))
    assert [item.page for item in planned.items] == [0, 1, 2, 3]
    assert str(planned.notes[0]) == (
        "2 files hold fewer pictures than pages names: photo.jpg holds 1 picture and not 2-4; "
        "scan.tif holds 3 pictures and not 4"
    )
    assert not plan([tmp_path], Album(out=tmp_path / "out", pages="all")).notes


@pytest.mark.parametrize("text", ["0", "x", "3-1", "-2", "1,,2", "1;2", "٣", "1-2-3", "all,1"])
def test_what_chooses_no_pages_is_refused(text):
    with pytest.raises(CalotypeError, match="all, or numbers such as 1-3,5"):
        Album(pages=text)


def test_results_are_named_by_their_page(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("scan.tif").write_bytes(several("tiff"))
    Path("film.gif").write_bytes(several("gif"))
    Image.fromarray(PAGES[0]).save("photo.jpg")
    names = {
        item.target.name: item.page for item in plan(["scan.tif", "film.gif", "photo.jpg"], Album(pages="1,3")).items
    }
    assert names == {
        **{"scan-p01.tif": 1, "scan-p03.tif": 3, "film-p01.png": 1, "film-p03.png": 3, "photo.jpg": 0},
    }
    items = plan(["scan.tif", "photo.jpg"], Album(pages="2-", suffix="-big")).items
    assert [item.target.name for item in items] == ["scan-p02-big.tif", "scan-p03-big.tif", "photo-big.jpg"]
    assert "photo.jpg holds 1 picture, so it has no picture 2-" in str(items[-1].fault)
    assert [item.target.name for item in plan(["scan.tif"], Album()).items] == ["scan.tif"]


def test_a_pdf_is_read_where_it_is_named(tmp_path):
    (tmp_path / "scan.pdf").write_bytes(several("pdf"))
    Image.fromarray(PAGES[0]).save(tmp_path / "photo.jpg")
    planned = plan([tmp_path], Album(out=tmp_path / "out"))
    assert [item.source.name for item in planned.items] == ["photo.jpg"] and "scan.pdf" in str(planned.notes[0])
    for name in ("scan.pdf", "*.pdf"):
        [item] = plan([tmp_path / name], Album(out=tmp_path / "out")).items
        assert item.target.name == "scan.png" and item.fault is None


def test_with_pages_those_of_a_pdf_in_a_folder_are_taken(tmp_path):
    pytest.importorskip("pypdfium2")
    (tmp_path / "scan.PDF").write_bytes(several("pdf"))
    planned = plan([tmp_path], Album(out=tmp_path / "out", pages="2-"))
    assert [item.target.name for item in planned.items] == ["scan-p02.png", "scan-p03.png"] and not planned.notes


def test_every_page_becomes_a_result_that_is_made_again(tmp_path, engine):
    source, out = tmp_path / "scan.tif", tmp_path / "out"
    source.write_bytes(several("tiff"))
    task = read_task("upscale", {"source": source, "model": "realesr-animevideov3-x2"})
    events = list(run(Request((task,), (source,)), engine, Album(out=out, pages="all")))
    targets = [Path(event.target) for event in events if isinstance(event, Saved)]
    assert [target.name for target in targets] == ["scan-p01.tif", "scan-p02.tif", "scan-p03.tif"]
    assert not any("pictures" in str(event.message) for event in events if isinstance(event, Note))
    for target, page in zip(targets, PAGES, strict=True):
        assert np.abs(Picture.open(target).pixels.mean((0, 1)) - page[0, 0]).max() < 12
    assert read_stored(targets[1]).record.options["page"] == 2
    events = list(run(Request((task,), (source,)), engine, Album(out=out, pages="2-")))
    assert len([event for event in events if isinstance(event, Skipped)]) == 2
    *_, compared = [event for event in again(reproduction(targets[2], {}), engine) if isinstance(event, Compared)]
    assert compared.same


def test_without_pages_a_note_names_the_option(tmp_path, engine):
    source = tmp_path / "scan.tif"
    source.write_bytes(several("tiff"))
    task = read_task("upscale", {"source": source, "model": "realesr-animevideov3-x2"})
    events = list(run(Request((task,), (source,)), engine, Album(out=tmp_path / "out")))
    [note] = [event.message for event in events if isinstance(event, Note)]
    assert note.options == ["pages"] and "it holds 3 pictures; only the first was taken" in str(note)
    assert "page" not in read_stored(tmp_path / "out/scan.tif").record.options  # as records of earlier versions
    assert Upscale(source=source).page == 0


def test_info_counts_the_pictures(tmp_path):
    (tmp_path / "scan.tif").write_bytes(several("tiff"))
    facts = describe_picture(tmp_path / "scan.tif", 1 << 30)
    assert facts["pictures"] == 3 and "only the first was taken" in facts["notes"]
