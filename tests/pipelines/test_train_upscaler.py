"""Learning to enlarge, for real and small: every step of the run, the file, and going on."""

import dataclasses
import json
import math
import os
import re
import signal
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from skimage.data import astronaut

from calotype.engine import Engine
from calotype.errors import CalotypeError
from calotype.files import run_lock
from calotype.ops.degrade import SecondOrder, second_order
from calotype.picture import Picture
from calotype.pipelines.train_upscaler import discriminator_of, make_batch, make_test
from calotype.tasks import Note, Progress, TrainUpscaler, Upscale
from calotype.training.data.patches import HighRes, cut_patch, open_images, sharpened
from calotype.training.enhance import loop as enhancing
from calotype.training.enhance.gan_step import AdversarialTrainer, Batch
from calotype.training.enhance.run import FEW, KINDS, training_patches
from calotype.training.run.result import TrainResult
from calotype.training.run.resume import load, save

TINY = {"model": "none", "network": "srvgg", "num_feat": 16, "num_block": 2, "gt_size": 64, "batch_size": 2}
TINY |= {"discriminator_feat": 8, "learning_rate": 2e-3, "mixed_precision": "no", "perceptual": "none"}


@pytest.fixture(scope="module")
def engine(settings):
    return Engine(dataclasses.replace(settings, precision="float32"))


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("фото 1")
    whole = astronaut()
    for n, (y, x) in enumerate([(0, 130), (0, 250), (180, 60), (256, 256), (300, 100)]):
        Image.fromarray(whole[y : y + 128, x : x + 128]).save(folder / f"{n}.png")
    return folder


def learn(engine, photos, out, stop=None, **options):
    """All events; with `stop` the run is closed after so many steps."""
    told, run = [], engine.run(TrainUpscaler(photos=photos, output_dir=out, **{**TINY, **options}))
    for event in run:
        told.append(event)
        if stop and isinstance(event, Progress) and event.what == "steps" and event.done == stop:
            run.close()
            break
    return told


SHAPE = ("network", "num_feat", "num_block")  # of a new network


def without(*names):
    return {name: value for name, value in TINY.items() if name not in names}


def said(told):
    return "\n".join(event.text for event in told if isinstance(event, Note))


@pytest.fixture(scope="module")
def run(engine, photos, tmp_path_factory):
    """A run through both stages, with all that is there to be seen."""
    out = tmp_path_factory.mktemp("run")
    options = {"l1_steps": 30, "gan_steps": 10, "gan_warmup_steps": 4, "validate_every": 20, "perceptual": "auto"}
    return learn(engine, photos, out, validation_split=0.4, **options), out


def test_the_file_enlarges_pictures(run, engine, photos):
    """The round trip: trained here, opened by spandrel, used by upscale."""
    told, out = run
    learned = told[-1]
    assert isinstance(learned, TrainResult) and learned.path == out / "upscaler.safetensors" and learned.pictures == 3
    pth = torch.load(out / "upscaler.pth", weights_only=True)["params_ema"]
    state = load_file(learned.path)
    assert pth.keys() == state.keys() and all(torch.equal(pth[key], state[key]) for key in state)
    *_, result = engine.run(Upscale(source=photos / "0.png", model=str(out / "upscaler.pth"), scale=4))
    assert result.picture.pixels.shape == (512, 512, 3)
    *_, other = engine.run(Upscale(source=photos / "0.png", model=str(learned.path), scale=4))
    assert np.array_equal(result.picture.pixels, other.picture.pixels)


def test_it_learns(run):
    told, out = run
    lines = [json.loads(line) for line in (out / "upscaler.log.jsonl").read_text("utf-8").splitlines()]
    psnr = {line["step"]: line["PSNR in dB/held back"] for line in lines if "PSNR in dB/held back" in line}
    assert list(psnr) == [0, 20, 40] and psnr[40] > psnr[0] + 0.3
    assert re.search(r"step 40: \d+\.\d\d dB on 2 validation pictures", said(told))


def test_the_second_stage_is_a_contest(run):
    _, out = run
    lines = [json.loads(line) for line in (out / "upscaler.log.jsonl").read_text("utf-8").splitlines()]
    steps = {line["step"]: line for line in lines if "loss/current" in line}
    assert "Verdict/real" not in steps[30] and "Adversary/network" not in steps[34]
    assert "Verdict/real" in steps[31] and "Adversary/network" in steps[35]


def test_samples_stand_side_by_side(run):
    _, out = run
    names = sorted(path.name for path in (out / "sample").iterdir())
    assert names == [f"upscaler_{step:06d}_{n:02d}.png" for step in (0, 20, 40) for n in (0, 1)]
    assert Picture.open(out / "sample" / names[-1]).pixels.shape == (64, 192, 3)
    page = (out / "report.html").read_text("utf-8")
    assert 'class="wide"' in page and "PSNR in dB" in page and "finished after 40 steps" in page.lower()
    assert not (out / "upscaler-good.pth").exists() and not (out / "upscaler.state.safetensors").exists()


@pytest.mark.slow
def test_going_on_gives_the_same_file(engine, photos, tmp_path):
    options = {"l1_steps": 3, "gan_steps": 4, "gan_warmup_steps": 2, "save_state_every": 1}
    whole = learn(engine, photos, tmp_path / "whole", **options)
    learn(engine, photos, tmp_path / "parts", stop=2, **options)
    assert not (tmp_path / "parts" / "upscaler.pth").exists()
    learn(engine, photos, tmp_path / "parts", stop=6, **options)
    told = learn(engine, photos, tmp_path / "parts", **options)
    assert "going on after step" in said(told)
    assert told[-1].losses == whole[-1].losses
    assert told[-1].path.read_bytes() == whole[-1].path.read_bytes()


def test_other_settings_do_not_go_on(engine, photos, tmp_path):
    learn(engine, photos, tmp_path, stop=2, gan_steps=4, save_state_every=1)
    with pytest.raises(CalotypeError, match="other pictures or settings; delete it"):
        learn(engine, photos, tmp_path, gan_steps=4, rotate=True)
    with pytest.raises(CalotypeError, match=r"is of a run with a second stage \(gan_steps\)"):
        learn(engine, photos, tmp_path, l1_steps=4, gan_steps=0)


def rates_of(out):
    lines = map(json.loads, (out / "upscaler.log.jsonl").read_text("utf-8").splitlines())
    return {line["step"]: (line["lr/network"], line["lr/discriminator"]) for line in lines if "lr/network" in line}


def test_another_rate_goes_on_from_the_state(engine, photos, tmp_path):
    options = {"l1_steps": 2, "gan_steps": 4, "gan_warmup_steps": 1, "save_state_every": 1}
    learn(engine, photos, tmp_path, stop=3, **options)
    told = learn(engine, photos, tmp_path, **options, learning_rate=1e-3, gan_weight=0.05)
    assert "going on after step 3 of 6, with another gan_weight and learning_rate than before" in said(told)
    rates = rates_of(tmp_path)
    assert rates[3] == (2e-3, 1e-4) and rates[4] == rates[6] == (1e-3, 1e-4)


def test_what_is_kept_at_the_end_is_learnt_on_with_more_steps(engine, photos, tmp_path):
    """As if all of them had been asked for at once: the constant rate is the same."""
    options = {"l1_steps": 2, "gan_warmup_steps": 1, "save_state": True}
    whole = learn(engine, photos, tmp_path / "whole", gan_steps=4, **options)
    learn(engine, photos, tmp_path / "parts", gan_steps=2, **options)
    with pytest.raises(CalotypeError, match="from a run that ended after 4 steps; give more steps"):
        learn(engine, photos, tmp_path / "parts", gan_steps=2, **options)
    told = learn(engine, photos, tmp_path / "parts", gan_steps=4, **options)
    assert "going on after step 4 of 6, with another gan_steps than before" in said(told)
    assert told[-1].losses == whole[-1].losses
    assert told[-1].path.read_bytes() == whole[-1].path.read_bytes()
    assert (tmp_path / "parts/upscaler.state.safetensors").is_file()


@pytest.mark.parametrize(
    "steps, why",
    [
        ({"l1_steps": 1, "gan_steps": 1}, "has 3 steps behind it, and 2 are asked for; give more"),
        ({"l1_steps": 1, "gan_steps": 9}, "in its second stage, after 2 steps of the first; give l1_steps 2"),
        ({"l1_steps": 5, "gan_steps": 9}, "in its second stage, after 2 steps of the first; give l1_steps 2"),
    ],
)
def test_no_step_is_taken_back(engine, photos, tmp_path, steps, why):
    learn(engine, photos, tmp_path, stop=3, l1_steps=2, gan_steps=4)
    with pytest.raises(CalotypeError, match=why):
        learn(engine, photos, tmp_path, **steps)


def test_stage_one_is_made_longer_only_while_it_lasts(engine, photos, tmp_path):
    learn(engine, photos, tmp_path, stop=3, l1_steps=4, gan_steps=2)
    with pytest.raises(CalotypeError, match="has 3 steps of stage one behind it; give as many l1_steps"):
        learn(engine, photos, tmp_path, l1_steps=2, gan_steps=9)
    told = learn(engine, photos, tmp_path, l1_steps=5, gan_steps=1, gan_warmup_steps=0)
    assert "after step 3 of 6, with another gan_steps and gan_warmup_steps and l1_steps than" in said(told)
    lines = map(json.loads, (tmp_path / "upscaler.log.jsonl").read_text("utf-8").splitlines())
    judged = [line["step"] for line in lines if "Adversary/network" in line]
    assert judged == [6]


@pytest.mark.slow
def test_minutes_that_are_over_are_learnt_on_with_more(engine, photos, tmp_path):
    """Whatever the stages were shared out to, none is gone back to."""
    options = {"l1_steps": 30, "gan_steps": 10, "validate_every": 10_000, "save_state": True}
    told = learn(engine, photos, tmp_path, minutes=0.005, **options)
    done = len(told[-1].losses)
    state = load(tmp_path / "upscaler.state.safetensors")
    assert state.step == done == int(state.weights["spans"][:2].sum())
    with pytest.raises(CalotypeError, match=f"from a run that ended after {done} steps"):
        learn(engine, photos, tmp_path, minutes=0.005, **options)
    told = learn(engine, photos, tmp_path, minutes=0.05, **options)
    assert re.search(rf"going on after step {done} of \d+, with another minutes than before", said(told))
    assert len(told[-1].losses) > done
    spans = load(tmp_path / "upscaler.state.safetensors").weights["spans"]
    assert spans[0] == state.weights["spans"][0] or state.weights["spans"][1] == 0


def test_a_loss_that_is_no_number_ends_the_run(engine, photos, tmp_path):
    options = {"l1_steps": 30, "gan_steps": 0, "save_state_every": 1}
    learn(engine, photos, tmp_path, stop=3, **options)
    path = tmp_path / "upscaler.state.safetensors"
    state = load(path)
    state.weights["network.body.0.weight"][0] = math.nan
    save(path, state)
    with pytest.raises(CalotypeError, match=r"NaN since step 4.*learning_rate"):
        learn(engine, photos, tmp_path, **options)
    assert load(path).step == 3 and not (tmp_path / "upscaler.pth").exists()


@pytest.mark.parametrize("validation_split", [0.4, 0.0])
def test_a_network_that_falls_apart_is_noticed(engine, photos, tmp_path, validation_split):
    """Real parts; only the fall itself is brought about by hand."""
    from calotype.pipelines import train_upscaler
    from calotype.training.monitor.monitor import Monitor

    task = TrainUpscaler(photos=photos, output_dir=tmp_path, validation_split=validation_split, **TINY)
    runs = []

    def caught(run):
        runs.append(run)
        return iter(())

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train_upscaler, "train", caught)
        list(engine.run(task))
    (run,) = runs
    watch = Monitor(tmp_path, "upscaler", (0, 10, 0), torch.device("cpu"), {})
    run.state.step = 5
    list(enhancing.evaluate_step(run, watch))
    good = (tmp_path / "upscaler-good.pth").read_bytes()
    with torch.no_grad():
        for parameter in run.trainer.ema.parameters():
            parameter.add_(1.0)
    run.state.step = 10
    fall, drawn = enhancing.evaluate_step(run, watch)
    assert drawn.look().shape[2] == 3 and max(drawn.look().shape) <= 1024
    watch.close()
    assert re.search(r"has collapsed\. upscaler-good is the last one", fall.text) and not run.is_sound
    assert (tmp_path / "upscaler-good.pth").read_bytes() == good
    assert enhancing.restore_good(run).name == "upscaler.safetensors"
    assert (tmp_path / "upscaler.pth").read_bytes() == good and not (tmp_path / "upscaler-good.pth").exists()
    assert enhancing.restore_good(run).name == "upscaler.safetensors"  # what it ended in before it went on
    for kind in KINDS:
        (tmp_path / f"upscaler{kind}").unlink()
    with pytest.raises(CalotypeError, match="it was never good"):
        enhancing.restore_good(run)


def test_where_nothing_is_held_back_the_end_is_the_last_sound_network(engine, photos, tmp_path, monkeypatch):
    def stepped(rivals, step, *given):
        told = step_of(rivals, step, *given)
        if step == 4:
            with torch.no_grad():
                for parameter in rivals.ema.parameters():
                    parameter.fill_(1.0)
        return told

    step_of = AdversarialTrainer.step
    monkeypatch.setattr(AdversarialTrainer, "step", stepped)
    options = {"l1_steps": 6, "gan_steps": 0, "validate_every": 2, "validation_split": 0.0}
    told = learn(engine, photos, tmp_path, **options)
    assert "there are no validation pictures, so training patches are measured" in said(told)
    assert re.search(r"step 4: \d+\.\d\d dB on 8 training patches", said(told))
    assert "step 6" in said(told) and "the network has collapsed at the end" in said(told)
    state = load_file(told[-1].path)
    assert not any((value == 1.0).all() for value in state.values())
    assert not (tmp_path / "upscaler-good.pth").exists() and (tmp_path / "sample/upscaler_000004_03.png").is_file()
    page = (tmp_path / "report.html").read_text("utf-8")
    assert "PSNR in dB" in page and "learnt from" in page


def test_a_collapse_at_the_end_is_remembered_where_the_run_goes_on_behind_it(engine, photos, tmp_path, monkeypatch):
    monkeypatch.setattr(enhancing, "MAX_DROP", -1000.0)  # nothing is sound after the first look
    options = {"l1_steps": 3, "gan_steps": 0, "validation_split": 0.0}
    run = engine.run(TrainUpscaler(photos=photos, output_dir=tmp_path, **{**TINY, **options}))
    for event in run:
        if isinstance(event, Note) and "step 3" in event.text:
            break
    state = tmp_path / "upscaler.state.safetensors"
    run.close()
    assert load(state).step == 3
    save(state, dataclasses.replace(load(state), is_complete=True))
    with pytest.raises(CalotypeError, match="it was never good"):
        learn(engine, photos, tmp_path, **options)


def test_pieces_with_something_to_mend_are_measured_first():
    """Faces are also shown as they are; what is made of these says little."""
    true = torch.rand(2, 3, 8, 8)
    tests = training_patches(lambda step: Batch(torch.stack([true[0], true[1] * 0.5]), true, true))
    assert len(tests) == FEW and not any(torch.equal(test.low, test.true) for test in tests)
    tests = training_patches(lambda step: Batch(true, true, true))
    assert len(tests) == FEW


@pytest.mark.parametrize("l1_gt_usm", [True, False])
def test_it_is_measured_as_it_is_taught(photos, l1_gt_usm):
    """PSNR would fall otherwise while the network learns to sharpen."""
    task = TrainUpscaler(photos=photos, l1_gt_usm=l1_gt_usm, **TINY)
    sharp = [event for event in open_images(photos, 10**6) if isinstance(event, HighRes)]
    cut = cut_patch(sharp[0].pixels, 64)
    test = make_test(sharp[0], task, 4, 0)
    assert torch.equal(test.true, sharpened(cut[None])[0] if l1_gt_usm else cut)
    assert not torch.equal(sharpened(cut[None])[0], cut)
    low = second_order(test.true[None], torch.Generator().manual_seed(0), SecondOrder(4))[0]
    assert torch.equal(test.low, low)
    taught = [make_batch(task, sharp, 4, torch.device("cpu"), -1 - n).target for n in range(8)]
    seen = training_patches(partial(make_batch, task, sharp, 4, torch.device("cpu")))
    assert all(any(torch.equal(test.true, x) for x in torch.cat(taught)) for test in seen)


def test_what_a_run_has_ended_in_is_not_written_over(engine, photos, tmp_path):
    options = {"l1_steps": 2, "gan_steps": 0}
    learn(engine, photos, tmp_path, **options)
    before = (tmp_path / "upscaler.pth").read_bytes()
    with pytest.raises(CalotypeError, match="is there already, from a run that ended; give another output_name"):
        learn(engine, photos, tmp_path, **options, seed=5)
    assert (tmp_path / "upscaler.pth").read_bytes() == before


@pytest.mark.parametrize("dry_run", [True, False])
@pytest.mark.parametrize(
    "there, why", [("out", "out is a file, not a folder"), ("out/upscaler.pth", "upscaler.pth is there already")]
)
def test_where_it_cannot_write_is_said_before_any_picture_is_read(engine, photos, tmp_path, there, why, dry_run):
    (tmp_path / there).parent.mkdir(exist_ok=True)
    (tmp_path / there).write_bytes(b"kept")
    out = tmp_path / "out" if there != "out" else tmp_path / "out" / "within"
    run, told = engine.run(TrainUpscaler(photos=photos, output_dir=out, dry_run=dry_run, **TINY)), []
    with pytest.raises(CalotypeError, match=f"{why}.*; give another output"):
        told.extend(run)
    assert not told and (tmp_path / there).read_bytes() == b"kept"


@pytest.mark.parametrize("kind", KINDS)
def test_the_last_sound_network_of_a_run_that_was_broken_off_is_not_thrown_away(engine, photos, tmp_path, kind):
    options = {"l1_steps": 3, "gan_steps": 0, "validate_every": 1}
    learn(engine, photos, tmp_path, stop=2, **options)
    (tmp_path / "upscaler.state.safetensors").unlink()
    good = tmp_path / f"upscaler-good{kind}"
    before = good.read_bytes()
    for other in set(KINDS) - {kind}:
        (tmp_path / f"upscaler-good{other}").unlink()
    with pytest.raises(CalotypeError, match=f"{good.name} is there already, the last good network"):
        learn(engine, photos, tmp_path, **options)
    assert good.read_bytes() == before and not (tmp_path / "upscaler.pth").exists()


def test_stopped_anywhere_it_goes_on_from_there_and_looks_at_what_is_due(engine, photos, tmp_path):
    options = {"l1_steps": 4, "gan_steps": 2, "gan_warmup_steps": 1, "validate_every": 3, "validation_split": 0.4}
    whole = learn(engine, photos, tmp_path / "whole", **options)
    learn(engine, photos, tmp_path / "parts", stop=3, **options)
    told = learn(engine, photos, tmp_path / "parts", **options)
    assert "going on after step 3 of 6" in said(told) and "step 3: " in said(told)
    assert told[-1].path.read_bytes() == whole[-1].path.read_bytes()


def test_an_interrupt_within_a_step_loses_nothing_of_what_is_due_behind_it(engine, photos, tmp_path, monkeypatch):
    options = {"l1_steps": 4, "gan_steps": 0, "validate_every": 3, "validation_split": 0.4}
    whole = learn(engine, photos, tmp_path / "whole", **options)

    def stopped(rivals, step, *given):
        if step == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return step_of(rivals, step, *given)

    step_of = AdversarialTrainer.step
    monkeypatch.setattr(AdversarialTrainer, "step", stopped)
    with pytest.raises(KeyboardInterrupt):
        learn(engine, photos, tmp_path / "parts", **options)
    monkeypatch.undo()
    state = load(tmp_path / "parts/upscaler.state.safetensors")
    assert state.step == 3 and not state.is_complete
    told = learn(engine, photos, tmp_path / "parts", **options)
    assert "going on after step 3 of 4" in said(told) and "step 3: " in said(told)
    assert told[-1].path.read_bytes() == whole[-1].path.read_bytes()
    kept = [sorted(path.name for path in (tmp_path / name / "sample").iterdir()) for name in ("whole", "parts")]
    assert kept[0] == kept[1]
    logs = [(tmp_path / name / "upscaler.log.jsonl").read_text("utf-8").splitlines() for name in ("whole", "parts")]
    losses = [[line["loss/current"] for line in map(json.loads, log) if "loss/current" in line] for log in logs]
    assert losses[0] == losses[1] and len(losses[0]) == 4


def test_one_is_told_as_one(engine, photos, tmp_path):
    told = learn(engine, photos, tmp_path, l1_steps=1, gan_steps=0, validation_split=0.2, batch_size=1)
    assert re.search(r"step 1: \d+\.\d\d dB on 1 validation picture", said(told))
    assert "1 step with the L1 loss only; batches of 1 patch of 64 pixels" in said(told)


@pytest.mark.slow
def test_minutes_become_steps(engine, photos, tmp_path):
    told = learn(engine, photos, tmp_path, minutes=0.02, l1_steps=300, gan_steps=100, validate_every=10_000)
    steps = int(re.search(r"minutes are about (\d+) steps", said(told))[1])
    assert 1 < len(told[-1].losses) <= steps and all(map(math.isfinite, told[-1].losses))


@pytest.mark.parametrize(
    "options, plan",
    [
        ({}, r"100 steps with the L1 loss only, as the network is new .*, then 40 steps with L1 and GAN losses"),
        ({"l1_steps": 3}, "3 steps with the L1 loss only, then 40 steps with L1 and GAN losses"),
        ({"l1_steps": 0}, "^40 steps with L1 and GAN losses"),
        ({"model": "realesr-animevideov3-x4"}, "^40 steps with L1 and GAN losses"),
    ],
)
def test_a_new_network_is_not_judged_before_it_knows_anything(engine, photos, tmp_path, options, plan):
    given = without(*SHAPE) if "model" in options else TINY
    told = engine.run(
        TrainUpscaler(photos=photos, output_dir=tmp_path, dry_run=True, **{**given, "gan_steps": 40, **options})
    )
    assert re.search(plan, said(told), re.M)


def test_a_bad_picture_is_left_out(engine, photos, tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "a.png").write_bytes((photos / "0.png").read_bytes())
    (folder / "b.png").write_bytes(b"no picture")
    told = learn(engine, folder, tmp_path / "out", dry_run=True)
    assert "left out: b.png" in said(told) and "1 picture to train on, 0 for validation" in said(told)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "options, why",
    [
        ({"photos": "none"}, "there is no folder"),
        ({"photos": "empty"}, "has no pictures to train on"),
        ({"gt_size": 48}, "multiple of 32"),
        ({"scale": 3}, "scale is 1, 2 or 4"),
    ],
)
def test_what_cannot_be_is_said_in_a_sentence(engine, photos, tmp_path, options, why):
    (tmp_path / "empty").mkdir()
    given = dict(options)
    if "photos" in given:
        photos = tmp_path / given.pop("photos")
    with pytest.raises(CalotypeError, match=why):
        learn(engine, photos, tmp_path / "out", **given)


def test_files_of_something_else_are_said_in_a_sentence(engine, photos, tmp_path):
    options = {"photos": photos, "output_dir": tmp_path}
    with pytest.raises(CalotypeError, match="faces-v2 is"):
        list(engine.run(TrainUpscaler(**options, **{**without(*SHAPE), "model": "faces-v2"})))
    for state in ({"x": torch.zeros(2)}, {"conv0.weight": torch.zeros(())}, {"conv0.weight": torch.zeros(400, 0)}):
        torch.save({"params": state}, tmp_path / "d.pth")
        with pytest.raises(CalotypeError, match="is not Real-ESRGAN's discriminator"):
            list(
                engine.run(TrainUpscaler(**options, discriminator=tmp_path / "d.pth", **without("discriminator_feat")))
            )


@pytest.mark.slow
def test_the_discriminator_is_kept_and_gone_on_from(engine, photos, tmp_path):
    options = {"gan_steps": 3, "gan_warmup_steps": 1, "save_state": True, "save_discriminator": True}
    learn(engine, photos, tmp_path, **options)
    path = tmp_path / "upscaler-discriminator.safetensors"
    weights = load(tmp_path / "upscaler.state.safetensors").weights
    task = TrainUpscaler(photos=photos, output_dir=tmp_path, discriminator=path, **without("discriminator_feat"))
    kept = discriminator_of(task).state_dict()
    assert kept and all(torch.equal(value, weights[f"expert.{key}"]) for key, value in kept.items())
    other = {**options, "discriminator_feat": 64, "discriminator": path}  # 64 is the option's own default
    assert isinstance(learn(engine, photos, tmp_path / "other", **other)[-1], TrainResult)
    for left in tmp_path.glob("upscaler.*"):
        left.unlink()
    with pytest.raises(CalotypeError, match=r"upscaler-discriminator\.safetensors is there already"):
        learn(engine, photos, tmp_path, **options)


@pytest.mark.parametrize(
    "options, why",
    [
        ({"scale": 2, "num_feat": 8}, "realesrgan-x4plus sets the architecture.*so num_feat has no effect"),
        ({"gan_steps": 0, "l1_steps": 1, "save_discriminator": True}, "so save_discriminator has no effect"),
        ({"network": "srvgg"}, "so network has no effect; leave it out"),
        ({"vgg": Path("vgg.pth"), "perceptual": "lite"}, "vgg has no effect with perceptual lite"),
        ({"perceptual_weight": 2.0, "perceptual": "none"}, "so perceptual_weight has no"),
        ({"discriminator": Path("netD.pth"), "discriminator_feat": 32}, "netD.pth sets.*so discriminator_feat has no"),
    ],
)
def test_what_would_go_unheard_is_refused(options, why):
    with pytest.raises(CalotypeError, match=why):
        TrainUpscaler(photos=Path("photos"), **options)
    TrainUpscaler(photos=Path("photos"), model="none", num_feat=8, scale=2, network="srvgg")


def test_only_one_run_at_a_time_writes_a_name(engine, photos, tmp_path):
    options = {"l1_steps": 1, "gan_steps": 0}
    with run_lock(tmp_path, "upscaler"):
        with pytest.raises(CalotypeError, match=r"another run is at work on .*upscaler; wait for it"):
            learn(engine, photos, tmp_path, **options)
        assert "to train on" in said(learn(engine, photos, tmp_path, dry_run=True, **options))
    assert not list(tmp_path.iterdir())
    assert isinstance(learn(engine, photos, tmp_path, **options)[-1], TrainResult)
    assert not (tmp_path / "upscaler.running").exists()
