"""Forger and expert: a run is exact, goes on where it stopped, shows itself, and its forger draws."""

import dataclasses
import hashlib
import math
import os
import re
import shutil
import signal
import tracemalloc

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file
from safetensors.torch import save_file as packed
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from calotype.checkpoints import open_gan as gan
from calotype.checkpoints.store import Checkpoint, digest
from calotype.cli import main
from calotype.errors import CalotypeError
from calotype.files import run_lock
from calotype.models.gan import Discriminator, Generator, Shape
from calotype.picture import video
from calotype.pipelines import train_gan
from calotype.pipelines.train_gan import TrainResult
from calotype.record import Film, Result
from calotype.tasks import Imagine, Note, TrainGan, read_task
from calotype.training.data.squares import COUNT, Images, of_demo, of_folder
from calotype.training.gan import evaluator as gan_seen
from calotype.training.gan.evaluator import UNBALANCED_STEPS, GanEvaluator, snapshot_steps
from calotype.training.monitor.metrics_log import MetricsLog
from calotype.training.monitor.monitor import Monitor
from calotype.training.run.resume import load, save


@pytest.fixture(scope="module", autouse=True)
def few_frames():
    """Encoding the film takes more than half of a run this small, at the usual 24 frames a second."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(video, "RATE", 4)
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Twelve discs, one of them transparent around, one in a folder below."""
    place, (y, x) = tmp_path_factory.mktemp("discs"), np.mgrid[:40, :48]
    (place / "more").mkdir()
    for n in range(12):
        inside = (y - 20) ** 2 + (x - 24) ** 2 < (8 + n) ** 2
        pixels = np.where(inside[..., None], (250, 200, 20 * n), (255, 255, 255)).astype(np.uint8)
        where = place / "more" if n == 11 else place
        if n == 10:
            pixels = np.dstack([pixels * 0 + np.uint8(40), inside * np.uint8(255)])
        Image.fromarray(pixels).save(where / f"{n}.png")
    return place


def asked(folder, out, **more):
    told = {"resolution": 32, "capacity": 0.25, "train_batch_size": 4, "max_train_steps": 6, "snapshots": 3}
    return TrainGan(photos=folder, output_dir=out, mixed_precision="no", **{**told, "save_state_every": 2, **more})


@pytest.fixture(scope="module")
def done(engine, folder, tmp_path_factory):
    before = {path: digest(path) for path in folder.rglob("*.png")}
    out = tmp_path_factory.mktemp("gan")
    events = list(engine.run(asked(folder, out, log_with="tensorboard")))
    assert {path: digest(path) for path in folder.rglob("*.png")} == before
    return out, events


def figures(result):
    return {name: value for name, value in result.extra.items() if name != "film"}


def test_a_run_ends_in_a_forger_sheets_a_film_and_a_page(done):
    out, events = done
    forged = events[-1]
    assert isinstance(forged, TrainResult) and forged.path == out / "gan.safetensors" and forged.pictures == 12
    assert set(figures(forged)) == {"frechet", "precision", "recall", "diversity"}
    steps = snapshot_steps(6, 3)
    sheets = [out / "gan-snapshots" / f"{step:08d}.png" for step in steps]
    assert len({digest(path) for path in sheets}) == 3  # the same latents, another forger
    assert Image.open(sheets[0]).size == (8 * 32, 5 * 32)
    with Image.open(out / "gan.gif") as film:
        assert film.n_frames == 3
    page = (out / "report.html").read_text("utf-8")
    assert "Fréchet" in page and "outputs" in page and "Diversity" in page
    shown = re.sub(r"<style.*?</style>|<[^>]*>", " ", page, flags=re.S).lower()
    assert "generated images" in shown and "real images" in shown
    assert not re.search("forger|expert|verdict", shown)
    assert not (out / "gan.state.safetensors").exists()


def test_the_best_forger_is_told_and_kept(done):
    out, events = done
    distances = numbers(out, gan_seen.METRIC_NAMES["frechet"])
    with safe_open(out / "gan-best.safetensors", "pt") as file:
        step = int(file.metadata()["calotype.steps"])
    assert (
        f"the generator with the lowest Fréchet distance, of step {step}, is saved as {out / 'gan-best.safetensors'}"
        in sentences(events)
    )
    low = min(distances, key=distances.get)
    then = "then" if low == step else f"after step {step}"
    assert (
        f"<p>The Fréchet distance was lowest {f'after step {low}' if low else 'before the first step'}: "
        f"{distances[low]:.4f}; gan-best.safetensors is the generator as it was {then}.</p>"
    ) in (out / "report.html").read_text("utf-8")


def test_tensorboard_has_the_figures(done):
    out, events = done
    told = EventAccumulator(str(next((out / "logs").rglob("network_train"))))
    told.Reload()
    for name, tag in gan_seen.METRIC_NAMES.items():
        numbers = told.Scalars(tag)
        assert [number.step for number in numbers] == snapshot_steps(6, 3)
        assert numbers[-1].value == pytest.approx(figures(events[-1])[name], abs=1e-4)
    assert [number.step for number in told.Scalars("loss/forger")] == [1, 2, 3, 4, 5, 6]


def test_the_film_is_one_that_players_read(done):
    av = pytest.importorskip("av")
    with av.open(str(done[0] / "gan.mp4")) as film:
        frames = [frame.to_ndarray(format="rgb24") for frame in film.decode(video=0)]
    assert len(frames) > video.RATE == 4 and frames[0].std() > 1
    assert np.abs(frames[0].astype(int) - frames[-1]).mean() > 1


@pytest.mark.many(plain=1)
@pytest.mark.parametrize("stop", [2, 5])
def test_a_run_that_was_stopped_ends_in_the_same_bytes(engine, folder, done, tmp_path, stop):
    run, steps = engine.run(asked(folder, tmp_path)), 0
    for event in run:
        steps = event.done if getattr(event, "what", "") == "steps" else steps
        if steps == stop + 1:
            break
    run.close()
    assert (tmp_path / "gan.state.safetensors").is_file()
    events = list(engine.run(asked(folder, tmp_path)))
    assert any("going on after step" in event.text for event in events if isinstance(event, Note))
    assert digest(tmp_path / "gan.safetensors") == digest(done[0] / "gan.safetensors")


def test_a_finished_forger_is_never_overwritten(engine, folder, done):
    out = done[0]
    before = {path: digest(path) for path in out.rglob("*") if path.is_file()}
    with pytest.raises(CalotypeError, match=r"holds gan\.safetensors and .* give another output_name, or delete"):
        list(engine.run(asked(folder, out, seed=2)))
    assert {path: digest(path) for path in out.rglob("*") if path.is_file()} == before


def test_sheets_of_an_earlier_run_go_before_the_first_step(engine, folder, tmp_path):
    sheets = tmp_path / "gan-snapshots"
    sheets.mkdir()
    for name in ("00000005.png", "verdicts-00000005.png", "mine.png"):
        (sheets / name).write_bytes(b"old")
    run = engine.run(asked(folder, tmp_path))
    while not (sheets / "00000000.png").is_file():
        next(run)
    run.close()
    assert {path.name for path in sheets.iterdir()} == {"00000000.png", "verdicts-00000000.png", "mine.png"}


@pytest.mark.slow
@pytest.mark.parametrize("stop", [1, 4, 6])
def test_a_run_that_is_closed_keeps_its_very_step(engine, folder, done, tmp_path, stop):
    run = engine.run(asked(folder, tmp_path, save_state_every=0))
    for event in run:
        if getattr(event, "what", "") == "steps" and event.done == stop:
            break
    run.close()
    assert load(tmp_path / "gan.state.safetensors").step == stop
    forged = list(engine.run(asked(folder, tmp_path, save_state_every=0)))[-1]
    assert figures(forged) == figures(done[1][-1])
    for name in ("gan.safetensors", "gan-snapshots/00000002.png", "gan.gif"):
        assert digest(tmp_path / name) == digest(done[0] / name)


@pytest.mark.slow
def test_an_interrupt_within_a_step_keeps_that_step(engine, folder, done, tmp_path, monkeypatch):
    def stopped(*given):
        monkeypatch.setattr(train_gan, "generator_loss", own)
        os.kill(os.getpid(), signal.SIGINT)
        return own(*given)

    own = train_gan.generator_loss
    run = engine.run(asked(folder, tmp_path, save_state_every=0))
    for event in run:
        if getattr(event, "what", "") == "steps" and event.done == 2:
            break
    monkeypatch.setattr(train_gan, "generator_loss", stopped)
    with pytest.raises(KeyboardInterrupt):
        list(run)
    assert load(tmp_path / "gan.state.safetensors").step == 3
    list(engine.run(asked(folder, tmp_path)))
    assert digest(tmp_path / "gan.safetensors") == digest(done[0] / "gan.safetensors")


def test_only_one_run_at_a_time_writes_a_name(engine, folder, tmp_path):
    with run_lock(tmp_path, "gan"), pytest.raises(CalotypeError, match=r"another run is at work on .*gan; wait for it"):
        list(engine.run(asked(folder, tmp_path)))
    assert not list(tmp_path.iterdir())
    run = engine.run(asked(folder, tmp_path))
    while not (tmp_path / "gan.running").exists():
        next(run)
    run.close()
    assert not (tmp_path / "gan.running").exists()


def test_what_ended_while_pictures_were_read_is_not_overwritten(engine, folder, done, tmp_path):
    run = engine.run(asked(folder, tmp_path, seed=2))
    next(run)
    (tmp_path / "gan.safetensors").write_bytes((done[0] / "gan.safetensors").read_bytes())
    with pytest.raises(CalotypeError, match=r"holds gan\.safetensors of an earlier run"):
        list(run)
    assert digest(tmp_path / "gan.safetensors") == digest(done[0] / "gan.safetensors")


@pytest.mark.many(plain=1)
@pytest.mark.parametrize("spoilt", ["gradient_penalty", "generator_loss", "discriminator_loss"])
@pytest.mark.parametrize("how", ["loss", "gradient"])
def test_whatever_is_no_number_is_counted_and_not_learnt(engine, folder, tmp_path, monkeypatch, spoilt, how):
    own = getattr(train_gan, spoilt)

    def wrong(*given):
        value = own(*given)
        if how == "loss":
            return value * math.inf
        value.register_hook(lambda slope: slope * math.inf)
        return value

    run = engine.run(asked(folder, tmp_path))
    while not (tmp_path / "gan.state.safetensors").is_file():
        next(run)
    kept = digest(tmp_path / "gan.state.safetensors")
    monkeypatch.setattr(train_gan, spoilt, wrong)
    with pytest.raises(CalotypeError, match="NaN since step 4"):
        list(run)
    assert digest(tmp_path / "gan.state.safetensors") == kept


@pytest.mark.slow
def test_a_collapse_at_the_end_leaves_the_last_good_forger(engine, folder, tmp_path, monkeypatch):
    def collapsed(seen, done):
        if done == 6:
            seen.generator.scale.weight.zero_()  # every latent draws the same
        yield from after(seen, done)

    after = GanEvaluator.evaluate
    monkeypatch.setattr(GanEvaluator, "evaluate", collapsed)
    monkeypatch.setattr(gan_seen, "MIN_DIVERSITY", 1e-3)
    events = list(engine.run(asked(folder, tmp_path)))
    told = " ".join(event.text for event in events if isinstance(event, Note))
    assert "is the last good generator, of step 2" in told
    with safe_open(events[-1].path, "pt") as file:
        assert file.metadata()["calotype.steps"] == "2"


def stopped(engine, task, step):
    run = engine.run(task)
    for event in run:
        if getattr(event, "what", "") == "steps" and event.done == step:
            break
    run.close()


def sentences(events):
    return [event.text for event in events if isinstance(event, Note)]


def numbers(out, name):
    return dict(MetricsLog(out / "gan.log.jsonl", 10**6, is_written=False).numbers[name])


def test_a_dry_run_tells_the_plan_and_writes_nothing(engine, folder, done, tmp_path):
    out = tmp_path / "out"
    events = list(engine.run(asked(folder, out, dry_run=True)))
    told = sentences(events)
    assert told[0] == "12 pictures to train on, as squares of 32 pixels" and "6 steps of batch size 4" in told[1]
    assert re.fullmatch(r"memory expected: \d+ MiB besides the pictures and networks; [\d.]+ GiB are free", told[-2])
    assert re.fullmatch(r"time expected: about \d+ seconds?, and that of 3 snapshots", told[-1])
    assert not out.exists() and not any(isinstance(event, TrainResult) for event in events)
    stopped(engine, asked(folder, out), 4)
    before = {path: digest(path) for path in out.rglob("*") if path.is_file()}
    assert "going on after step 4 of 6" in sentences(engine.run(asked(folder, out, dry_run=True)))
    assert {path: digest(path) for path in out.rglob("*") if path.is_file()} == before
    list(engine.run(asked(folder, out)))
    assert digest(out / "gan.safetensors") == digest(done[0] / "gan.safetensors")
    with pytest.raises(CalotypeError, match=r"holds gan\.safetensors and .* give another output_name, or delete"):
        list(engine.run(asked(folder, out, dry_run=True)))


@pytest.mark.many(plain=2)
@pytest.mark.parametrize("more", [{"train_batch_size": 2}, {"seed": 2}, {"mixed_precision": "bf16"}])
def test_a_state_of_other_settings_is_refused(engine, folder, tmp_path, more):
    stopped(engine, asked(folder, tmp_path), 3)
    with pytest.raises(CalotypeError, match="other pictures or settings"):
        list(engine.run(dataclasses.replace(asked(folder, tmp_path), **more)))


@pytest.mark.slow
def test_a_state_goes_on_with_another_rate_gamma_and_length(engine, folder, done, tmp_path):
    stopped(engine, asked(folder, tmp_path), 4)
    with pytest.raises(CalotypeError, match="has 4 steps behind it, and 3 are asked for; give more"):
        list(engine.run(asked(folder, tmp_path, max_train_steps=3)))
    other = asked(folder, tmp_path, learning_rate=2e-3, gamma=3, max_train_steps=9)
    told = sentences(engine.run(other))
    assert "going on after step 4 of 9, with another rate, gamma or length than before" in told
    rates, before = numbers(tmp_path, "lr/both"), numbers(done[0], "lr/both")
    assert {step: rates[step] for step in range(1, 5)} == {step: before[step] for step in range(1, 5)}
    assert rates[5] == pytest.approx(2e-3 * (1 - 0.9 * 4 / 9)) and rates[9] == pytest.approx(2e-3 * (1 - 0.9 * 8 / 9))
    assert digest(tmp_path / "gan.safetensors") != digest(done[0] / "gan.safetensors")


@pytest.mark.slow
@pytest.mark.parametrize("stop", [0, 8])
def test_a_run_whose_state_is_kept_learns_on(engine, folder, done, tmp_path, stop):
    told = sentences(engine.run(asked(folder, tmp_path, save_state=True)))
    assert any("is kept: the same command learns on with more max_train_steps" in text for text in told)
    assert digest(tmp_path / "gan.safetensors") == digest(done[0] / "gan.safetensors")
    more = asked(folder, tmp_path, max_train_steps=12)
    once = shutil.copytree(tmp_path, tmp_path.with_name(f"{tmp_path.name}-once"))
    if stop:  # and is stopped once more
        stopped(engine, more, stop)
    events = list(engine.run(more))
    other = ", with another rate, gamma or length than before" if not stop else ""
    assert f"going on after step {stop or 6} of 12{other}" in sentences(events)
    assert list(numbers(tmp_path, gan_seen.METRIC_NAMES["frechet"])) == [0, 2, 6, 12]
    with Image.open(tmp_path / "gan.gif") as film:
        assert film.n_frames == 4
    with safe_open(events[-1].path, "pt") as file:
        assert file.metadata()["calotype.steps"] == "12"
    assert not (tmp_path / "gan.state.safetensors").exists()
    if stop:
        list(engine.run(asked(folder, once, max_train_steps=12)))
        assert digest(once / "gan.safetensors") == digest(tmp_path / "gan.safetensors")


def test_the_forger_draws_and_truncation_makes_it_less_varied(engine, done):
    def drawn(**more):
        task = Imagine(model=str(done[0] / "gan.safetensors"), seed=5, count=4, **more)
        return [event for event in engine.run(task) if isinstance(event, Result)]

    plain, average, gathered = drawn(), drawn(truncation=0), drawn(grid=True)
    assert [result.picture.pixels.shape for result in plain] == [(32, 32, 3)] * 4
    assert len({result.picture.pixels.tobytes() for result in plain}) == 4
    assert len({result.picture.pixels.tobytes() for result in average}) == 1
    assert gathered[-1].is_sheet and [result.record.options["seed"] for result in plain] == [5, 6, 7, 8]
    again = list(engine.run(read_task("imagine", plain[2].record.options)))
    assert again[-1].picture.pixels.tobytes() == plain[2].picture.pixels.tobytes()


def test_a_forger_that_was_trained_anew_is_what_draws(engine, done, tmp_path):
    path = tmp_path / "a.safetensors"

    def drawn():
        return list(engine.run(Imagine(model=str(path), seed=5)))[-1]

    results = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        gan.write(path, Generator(Shape.preset(32, 0.25)), {})
        results.append(drawn())
        assert results[-1].picture.pixels.tobytes() == drawn().picture.pixels.tobytes()
        assert engine.models.gan(Checkpoint("a", path)) is engine.models.gan(Checkpoint("a", path))
    one, other = (result.picture.pixels for result in results)
    assert not np.array_equal(one, other)
    names = engine.models.cache.in_order
    assert names.count("a") + names.count(str(path)) == 1, names


def test_a_walk_is_a_film_that_begins_at_its_first_picture(engine, done):
    model = str(done[0] / "gan.safetensors")
    film = list(engine.run(Imagine(model=model, seed=5, count=2, interpolate=True)))[-1]
    first = list(engine.run(Imagine(model=model, seed=5)))[-1].picture.pixels
    assert isinstance(film, Film) and len(film.frames) == 48
    assert np.array_equal(film.frames[0][::8, ::8], first)


@pytest.mark.many(plain=2)
@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("--grid", "so --grid has no effect; leave it out"),
        ("--format jpeg", "--interpolate writes a GIF and an MP4, so --format has no effect; leave it out"),
        ("--quality 80 --sidecar", "so --quality and --sidecar have no effect; leave them out"),
    ],
)
def test_a_walk_has_no_use_for_what_pictures_have(done, tmp_path, capsys, words, told):
    walk = ["imagine", "--model", str(done[0] / "gan.safetensors"), "--count", "2", "--interpolate"]
    out = tmp_path / "walk"
    assert main([*walk, *words.split(), "-o", str(out)]) == 2
    assert told in capsys.readouterr().err and not out.exists()
    lines = tmp_path / "lines.txt"
    lines.write_text("# both kinds\n--interpolate --count 2\n--count 1\n")
    if words != "--grid":  # one of the lines has a use for it
        assert main(["imagine", "--from-file", str(lines), *walk[1:3], *words.split(), "-o", str(out)]) == 0


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"prompt": "a cat"}, "no use for a prompt"),
        ({"guidance": 3.0}, "guidance"),
        ({"interpolate": True}, "count 2"),
    ],
)
def test_what_a_forger_has_no_use_for_is_refused(engine, done, more, told):
    with pytest.raises(CalotypeError, match=told):
        list(engine.run(Imagine(model=str(done[0] / "gan.safetensors"), **more)))


def test_truncation_is_for_forgers_alone(engine):
    with pytest.raises(CalotypeError, match="emoji is not one"):
        list(engine.run(Imagine(prompt="a cat", truncation=0.5)))


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"resolution": 48}, "resolution is one of"),
        ({"demo": True}, "demo trains on the pictures that ship"),
        ({"photos": None}, "give a folder"),
        ({"log_prefix": "a/b"}, "not a path"),
    ],
)
def test_options_that_do_not_go_together_are_refused(folder, tmp_path, more, told):
    with pytest.raises(CalotypeError, match=told):
        dataclasses.replace(asked(folder, tmp_path), **more)


def test_bad_pictures_are_told_and_left_out(engine, folder, tmp_path):
    with pytest.raises(CalotypeError, match="there is no folder"):
        list(engine.run(asked(tmp_path / "none", tmp_path)))
    (tmp_path / "few").mkdir()
    (tmp_path / "few" / "bad.png").write_text("no picture")
    with pytest.raises(CalotypeError, match=r"0 readable pictures, .*bad\.png"):
        list(engine.run(asked(tmp_path / "few", tmp_path)))
    for path in folder.glob("?.png"):
        (tmp_path / "few" / path.name).write_bytes(path.read_bytes())
    run = engine.run(asked(tmp_path / "few", tmp_path, augment="colour"))
    sentences = []
    with pytest.raises(CalotypeError, match="did you mean color"):
        sentences.extend(event.text for event in run if isinstance(event, Note))
    run.close()
    run = engine.run(asked(tmp_path / "few", tmp_path))
    assert any("bad.png" in event.text for event in (next(run) for _ in range(11)) if isinstance(event, Note))
    run.close()


def test_pictures_that_memory_cannot_hold_are_refused_with_numbers_that_agree(folder):
    needed = 12 * 3 * 512 * 512
    told = r"take 0\.0 GiB at 512 pixels, and with 0\.0 free they may take 0\.0; give a smaller resolution"
    with pytest.raises(CalotypeError, match=told):
        list(of_folder(folder, 512, int(needed / 0.71), 10**9))
    gallery = list(of_folder(folder, 512, int(needed / 0.69), 10**9))[-1]
    assert gallery.pictures.shape == (12, 3, 512, 512)


def test_what_cannot_be_read_leaves_no_gap_and_the_fingerprint_no_copy(tmp_path):
    for n in range(40):
        Image.new("RGB", (8, 8), (n, 0, 0)).save(tmp_path / f"{n:02}.png")
    (tmp_path / "17.5.png").write_text("no picture")
    gallery = list(of_folder(tmp_path, 256, 2**30, 10**9))[-1]
    assert gallery.pictures[:, 0, 0, 0].tolist() == list(range(40))
    expected = hashlib.sha256(gallery.pictures.numpy().tobytes()).hexdigest()
    tracemalloc.start()
    assert gallery.sha256 == expected
    assert tracemalloc.get_traced_memory()[1] < gallery.pictures.nbytes / 10
    tracemalloc.stop()


def test_a_loss_that_is_no_number_ends_the_run(engine, folder, tmp_path):
    run, path = engine.run(asked(folder, tmp_path)), tmp_path / "gan.state.safetensors"
    while not path.is_file():
        next(run)
    run.close()
    state = load(path)
    state.weights["forger.scale.weight"].fill_(1e38)
    save(path, state)
    with pytest.raises(CalotypeError, match="the loss or its gradients are NaN since step"):
        list(engine.run(asked(folder, tmp_path)))


# ---------------------------------------------------------------------- what is noticed


taken = Images.batch


@pytest.fixture
def seen(folder, tmp_path):
    """Whatever watches a run of 100 steps, at its beginning."""
    task = asked(folder, tmp_path, max_train_steps=100, snapshots=11)
    shape = Shape.preset(32, 0.25)
    forger = Generator(shape).requires_grad_(False)
    gallery = Images(torch.randint(0, 256, (16, 3, 32, 32), dtype=torch.uint8))

    def keep(name, step):
        gan.write(tmp_path / f"{name}.safetensors", forger, {"calotype.steps": str(step)})
        return tmp_path / f"{name}.safetensors"

    watch = Monitor(tmp_path, "gan", (0, 100, 0), torch.device("cpu"), {})
    yield GanEvaluator(task, watch, forger, Discriminator(shape).requires_grad_(False), gallery, False, keep)
    watch.close()


def test_collapse_is_told_and_the_last_good_forger_kept(seen, tmp_path):
    steps = sorted(seen.snapshot_steps)
    seen.generator.first.mul_(20)  # forgeries differ as much as noise does

    def stepped(step):
        seen.monitor.log_step(step, 1.0, {})
        return list(seen.evaluate(step))

    stepped(steps[3])
    kept = digest(tmp_path / "gan.safetensors")
    seen.generator.scale.weight.zero_()  # every latent draws the same
    for step in steps[4:6]:
        stepped(step)
    with pytest.raises(CalotypeError, match=r"collapsed: at step 46 .* is saved as .*gan\.safetensors"):
        stepped(steps[6])
    assert digest(tmp_path / "gan.safetensors") == kept


def test_what_is_measured_is_in_memory_by_parts(seen, monkeypatch):
    together = {"drawn": [], "taken": []}
    gallery = Images(torch.randint(0, 256, (150, 3, 32, 32), dtype=torch.uint8))
    seen = GanEvaluator(
        seen.task, seen.monitor, seen.generator, seen.discriminator, gallery, False, seen._save_generator
    )
    monkeypatch.setattr(Images, "batch", lambda _, some: together["taken"].append(len(some)) or taken(gallery, some))
    seen.generator.register_forward_pre_hook(lambda _, given: together["drawn"].append(len(given[0])))
    list(seen.evaluate(0))
    assert sum(together["taken"]) == 150 + gan_seen.SCORED and max(together["taken"]) == 64
    assert sum(together["drawn"]) == 150 + gan_seen.SCORED and max(together["drawn"]) == 4  # as in a step


def test_an_expert_that_wins_outright_is_told(seen):
    for step in range(UNBALANCED_STEPS):
        assert list(seen.evaluate(step + 1000)) == []
        seen.monitor.log_step(step + 1, 0.001, {})
    with pytest.raises(CalotypeError, match="the discriminator has won"):
        list(seen.evaluate(UNBALANCED_STEPS))
    seen.mark_changed(UNBALANCED_STEPS // 2)
    assert list(seen.evaluate(UNBALANCED_STEPS)) == []


# ---------------------------------------------------------------------- files


def test_a_forgers_file_tells_its_shape(tmp_path):
    shape = Shape.preset(64, 0.25)
    gan.write(tmp_path / "a.safetensors", Generator(shape), {})
    assert gan.is_gan(tmp_path / "a.safetensors")
    assert gan.read(Checkpoint("a", tmp_path / "a.safetensors")).generator.shape == shape


def test_a_forgers_file_is_believed_its_weights_alone(tmp_path, monkeypatch):
    made, path = [], tmp_path / "a.safetensors"
    monkeypatch.setattr(gan, "Generator", lambda shape: made.append(Generator(shape)) or made[-1])
    told = Shape(32, (256,) * 4, blocks=2)
    packed({"first": torch.zeros(1)}, path, {gan.KEY: told.as_json()})
    with pytest.raises(CalotypeError, match="does not hold the weights that its metadata describes"):
        gan.read(Checkpoint("a", path))
    assert all(weight.is_meta for weight in made[0].parameters())
    gan.write(path, Generator(Shape.preset(32, 0.25)), {})
    state = load_file(path)
    packed({**state, "out.weight": state["out.weight"][:1]}, path, {gan.KEY: Shape.preset(32, 0.25).as_json()})
    with pytest.raises(CalotypeError, match="does not hold the weights that its metadata describes"):
        gan.read(Checkpoint("a", path))


@pytest.mark.parametrize("side", [32, 64, 128, 256, 512])
def test_presets_draw_pictures_of_their_size(side):
    shape = Shape.preset(side, 0.25)
    with torch.no_grad():
        picture = Generator(shape)(torch.zeros(1, shape.latent))
        assert picture.shape == (1, 3, side, side)
        assert Discriminator(shape)(picture).shape == (1,)


def test_presets_grow_with_the_side_and_those_of_64_pixels_are_as_they_were():
    assert Shape.preset(64, 0.5).widths == (128, 64, 32, 16)  # the demo's
    assert Shape.preset(32).widths == Shape.preset(64).widths == (256, 128, 64, 32)
    counts = []
    for side in (64, 128, 256, 512):
        shape = Shape.preset(side)
        assert shape.widths[-3:] == (128, 64, 32)
        assert Shape.preset(side, 2).widths == tuple(2 * width for width in shape.widths)
        counts.append(sum(p.numel() for p in Generator(shape).parameters()) / 1e6)
    assert counts == pytest.approx([1.0, 1.8, 2.6, 3.4], abs=0.05)


@pytest.mark.parametrize(
    "text",
    [
        *("", "[]", "{}", '{"side": 64, "widths": [8]}', '{"side": 1e9, "widths": [64]}', '{"side": 4, "widths": []}'),
        *('{"side": 32, "widths": [8, 8, 8, 8], "blocks": 24}', '{"side": 8, "widths": [8, 4096]}'),
    ],
)
def test_a_shape_that_is_none_is_refused(text):
    with pytest.raises(CalotypeError):
        Shape.from_json(text, "a file")


def test_the_demo_ships_its_pictures():
    gallery = of_demo(64)
    assert gallery.pictures.shape == (COUNT, 3, 64, 64)
    assert (gallery.pictures[-1] != 255).any() and (gallery.pictures[:, :, 0, 0] > 240).float().mean() > 0.9


def test_pictures_that_are_all_alike_are_refused(engine, tmp_path):
    for n in range(10):
        Image.new("RGB", (40, 40), (200, 30, 30)).save(tmp_path / f"{n}.png")
    with pytest.raises(CalotypeError, match="the 10 training pictures are all alike"):
        list(engine.run(asked(tmp_path, tmp_path / "out")))
