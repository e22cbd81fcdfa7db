"""The picture of what is invented in a face."""

import numpy as np
import pytest
import torch
from PIL import Image

from calotype.cli import main
from calotype.inference.uncertainty import as_heat, deviations
from calotype.tasks import Restore

PLAIN = ["--upscaler", "none", "--scale", "1"]


@pytest.fixture
def crop(portrait):
    return np.ascontiguousarray(portrait[20:276, 96:352])


def test_what_follows_the_photo_deviates_less_than_what_is_invented(crop):
    generator = torch.Generator().manual_seed(0)

    def follows(crops):
        return [torch.from_numpy(c).permute(2, 0, 1).float() / 255 for c in crops]

    def invents(crops):
        drawn = [c.clone() for c in follows(crops)]
        for picture in drawn:
            picture[:, 100:140] += 0.2 * torch.randn(1, 40, 256, generator=generator)
        return drawn

    quiet, loud = deviations(crop, follows), deviations(crop, invents)
    assert quiet.shape == (256, 256) and np.median(quiet) < 0.012  # but at edges: the noise alone
    assert loud[105:135].mean() > 4 * quiet[105:135].mean()
    np.testing.assert_allclose(loud[:90], quiet[:90], atol=1e-4)
    assert np.array_equal(quiet, deviations(crop, follows))


def test_deviations_are_colours_over_dim_grey(crop):
    deviation = np.zeros(crop.shape[:2], np.float32)
    deviation[:50] = 1
    heat = as_heat(crop, deviation).astype(int)
    assert (heat[50:] == heat[50:, :, :1]).all() and heat[50:].max() < 128
    assert (heat[:50, :, 0] > 240).all() and (heat[:50, :, 2] < heat[:50, :, 0]).all()


def test_a_restored_face_is_shown_and_the_result_stays(engine, old_photo):
    def run(**options):
        return list(engine.run(Restore(source=old_photo, upscaler="none", scale=1, **options)))[-1]

    plain, asked = run(), run(has_uncertainty=True)
    assert np.array_equal(plain.picture.pixels, asked.picture.pixels) and plain.record == asked.record
    shown = asked.uncertainty.astype(int)
    assert plain.uncertainty is None and shown.shape == (256, 256, 3)
    colour = shown.max(2) - shown.min(2)
    (face,) = asked.record.faces
    eyes = [colour[round(y) - 2 : round(y) + 3, round(x) - 3 : round(x) + 4].max() for x, y in face.landmarks[:2]]
    x, y, width, height = map(round, face.box)
    forehead = colour[y : y + height // 6, x + width // 4 : x + 3 * width // 4].max()
    assert min(eyes) > max(60, 4 * forehead) and not colour[150:].any()
    assert run(has_uncertainty=True, faces="none").uncertainty is None


def test_it_is_written_beside_the_result_and_into_the_report(old_photo, tmp_path):
    out, report = tmp_path / "out", tmp_path / "album.html"
    command = ["restore", str(old_photo), *PLAIN, "-o", str(out)]
    assert main(command) == 0 and not (out / "old-uncertainty.png").exists()
    result = (out / "old.png").read_bytes()
    assert main([*command, "--uncertainty", "--report", str(report)]) == 0  # though the result is done already
    with Image.open(out / "old-uncertainty.png") as written:
        assert written.size == (256, 256)
    assert (out / "old.png").read_bytes() == result and "What was invented" in report.read_text("utf-8")
    written_at = (out / "old-uncertainty.png").stat().st_mtime_ns
    assert main([*command, "--uncertainty"]) == 0
    assert (out / "old-uncertainty.png").stat().st_mtime_ns == written_at


@pytest.mark.parametrize("command", [["restore", "--faces", "none"], ["restore", "--aligned"]])
def test_without_a_restored_face_it_is_refused(old_photo, tmp_path, capsys, command):
    assert main([command[0], str(old_photo), *command[1:], "-o", str(tmp_path), "--uncertainty"]) == 2
    assert "no face is restored, so --uncertainty has no effect" in capsys.readouterr().err


def test_a_file_of_somebody_else_is_kept(old_photo, tmp_path, capsys):
    (tmp_path / "old-uncertainty.png").write_bytes(b"mine")
    assert main(["restore", str(old_photo), *PLAIN, "-o", str(tmp_path), "--uncertainty"]) == 1
    assert "was not written by Calotype" in capsys.readouterr().err
    assert (tmp_path / "old-uncertainty.png").read_bytes() == b"mine"
