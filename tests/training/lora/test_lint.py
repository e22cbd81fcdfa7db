"""What the linter says of runs that go wrong, and that it is silent about those that do not."""

import dataclasses
import functools
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from calotype.checkpoints.store import ModelStore
from calotype.errors import CalotypeError
from calotype.models.face_detector import Detector
from calotype.tasks import Note, TrainLora
from calotype.tasks.training import parse_steps
from calotype.training.data import batches as plan
from calotype.training.data.buckets import bucket_sizes, fit
from calotype.training.data.dataset import find_photos
from calotype.training.data.inspect import ImageStats, image_distance, image_stats, inspect_images, sharpness
from calotype.training.lora.lint import RunSummary, findings, limits

SETTLED = {"text_encoder_lr": 1e-5, "train_batch_size": 1}  # of a run that nobody would find fault with
SIZE = (512, 512)


def drawn(seed, size=(560, 520)):
    """A sharp picture like no other: shapes on a ground of its own."""
    rng = np.random.default_rng(seed)
    picture = np.full((*size, 3), rng.integers(60, 255, 3), np.uint8)
    for _ in range(25):
        x, y, radius = (int(v) for v in rng.integers(20, 500, 3))
        cv2.circle(picture, (x, y), radius // 8 + 4, [int(v) for v in rng.integers(0, 255, 3)], -1)
        cv2.line(picture, (y, x), (radius, y), [int(v) for v in rng.integers(0, 255, 3)], 3)
    return picture


def put(folder, pictures, captions=True, room="10_zkz person", suffix="png"):
    (folder / room).mkdir(parents=True, exist_ok=True)
    for n, picture in enumerate(pictures):
        Image.fromarray(picture).save(folder / room / f"{n:02}.{suffix}")
        if captions:
            (folder / room / f"{n:02}.txt").write_text(f"zkz person, scene {n}", "utf-8")
    return folder


@pytest.fixture(scope="module")
def healthy(tmp_path_factory, portrait):
    return put(tmp_path_factory.mktemp("set"), [portrait, *(drawn(n) for n in range(11))])


def ended(generator):
    """What a generator yields, and what it returns."""
    told = []
    while True:
        try:
            told.append(next(generator))
        except StopIteration as end:
            return told, end.value


def no_faces(rgb):
    return []


@functools.cache
def looks(photos, native, faces):
    return ended(inspect_images(photos, native, 10**9, faces))[1]


def course(folder, faces=no_faces, family="sd1", device="cuda", dtype="bfloat16", native=512, steps=0, **options):
    task = TrainLora(photos=folder, **{**SETTLED, **options})
    found = list(find_photos(task.photos, task.caption_extension).photos)
    if task.regular:
        found += find_photos(task.regular, is_regularization=True).photos
    photos, glances = looks(tuple(found), min(native, 512), faces)
    fits = [fit(image_stats.size, bucket_sizes(SIZE)) for image_stats in glances]
    shown = [plan.BatchItem(n, f.bucket, p.repeats) for n, (p, f) in enumerate(zip(photos, fits, strict=True))]
    batches = plan.count(shown, [task.train_batch_size])
    steps = task.max_train_steps or batches * task.max_train_epochs
    return RunSummary(
        *(
            task,
            photos,
            glances,
            fits,
            shown,
            [task],
            [SIZE],
            [task.train_batch_size],
            batches,
            steps,
            parse_steps(task.lr_warmup_steps, steps),
        ),
        *(family, native, device, dtype, lambda text: len(text.split())),
    )


def told(*args, **options):
    return [str(finding) for finding in findings(course(*args, **options))]


@pytest.fixture(scope="session")
def find(settings):
    """One and the same for all tests: what was looked at is looked at once."""
    return Detector(ModelStore(settings).find("yunet", kind="detect").path).find


def test_a_healthy_set_is_passed_over_in_silence(healthy, find):
    assert told(healthy, find) == []


@pytest.mark.parametrize(
    "options",
    [
        {"learning_rate": 1e-3, "lr_scheduler": "linear", "train_batch_size": 8, "network_train_unet_only": True},
        {"unet_lr": 1e-4, "text_encoder_lr": 1e-5, "network_dim": 32, "network_alpha": 16},
        {"optimizer_type": "Prodigy", "learning_rate": 1.0, "text_encoder_lr": None},
        {"optimizer_type": "Lion", "learning_rate": 3e-5, "text_encoder_lr": 3e-6},
        {"lr_scheduler": "constant_with_warmup", "lr_warmup_steps": "5%", "min_snr_gamma": 5.0, "noise_offset": 0.05},
    ],
)
def test_usual_settings_are_passed_over_in_silence(healthy, options):
    assert told(healthy, **options) == []


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"lr_scheduler": "constant", "lr_warmup_steps": "100"}, "constant_with_warmup"),
        ({"lr_scheduler": "constant_with_warmup"}, "has no warmup"),
        ({"lr_scheduler": "warmup_stable_decay", "lr_warmup_steps": "5%"}, "never decays"),
        ({"lr_warmup_steps": "5000"}, "never ends"),
        ({"lr_warmup_steps": "80%"}, "5% is usual"),
        ({"max_train_steps": 300, "lr_scheduler_num_cycles": 100}, "no time for the learning rate to decay"),
        ({"network_dim": 8, "network_alpha": 32.0}, "learning rate by 4;"),
        ({"conv_dim": 4, "conv_alpha": 8.0}, "conv_alpha 4"),
        ({"network_dim": 128, "network_alpha": 1.0}, "network_alpha 128"),
        ({"learning_rate": 1e-2}, "far above usual"),
        ({"unet_lr": 1e-7, "text_encoder_lr": 0.0}, "almost nothing is learned; give unet_lr 1e-4"),
        ({"optimizer_type": "Prodigy"}, "Give learning_rate 1"),
        ({"optimizer_type": "Lion", "learning_rate": 5e-4}, "three to ten times lower"),
        ({"text_encoder_lr": None}, "no text_encoder_lr is given"),
        ({"text_encoder_lr": 1e-4}, "text_encoder_lr 1e-05"),
        ({"max_train_steps": 20}, "that is too few"),
        ({"max_train_epochs": 100}, "overfits"),
        ({"dtype": "float16", "device": "cpu"}, "fp16 on a CPU"),
        ({"native": 1024}, r"1024x1024\): it forgets"),
        ({"native": 256}, r"256x256\): it duplicates objects"),
        ({"clip_skip": 2, "family": "sdxl"}, "has no effect on SDXL"),
        ({"min_snr_gamma": 0.5}, "5 is usual"),
        ({"noise_offset": 0.5}, "0.05 is usual"),
        ({"max_token_length": 75, "caption_extension": ".long"}, "12 captions are longer than 75 tokens .up to 101."),
    ],
)
def test_what_is_odd_is_said_once_and_with_what_to_do(healthy, options, words):
    for path in healthy.rglob("*.png"):
        path.with_suffix(".long").write_text(f"zkz {path.stem} " + "word " * 99, "utf-8")
    found = [text for text in told(healthy, **options) if re.search(words, text)]
    assert len(found) == 1 and found[0][0] != " " and found[0].count(". ") <= 2, found


def test_batches_that_no_bucket_fills_are_said(tmp_path):
    put(tmp_path, [drawn(n, (420 + 90 * n, 900 - 90 * n)) for n in range(6)], room="1_zkz")
    assert any("batches of 8 are rarely full" in text for text in told(tmp_path, train_batch_size=8))
    assert not any("rarely full" in text for text in told(tmp_path, train_batch_size=1))


def test_captions_that_are_missing_empty_alike_or_foreign_are_said(tmp_path, healthy):
    put(tmp_path, [drawn(n) for n in range(8)], room="20_安娜 person")
    room = tmp_path / "20_安娜 person"
    for n in (1, 2, 3, 5):
        (room / f"{n:02}.txt").unlink()
    (room / "06.txt").write_text(" \n", "utf-8")
    (room / "07.txt").write_bytes("安娜, 红裙".encode("gb18030"))
    found = "\n".join(told(tmp_path))
    assert "4 photos have no caption file (01.png, 02.png, 03.png and 1 more)" in found
    assert "1 caption file is empty (06.png)" in found
    assert "5 photos have words in the caption that are not English" in found
    for path in room.glob("*.txt"):
        path.unlink()
    assert any("no photo has a caption file" in text and "安娜 person" in text for text in told(tmp_path))
    for path in room.glob("*.png"):
        path.with_suffix(".caption").write_text("a woman", "utf-8")
    assert any("give caption_extension .caption" in text for text in told(tmp_path))
    assert any("all 8 captions are equal ('a woman')" in t for t in told(tmp_path, caption_extension="caption"))


def test_captions_of_another_ending_are_counted(tmp_path):
    """kohya_ss #927: its default is .caption, that of many programs .txt."""
    put(tmp_path, [drawn(n) for n in range(6)], room="9_zkz")
    room = tmp_path / "9_zkz"
    for path in room.glob("*.txt"):
        path.unlink()
    for path in sorted(room.glob("*.png"))[:2]:
        path.with_suffix(".caption").write_text("a woman", "utf-8")

    def found(**options):
        return next(text for text in told(tmp_path, **options) if "caption" in text and "photos have no" in text)

    start = "6 of 6 photos have no caption ending in .txt, but 2 of them one in .caption ("
    assert found().startswith(start) and ", and 4 none at all; give caption_extension .caption" in found()
    assert "4 photos have no caption file" in found(caption_extension=".caption")
    for path in sorted(room.glob("*.png"))[3:]:
        path.with_suffix(".txt").write_text(f"a man {path.stem}", "utf-8")
    start = "3 of 6 photos have no caption ending in .txt, but 2 of them one in .caption ("
    assert found(caption_extension=".txt").startswith(start) and ", and 1 none at all" in found()


def test_photos_without_any_word_are_said(tmp_path):
    for n in range(3):
        Image.fromarray(drawn(n)).save(tmp_path / f"{n}.png")
    assert any("no word of a prompt will call" in text for text in told(tmp_path))


def shaken(picture, angle):
    kernel = np.zeros((15, 15), np.float32)
    kernel[7] = 1
    kernel = cv2.warpAffine(kernel, cv2.getRotationMatrix2D((7, 7), angle, 1), (15, 15))
    return cv2.filter2D(picture, -1, kernel / kernel.sum())


@pytest.mark.slow
def test_bad_photos_are_named_each_for_what_it_is(tmp_path, portrait, find):
    rng = np.random.default_rng(5)
    turned = cv2.warpAffine(drawn(1), cv2.getRotationMatrix2D((260, 280), 1.5, 1.02), (520, 560), borderMode=1)
    pictures = {
        "good": drawn(1),
        "burst": turned,
        "soft": cv2.GaussianBlur(drawn(2), (0, 0), 2),
        "fog": cv2.GaussianBlur(drawn(3), (0, 0), 5),
        "shaken": shaken(drawn(4), 30),
        "small": drawn(6)[:200, :180],
        "night": (drawn(7) * 0.2).astype(np.uint8),
        "empty": (rng.normal(250, 1, (560, 520, 3))).clip(0, 255).astype(np.uint8),
        "copy": drawn(1),
        "person": portrait,
    }
    put(tmp_path, [])
    for name, picture in pictures.items():
        Image.fromarray(picture).save(tmp_path / "10_zkz person" / f"{name}.png")
    holes = np.dstack([drawn(8), np.full((560, 520), 255, np.uint8)])
    holes[:200, :, 3] = 0
    Image.fromarray(holes).save(tmp_path / "10_zkz person" / "holes.png")
    found = "\n".join(told(tmp_path, find))
    assert "1 photo is duplicated, bit for bit (such as copy.png = good.png)" in found
    assert "burst.png and copy.png look nearly the same" in found
    assert "3 photos are blurred (fog.png, shaken.png, soft.png)" in found
    assert "1 photo is smaller than the training resolution and will be enlarged up to 2.8 times (small.png)" in found
    assert "1 photo is very dark (night.png)" in found
    assert "1 photo is blank, with a single color (empty.png)" in found
    assert "1 photo is partly transparent (holes.png)" in found
    assert "person.png" not in found and "face" not in found


def test_one_photo_alone_is_said(tmp_path):
    assert any("only one photo" in text for text in told(put(tmp_path, [drawn(1)], room="100_zkz")))


def test_a_face_decides_about_focus(tmp_path, portrait, find):
    """Before a soft background a sharp face is a good portrait; a soft face before a sharp one is none."""
    big = portrait[40:240, 120:320]
    big = cv2.resize(big, (512, 512), interpolation=cv2.INTER_CUBIC)
    sharp = cv2.addWeighted(big, 2.5, cv2.GaussianBlur(big, (0, 0), 3), -1.5, 0)
    [face, *_] = find(sharp)
    x, y, w, h = (round(v) for v in face.box)
    mask = np.zeros((512, 512, 1), np.float32)
    mask[y : y + h, x : x + w] = 1
    mask = cv2.GaussianBlur(mask, (0, 0), 8)[..., None]
    soft = cv2.GaussianBlur(sharp, (0, 0), 4)
    busy = cv2.resize(drawn(9), (512, 512))
    pictures = {
        "portrait.png": sharp * mask + soft * (1 - mask),
        "missed.png": soft * mask + busy * (1 - mask),
    }
    for name, picture in pictures.items():
        (tmp_path / "10_zkz").mkdir(exist_ok=True)
        Image.fromarray(picture.clip(0, 255).astype(np.uint8)).save(tmp_path / "10_zkz" / name)
    found = [text for text in told(tmp_path, find) if "focus" in text or "blurred" in text]
    assert found == ["the face in missed.png is out of focus while the rest is sharp; remove it"]


@pytest.mark.slow
def test_regularisation_without_effect_is_said(tmp_path, healthy):
    other = put(tmp_path / "regular", [drawn(n) for n in range(20, 24)], captions=False, room="1_person")
    assert told(healthy, regular=other) == []
    assert any("prior_loss_weight is 0" in text for text in told(healthy, regular=other, prior_loss_weight=0.0))
    assert any("12 of 12 regularization images are training photos" in text for text in told(healthy, regular=healthy))
    for path in other.rglob("*.png"):
        path.with_suffix(".txt").write_text("zkz person, scene 1", "utf-8")
    assert any("have the same captions as the photos" in text for text in told(healthy, regular=other))


@pytest.mark.parametrize("deviation", [1.5, 2, 3])
def test_blur_is_told_from_sharpness_whatever_the_contrast(portrait, deviation):
    grey = cv2.cvtColor(portrait, cv2.COLOR_RGB2GRAY)
    for contrast in (1, 0.4):
        here = (grey * contrast).astype(np.uint8)
        assert sharpness(here) > 2 * limits.MIN_SHARPNESS
        assert sharpness(cv2.GaussianBlur(here, (0, 0), deviation)) < limits.MIN_SHARPNESS


def test_other_photos_are_not_alike(tmp_path):
    glances = []
    for n in range(12):
        Image.fromarray(drawn(n)).save(tmp_path / f"{n}.png")
        glances.append(image_stats(tmp_path / f"{n}.png", 512, 10**9))
    for n, one in enumerate(glances):
        for other in glances[n + 1 :]:
            bits, look = image_distance(one, other)
            assert bits > limits.SAME_BITS or look > limits.SAME_DISTANCE


def test_photos_of_every_kind_are_looked_at(tmp_path):
    """Deep, grey, tiny, long and turned ones."""
    rng = np.random.default_rng(0)
    deep = rng.integers(0, 65535, (90, 70), np.uint16)
    Image.fromarray(deep).save(tmp_path / "deep.png")
    Image.fromarray(np.zeros((1, 1), np.uint8)).save(tmp_path / "dot.png")
    Image.fromarray(rng.integers(0, 255, (2, 4000), np.uint8)).save(tmp_path / "line.png")
    turned = Image.fromarray(drawn(1, (300, 200)))
    exif = turned.getexif()
    exif[0x0112] = 6
    turned.save(tmp_path / "turned.jpg", exif=exif)
    found = {path.stem: image_stats(path, 512, 10**9) for path in tmp_path.iterdir()}
    assert found["turned"].size == (300, 200) and found["deep"].size == (70, 90)
    assert found["dot"].sharpness == 0 and found["line"].size == (4000, 2)
    assert all(isinstance(one, ImageStats) and np.isfinite(one.sharpness) for one in found.values())


def test_damaged_photos_are_left_out_and_said(tmp_path):
    put(tmp_path, [drawn(1), drawn(2)], room="3_猫")
    (tmp_path / "3_猫" / "坏.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(40))
    (tmp_path / "3_猫" / "零.jpg").write_bytes(b"")
    steps, (photos, glances) = ended(inspect_images(find_photos(tmp_path).photos, 512, 10**9, lambda rgb: []))
    said = [step.text for step in steps if isinstance(step, Note)]
    assert len(photos) == len(glances) == 2 and len(said) == 2
    assert "坏.png" in said[0] and "零.jpg" in said[1] and all(text.startswith("left out: ") for text in said)
    bad = [dataclasses.replace(photo, path=Path("none.png")) for photo in photos]
    with pytest.raises(CalotypeError, match="none of the 2 photos can be read"):
        ended(inspect_images(bad, 512, 10**9, lambda rgb: []))
