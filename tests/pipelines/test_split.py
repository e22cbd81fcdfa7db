"""Cutting photos out of scans, from the command line to files."""

import json

import numpy as np
import pytest
import tifffile
from PIL import ExifTags, Image, ImageCms

from calotype.cli import main
from calotype.errors import PictureError
from calotype.ops.scan import Scan, ScannedPhoto
from calotype.picture import Picture, read_record
from calotype.picture.metadata.positions import SUBJECT_AREA
from calotype.record import Record, Result
from calotype.tasks import Note, Split
from tests.scans import LIDS, Drawn, drawn_scan, pictures

THREE = [
    Drawn(ScannedPhoto((200, 220), (250, 250), 7), 0),
    Drawn(ScannedPhoto((430, 250), (200, 170), -4), 1),
    Drawn(ScannedPhoto((300, 560), (240, 360), 2), 2, border=12),
]
SIZE = (750, 560)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A scan of three photos, a blank one, and a picture that fills its scan."""
    path = tmp_path_factory.mktemp("scans")
    scan = Image.fromarray(drawn_scan(SIZE, LIDS["white"], THREE))
    scan.save(path / "three.png", dpi=(300, 300))
    Image.fromarray(drawn_scan(SIZE, LIDS["white"], [])).save(path / "blank.png")
    Image.fromarray(pictures()[1]).save(path / "cat.jpg", quality=90)
    return path


def run(engine, source, **options):
    steps = list(engine.run(Split(source=source, **options)))
    notes = [step.text for step in steps if isinstance(step, Note)]
    return [step for step in steps if isinstance(step, Result)], notes


def test_each_photo_is_a_result_in_reading_order(engine, folder):
    results, notes = run(engine, folder / "three.png")
    assert notes == ["3 photos were found"]
    assert [result.record.options["photo"] for result in results] == [1, 2, 3]
    for result, drawn in zip(results, THREE, strict=True):
        assert result.picture.pixels.shape[:2] == pytest.approx(drawn.photo.size, abs=3)
        assert result.record.computed["turned"] == pytest.approx(drawn.photo.angle, abs=0.3)


def test_the_command_writes_resumes_and_reproduces(folder, tmp_path, capsys):
    out = tmp_path / "out"
    command = ["split", str(folder), "-o", str(out), "--report", str(tmp_path / "report.html"), "--compare"]
    assert main(command) == 1  # the blank one
    names = {path.name for path in out.iterdir() if "compare" not in path.name}
    photos = {f"three-0{n}.png" for n in (1, 2, 3)} | {"cat-01.jpg"}
    assert names == photos | {f"{name}.json" for name in photos}
    before = {path: path.stat().st_mtime_ns for path in out.iterdir()}
    said = capsys.readouterr().err
    assert "there is no photo on" in said
    assert "one picture fills the scan" in said
    assert main([*command, "--json"]) == 1
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len([event for event in events if event["event"] == "skipped"]) == 4
    assert {path: path.stat().st_mtime_ns for path in out.iterdir()} == before
    for name in ("three-02.png", "three-02-compare.jpg"):
        (out / name).unlink()
    assert main(command) == 1
    assert (out / "three-02.png").exists()
    assert (out / "three-01.png").stat().st_mtime_ns == before[out / "three-01.png"]
    for name in sorted(photos):
        assert main(["again", str(out / f"{name}.json"), "-o", str(tmp_path / f"again-{name}")]) == 0
    assert capsys.readouterr().out.count("the same to the last byte") == 4


@pytest.mark.parametrize("name, orientation", [("three.png", 1), ("three.jpg", 1), ("three.png", 3)])
def test_rows_that_are_missing_are_no_lid(engine, folder, tmp_path, name, orientation):
    """Of the lower photo, the part that is left is cut out; so it is where the file is to be turned upside down."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    with Image.open(folder / "three.png") as scan:
        scan.save(tmp_path / name, quality=95, exif=exif)
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[: len(content) * 4 // 5])
    results, notes = run(engine, tmp_path / name, damaged_file=True)
    assert "3 photos were found" in notes
    heights = sorted(result.picture.pixels.shape[0] for result in results)
    assert heights[1:] == pytest.approx([200, 250], abs=4) and 80 < heights[0] < 196


def test_a_picture_that_fills_its_scan_is_copied_byte_for_byte(folder, tmp_path):
    assert main(["split", str(folder / "cat.jpg"), "-o", str(tmp_path)]) == 0
    assert (tmp_path / "cat-01.jpg").read_bytes() == (folder / "cat.jpg").read_bytes()


def test_a_page_that_is_one_picture_is_no_copy_of_all_pages(folder, tmp_path):
    pages = [Image.fromarray(picture) for picture in pictures()[:2]]
    pages[0].save(tmp_path / "pages.tif", save_all=True, append_images=pages[1:])
    assert main(["split", str(tmp_path / "pages.tif"), "--pages", "all", "-o", str(tmp_path / "out")]) == 0
    written = sorted((tmp_path / "out").glob("*.tif"))
    assert [(Image.open(path).n_frames, Image.open(path).size) for path in written] == [
        (1, page.size) for page in pages
    ]


def test_without_a_sidecar_the_result_has_its_record_in_itself(folder, tmp_path):
    assert main(["split", str(folder / "cat.jpg"), "--no-sidecar", "-o", str(tmp_path)]) == 0
    assert Record.from_json(read_record(tmp_path / "cat-01.jpg")).task == "split"


def test_the_plan_writes_nothing(folder, tmp_path, capsys):
    assert main(["split", str(folder / "three.png"), "-o", str(tmp_path / "out"), "--plan"]) == 0
    assert "photo 3: 360 × 240 pixels at" in capsys.readouterr().err
    assert not list(tmp_path.glob("out/*"))


def test_no_zero_has_a_sign(engine, folder, monkeypatch):
    photo = ScannedPhoto((159.98, 99.98), (200, 320), -0.001)  # its corners come near (0, 0) from both sides
    monkeypatch.setattr("calotype.ops.scan.find_photos", lambda pixels: Scan((photo,), (1.0, 1.0, 1.0)))
    _, notes = run(engine, folder / "three.png", dry_run=True)
    assert notes[1] == "photo 1: 320 × 200 pixels at 0, 0, turned by 0.0°"
    [result], _ = run(engine, folder / "three.png", upright=False)
    assert result.record.computed["turned"] == 0 and "-0.0" not in result.record.as_json()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["three.png", "-o", "one.png"], "names one file, and a scan may hold several photos"),
        (["three.png", "-o", "out", "--photo", "4"], "has 3 photos, no photo 4"),
        (["blank.png", "-o", "out"], "there is no photo on"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(folder, tmp_path, capsys, options, sentence):
    name, flag, out, *rest = options
    assert main(["split", str(folder / name), flag, str(tmp_path / out), *rest]) in (1, 2)
    (line,) = capsys.readouterr().err.splitlines()
    assert sentence in line


def test_one_photo_may_be_written_to_a_file(folder, tmp_path):
    assert main(["split", str(folder / "three.png"), "--photo", "2", "-o", str(tmp_path / "second.png")]) == 0
    assert Picture.open(tmp_path / "second.png").pixels.shape[:2] == pytest.approx((200, 170), abs=3)


def test_a_scan_of_the_run_is_never_overwritten(folder, tmp_path, capsys):
    """Not even where its name is that of a result, with --overwrite."""
    for name in ("three.png", "three-02.png"):
        (tmp_path / name).write_bytes((folder / "three.png").read_bytes())
    scans = [str(tmp_path / name) for name in ("three.png", "three-02.png")]
    assert main(["split", *scans, "-o", str(tmp_path), "--overwrite"]) == 1
    assert "would overwrite three-02.png" in capsys.readouterr().err
    assert (tmp_path / "three-02.png").read_bytes() == (folder / "three.png").read_bytes()
    assert {path.name for path in tmp_path.glob("*.png")} >= {"three-01.png", "three-02-01.png", "three-02-03.png"}


def test_faces_come_out_upright(engine, tmp_path):
    scan = np.full((700, 1250, 3), 250, np.uint8)
    scan[90:602, 60:572] = np.rot90(pictures()[0])
    scan[100:500, 620:1220] = pictures()[2]  # a cup, without a face
    Image.fromarray(scan).save(tmp_path / "turned.png", dpi=(300, 150))
    (portrait, cup), _ = run(engine, tmp_path / "turned.png")
    np.testing.assert_array_equal(portrait.picture.pixels, pictures()[0])
    assert portrait.record.computed["turned"] == -90
    assert portrait.picture.metadata.dpi == pytest.approx((150, 300), abs=0.1)
    np.testing.assert_array_equal(cup.picture.pixels, pictures()[2])
    (portrait, _), _ = run(engine, tmp_path / "turned.png", upright=False)
    np.testing.assert_array_equal(portrait.picture.pixels, np.rot90(pictures()[0]))


def test_16_bits_profile_and_resolution_are_kept(folder, tmp_path):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    deep = drawn_scan(SIZE, LIDS["black"], THREE).astype(np.uint16) * 257
    tifffile.imwrite(
        tmp_path / "deep.tif", deep, photometric="rgb", resolution=(600, 600), resolutionunit=2, iccprofile=profile
    )
    assert main(["split", str(tmp_path / "deep.tif"), "-o", str(tmp_path / "out")]) == 0
    written = Picture.open(tmp_path / "out" / "deep-01.tif")
    assert written.pixels.dtype == np.uint16
    assert len(np.unique(written.pixels)) > 1000  # between the 256 that were there
    assert written.metadata.icc == profile
    assert written.metadata.dpi == (600, 600)


def test_transparency_is_cut_with_the_photo(engine, tmp_path):
    scan = np.dstack([drawn_scan(SIZE, LIDS["white"], THREE), np.full(SIZE, 255, np.uint8)])
    scan[200:240, 180:220, 3] = 0
    Image.fromarray(scan, "RGBA").save(tmp_path / "clear.png")
    results, _ = run(engine, tmp_path / "clear.png")
    assert results[0].picture.alpha.min() == 0
    assert results[1].picture.alpha.min() == 255


def test_a_border_is_cut_only_where_asked(engine, folder):
    kept, cut = (run(engine, folder / "three.png", photo=3, cut_borders=asked)[0][0] for asked in (False, True))
    assert kept.picture.pixels.shape[:2] == pytest.approx((240, 360), abs=3)
    assert cut.picture.pixels.shape[:2] == pytest.approx((216, 336), abs=6)


def test_a_place_on_the_scan_is_no_place_on_a_photo(tmp_path):
    """Even where a photo has the proportions of the scan."""
    exif = Image.Exif()
    exif[ExifTags.Base.Model] = "Perfection V600"
    exif.get_ifd(ExifTags.IFD.Exif)[SUBJECT_AREA] = (200, 220, 50, 50)
    drawn = [Drawn(ScannedPhoto((280, 375), (375, 280), 3), 0)]
    Image.fromarray(drawn_scan(SIZE, LIDS["blue"], drawn)).save(tmp_path / "scan.jpg", exif=exif)
    assert main(["split", str(tmp_path / "scan.jpg"), "-o", str(tmp_path / "out")]) == 0
    kept = Image.open(tmp_path / "out" / "scan-01.jpg").getexif()
    assert kept[ExifTags.Base.Model] == "Perfection V600"
    assert SUBJECT_AREA not in kept.get_ifd(ExifTags.IFD.Exif)


def test_a_photo_beyond_the_edge_is_said(engine, tmp_path):
    drawn = [Drawn(ScannedPhoto((120, 300), (300, 260), 5), 0)]
    Image.fromarray(drawn_scan(SIZE, LIDS["black"], drawn)).save(tmp_path / "beyond.png")
    _, notes = run(engine, tmp_path / "beyond.png")
    assert "photo 1 goes beyond the edge of the scan, so a part of it is missing" in notes


def test_a_blank_scan_fails_as_a_picture(engine, folder):
    with pytest.raises(PictureError, match="only the lid"):
        run(engine, folder / "blank.png")
