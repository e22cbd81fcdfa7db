"""A latent diffusion model from nothing, at toy size: each stage learns, goes on exactly, and the folder draws."""

import copy
import io
import itertools
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from types import SimpleNamespace

import pytest
import torch
from PIL import Image, ImageDraw
from safetensors.torch import load_file
from tokenizers.decoders import ByteLevel

from calotype.checkpoints.tokenizer import tokenizer_in, trained_tokenizer
from calotype.errors import CalotypeError
from calotype.pipelines import train_diffusion as pipeline
from calotype.pipelines.train_diffusion import TrainResult
from calotype.record import Result
from calotype.tasks import Imagine, Learning, Note, TrainDiffusion
from calotype.training.data.captioned import read_pairs
from calotype.training.diffusion import evaluator as diffusion_seen
from calotype.training.diffusion import retrieval
from calotype.training.diffusion.autoencoder import normalize_latents
from calotype.training.diffusion.networks import Compute, new_vae
from calotype.training.monitor.metrics_log import read_metrics_log
from calotype.training.run import time_budget as clock
from calotype.training.run.resume import load

COLOURS = {"red": "红", "blue": "蓝"}
SMALL = {"resolution": 32, "vae_channels": "32,32", "unet_channels": "32,32", "text_width": 32, "text_layers": 1}
SMALL |= {"vocab_size": 600, "vae_batch_size": 2, "train_batch_size": 4, "mixed_precision": "no"}
SMALL |= {"vae_train_steps": 8, "max_train_steps": 8, "sample_count": 0, "validation_split": 0.2}
WEIGHTS = ("unet/diffusion_pytorch_model", "vae/diffusion_pytorch_model", "text_encoder/model")


@pytest.fixture(scope="module", autouse=True)
def few_steps():
    """What is held back is drawn in few: it takes a fifth of a run this small otherwise."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(retrieval, "STEPS", 4)
        yield


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Networks this small lose more by sharing than they win."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def drawing(colour, n):
    image = Image.new("RGB", (32, 32), "white")
    ImageDraw.Draw(image).ellipse((4 + n, 6, 20 + n, 24), fill=colour)
    return image


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    for n in range(6):
        name = list(COLOURS)[n % 2]
        (folder / f"{n % 2 + 1}_{name}s").mkdir(exist_ok=True)
        path = folder / f"{n % 2 + 1}_{name}s" / f"{n}.png"
        drawing(name, n).save(path)
        path.with_suffix(".txt").write_text(f"{name} circle\n{COLOURS[name]}色的圆\n", "utf-8")
    return folder


@pytest.fixture(scope="module")
def learn(engine, pictures):
    """Closed after the step `stop`."""

    def run(out, stop=None, **options):
        told, steps = [], engine.run(TrainDiffusion(photos=pictures, output_dir=out, **{**SMALL, **options}))
        for step in steps:
            told.append(step)
            if stop and isinstance(step, Learning) and step.done == stop:
                steps.close()
                break
        return told

    return run


@pytest.fixture(scope="module")
def whole(learn, tmp_path_factory):
    out = tmp_path_factory.mktemp("whole")
    return learn(out, save_state_every=3), out


def test_what_is_learnt_is_a_folder_that_draws(whole, engine):
    told, out = whole
    assert isinstance(told[-1], TrainResult) and told[-1].path == out / "diffusion"
    task = Imagine(prompt="红色的圆", model=str(out / "diffusion"), steps=2, seed=1)
    (drawn,) = [event for event in engine.run(task) if isinstance(event, Result)]
    assert drawn.picture.pixels.shape == (32, 32, 3)
    assert drawn.record.options["schedule"] == "sgm uniform"  # as a model without signal at its end is drawn
    assert sorted(path.name for path in out.iterdir()) == ["diffusion", "diffusion.log.jsonl", "report.html", "sample"]


def test_the_folder_has_the_scale_of_the_run(whole, engine):
    """Latents of another scale than the run's: every picture came out in one colour."""
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

    folder = whole[1] / "diffusion"
    vaes = (engine.models.diffusion(str(folder)).vae, AutoencoderKL.from_pretrained(folder / "vae"))
    assert [vae.config.scaling_factor for vae in vaes] == [1.0, 1.0]


def test_both_stages_are_told_of_and_what_is_held_back_is_looked_for(whole):
    told, out = whole
    names = {name for line in read_metrics_log(out / "diffusion.log.jsonl") for name in line}
    assert {"vae/current", "vae/adversarial", "vae/discriminator", "loss/current", "psnr/pictures held back"} <= names
    assert told[-1].extra["held_out"]["of"] == 1
    assert any("closest to the true one" in said.text for said in told if isinstance(said, Note))


@pytest.mark.many(plain=1)
@pytest.mark.parametrize("stops", [(4, 7), (11,)])  # within each stage; the adversarial loss begins with step 6
def test_a_run_that_is_stopped_learns_the_same(whole, learn, tmp_path, stops):
    for stop in (*stops, None):
        learn(tmp_path, stop)
        assert not stop or load(tmp_path / "diffusion.state.safetensors").step == stop
    assert same(whole[1], tmp_path)


def same(one, other):
    """Whether what was learnt is the same to the last bit."""
    return all(
        torch.equal(value, load_file(f"{other}/diffusion/{name}.safetensors")[key])
        for name in WEIGHTS
        for key, value in load_file(f"{one}/diffusion/{name}.safetensors").items()
    )


@pytest.mark.slow
def test_an_interrupt_within_a_step_keeps_that_step(whole, learn, tmp_path, monkeypatch):
    for learns, step in ((pipeline.AutoencoderTrainer, 3), (pipeline.DenoiserTrainer, 5)):
        own = learns.step

        def stopped(self, n, share, own=own, last=step):
            if n == last:
                os.kill(os.getpid(), signal.SIGINT)
            return own(self, n, share)

        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(learns, "step", stopped)
            learn(tmp_path)
        kept = load(tmp_path / "diffusion.state.safetensors")
        assert kept.step == len(kept.losses) == step + 1 + (8 if learns is pipeline.DenoiserTrainer else 0)
    learn(tmp_path)
    assert same(whole[1], tmp_path)


@pytest.mark.slow
def test_an_interrupt_between_steps_keeps_the_last_one(whole, learn, tmp_path, monkeypatch):
    """While pictures are given back, between the stages, while samples are drawn, the model is tried and written."""

    def stopped(*given):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.1)

    places = [
        (pipeline.DiffusionEvaluator, "log_reconstructions", 6),
        (pipeline.autoencoder, "normalize_latents", 8),
        (pipeline.DiffusionEvaluator, "validate_and_sample", 16),
    ]
    for where, name, step in [*places, (diffusion_seen, "retrieval_score", 16), (pipeline, "write_folder", 16)]:
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(where, name, stopped)
            learn(tmp_path)
        assert load(tmp_path / "diffusion.state.safetensors").step == step
    told = learn(tmp_path)
    assert same(whole[1], tmp_path) and told[-1].losses == whole[0][-1].losses


def test_two_runs_cannot_write_the_same_names(learn, engine, pictures, tmp_path):
    first = engine.run(TrainDiffusion(photos=pictures, output_dir=tmp_path, **SMALL))
    next(event for event in first if isinstance(event, Learning))
    with pytest.raises(CalotypeError, match="another run is at work"):
        learn(tmp_path)
    learn(tmp_path, dry_run=True)
    learn(tmp_path, 1, output_name="other")
    first.close()
    assert not list(tmp_path.glob("*.running"))
    learn(tmp_path / "none", dry_run=True)
    assert not (tmp_path / "none").exists()


def before_the_first_step(run):
    return itertools.takewhile(lambda event: not isinstance(event, Learning), run)


@pytest.mark.slow
@pytest.mark.parametrize("stop", [3, None])
def test_what_another_run_did_meanwhile_is_seen(engine, pictures, tmp_path, stop):
    shutil.copytree(pictures, tmp_path / "set")
    (tmp_path / "set" / "no.png").write_text("no picture")
    task = TrainDiffusion(photos=tmp_path / "set", output_dir=tmp_path / "out", **SMALL)
    waiting, other = engine.run(task), engine.run(task)
    assert next(event for event in waiting if isinstance(event, Note)).text.startswith("left out: ")
    for event in other:
        if stop and isinstance(event, Learning) and event.done == stop:
            break
    other.close()
    if stop:
        told = [event.text for event in before_the_first_step(waiting) if isinstance(event, Note)]
        assert f"going on after step {stop} of 16" in told
        waiting.close()
    else:
        with pytest.raises(CalotypeError, match="is there already; give another output_name"):
            next(event for event in waiting if isinstance(event, Learning))
    assert not list((tmp_path / "out").glob("*.running"))


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_the_command_is_stopped_by_ctrl_c_and_by_sigterm(learn, pictures, tmp_path):
    long = {"vae_train_steps": 30, "max_train_steps": 50}
    learn(tmp_path / "whole", **long)
    out, flags = tmp_path / "out", [f"--{name.replace('_', '-')}={value}" for name, value in {**SMALL, **long}.items()]
    command = [sys.executable, "-m", "calotype", "train", "diffusion", pictures, "--output-dir", out, "--json"]
    for kind, step in ((signal.SIGINT, 5), (signal.SIGTERM, 40), (None, 0)):
        running = subprocess.Popen([*command, *flags, "--device=cpu", "--threads=1"], stdout=subprocess.PIPE, text=True)
        for line in running.stdout:
            told = json.loads(line)
            if kind and told.get("what") == "steps" and told["done"] >= step:
                running.send_signal(kind)
                kind = None
        assert running.wait() == (130 if step else 0)
        assert not step or load(out / "diffusion.state.safetensors").step >= step
    assert same(tmp_path / "whole", out)


@pytest.fixture
def slow(monkeypatch):
    """A machine on which a step takes 100 ms, where 20 were counted on; only the run's clock knows of it."""
    now = [0.0]

    def slowed(step):
        def stepped(self, *given):
            now[0] += 0.1
            return step(self, *given)

        return stepped

    for learns in (pipeline.AutoencoderTrainer, pipeline.DenoiserTrainer):
        monkeypatch.setattr(learns, "step", slowed(learns.step))
    monkeypatch.setattr(pipeline.DiffusionRun, "_timed", lambda self, kind: 0.02)
    monkeypatch.setattr(clock, "time", SimpleNamespace(monotonic=lambda: now[0]))
    return now


@pytest.mark.slow
@pytest.mark.parametrize("stops", [(), (3, 15)])
def test_a_machine_that_becomes_slow_ends_in_time_and_leaves_nothing_out(learn, tmp_path, slow, stops):
    timed = {"vae_train_steps": 0, "max_train_steps": 0, "minutes": 0.04}
    for stop in (*stops, None):
        told = learn(tmp_path, stop, **timed)
    assert 0.9 * 60 * 0.04 < slow[0] < 1.1 * 60 * 0.04
    numbers = {
        name: value for line in read_metrics_log(tmp_path / "diffusion.log.jsonl") for name, value in line.items()
    }
    assert numbers["vae/adversarial"] and numbers["lr/vae"] < 0.05 * 1e-3 and numbers["lr/unet"] < 0.05 * 7e-4
    said = " ".join(event.text for event in told if isinstance(event, Note))
    assert re.search(r"the 0.04 minutes are over after \d+ of \d+ steps", said)
    first = sum("vae/current" in line for line in read_metrics_log(tmp_path / "diffusion.log.jsonl"))
    assert 0.2 < first / len(told[-1].losses) < 0.4  # the VAE's share


@pytest.mark.slow
def test_the_last_look_is_taken_when_time_runs_out_behind_a_step(learn, tmp_path, slow, monkeypatch):
    def saved(self):
        snapshot = save(self)
        if self.n:
            slow[0] = max(slow[0], self.stage.end)
        return snapshot

    save = pipeline.DiffusionRun._snapshot
    monkeypatch.setattr(pipeline.DiffusionRun, "_snapshot", saved)
    timed = {"vae_train_steps": 0, "max_train_steps": 0, "minutes": 0.08, "save_state_every": 1, "sample_count": 1}
    told = " ".join(event.text for event in learn(tmp_path, **timed) if isinstance(event, Note))
    assert "step 1: reconstructions of" in told and "step 2: validation loss" in told
    assert len(list((tmp_path / "sample").glob("diffusion_000002_*.png"))) > 0


@pytest.mark.slow
def test_a_look_that_leaves_no_time_for_another_step_is_the_last(learn, tmp_path, slow, monkeypatch):
    def sampled(self, learning, vae, done):
        steps.append(done)
        yield from sample(self, learning, vae, done)
        slow[0] += 1.2

    sample, steps = pipeline.DiffusionEvaluator.validate_and_sample, []
    monkeypatch.setattr(pipeline.DiffusionEvaluator, "validate_and_sample", sampled)
    timed = {"vae_train_steps": 0, "max_train_steps": 0, "minutes": 0.08, "sample_count": 4}
    assert steps == [len(learn(tmp_path, **timed)[-1].losses)]


@pytest.mark.slow
def test_a_run_that_goes_on_keeps_time_for_the_last_look(engine, pictures, tmp_path, slow, monkeypatch):
    def sampled(self, learning, vae, done):
        steps.append(done)
        slow[0] += 0.6
        yield from sample(self, learning, vae, done)

    sample, steps = pipeline.DiffusionEvaluator.validate_and_sample, []
    monkeypatch.setattr(pipeline.DiffusionEvaluator, "validate_and_sample", sampled)
    timed = {"vae_train_steps": 0, "max_train_steps": 0, "minutes": 0.08, "sample_count": 2}
    task = TrainDiffusion(photos=pictures, output_dir=tmp_path, **SMALL | timed)
    run = engine.run(task)
    assert next(event for event in run if isinstance(event, Learning) and steps)
    run.close()
    trained = list(engine.run(task))[-1]
    assert len(steps) == 2 and steps[-1] == len(trained.losses)
    assert slow[0] < 60 * 0.08


@pytest.mark.slow
def test_a_machine_that_stays_as_it_was_takes_the_steps_that_were_counted(learn, tmp_path, slow, monkeypatch):
    monkeypatch.setattr(pipeline.DiffusionRun, "_timed", lambda self, kind: 0.1)
    told = learn(tmp_path, vae_train_steps=0, max_train_steps=0, minutes=0.03)
    steps = [event for event in told if isinstance(event, Learning)]
    assert steps[-1].done == steps[0].total == len(told[-1].losses)
    assert 0.85 * 1.8 < slow[0] < 1.8 and not any("are over" in event.text for event in told if isinstance(event, Note))


@pytest.mark.slow
def test_a_run_whose_time_is_over_ends_with_what_it_has(learn, tmp_path, monkeypatch):
    monkeypatch.setattr(pipeline.DiffusionRun, "_remaining", lambda self: -1.0)
    trained = learn(tmp_path, validation_split=0.5)[-1]
    assert trained.path.is_dir() and trained.extra["held_out"]["of"] == 1  # of the three held back


@pytest.mark.slow
def test_losses_fall_in_both_stages(learn, tmp_path):
    options = {"vae_train_steps": 16, "max_train_steps": 20, "learning_rate": 3e-3, "vae_learning_rate": 3e-3}
    losses = learn(tmp_path, adversarial_share=0.0, **options)[-1].losses
    for stage in (losses[:16], losses[16:]):
        assert sum(stage[-6:]) < 0.95 * sum(stage[:6])


def test_a_tar_is_as_good_as_the_folder(pictures, tmp_path):
    with tarfile.open(tmp_path / "set.tar", "w") as tar:
        tar.add(pictures, ".")
        data = b"no picture"
        member = tarfile.TarInfo("zz.png")
        member.size = len(data)
        tar.addfile(member, io.BytesIO(data))
    *_, packed = read_pairs(tmp_path / "set.tar", 32)
    *_, plain = read_pairs(pictures, 32)
    assert torch.equal(packed.pixels, plain.pixels) and packed.pairs == plain.pairs
    assert plain.pairs[-1].weight == 2 and plain.pairs[-1].group == "blues"
    assert "zz.png" in str(packed.notes[0])


def test_captions_may_end_otherwise_and_missing_ones_are_told(tmp_path):
    for n in range(3):
        drawing("red", n).save(tmp_path / f"{n}.png")
    (tmp_path / "0.caption").write_text("one", "utf-8")
    *_, pairs = read_pairs(tmp_path, 32, "caption")
    assert pairs.pairs[0].captions == ("one",)
    assert any(str(n).startswith("2 of 3 pictures, such as 1.png, have no NAME.caption; ") for n in pairs.notes)


def test_one_picture_alone_is_learnt(engine, tmp_path):
    drawing("red", 0).save(tmp_path / "a.png")
    (tmp_path / "a.txt").write_text("red circle", "utf-8")
    short = SMALL | {"vae_train_steps": 2, "max_train_steps": 2}
    told = list(engine.run(TrainDiffusion(photos=tmp_path, output_dir=tmp_path / "out", **short)))
    assert told[-1].pictures == 1 and told[-1].extra == {"held_out": {"found": 0, "of": 0}}


def test_the_tokenizer_tells_every_language(whole):
    tokenizer = tokenizer_in(whole[1] / "diffusion/tokenizer")
    for text in ("red circle", "红色的圆", "ein ünbekanntes wort 😀"):
        tokens = [tokenizer.inner.id_to_token(n).replace("</w>", "Ġ") for n in tokenizer.encode(text)]
        assert ByteLevel().decode(tokens).split() == text.split()
    assert len(tokenizer.encode("红色的圆")) < len("红色的圆".encode()) and tokenizer.inner.get_vocab_size() <= 600


def test_chinese_characters_have_their_meaning_in_every_phrase():
    """A phrase that was learnt as one token would tell nothing of a new one with the same characters."""
    tokenizer = trained_tokenizer(["红色方形", "红色星形", "蓝色圆形", "red square", "blue circle"] * 9, 4096)
    learnt = {token for text in ("红色方形", "蓝色圆形") for token in tokenizer.encode(text)}
    assert set(tokenizer.encode("红色圆形")) <= learnt
    assert len(tokenizer.encode("红色圆形")) == 4 and len(tokenizer.encode("red square")) == 2


def test_latents_are_normalised_and_pictures_stay_as_they_were():
    vae = new_vae((32, 32), 4, 32, 0, Compute(torch.device("cpu"))).eval()
    x = torch.rand(8, 3, 32, 32) * 2 - 1
    with torch.no_grad():
        before, given = vae(x).sample, vae.encode(x).latent_dist.mean
        normalize_latents(vae, given)
        after, latents = vae(x).sample, vae.encode(x).latent_dist.mean
    torch.testing.assert_close(after, before, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(latents.mean((0, 2, 3)), torch.zeros(4), atol=1e-3, rtol=0)
    torch.testing.assert_close(latents.std((0, 2, 3)), torch.ones(4), atol=1e-3, rtol=0)


VAE_LOSS = (pipeline.AutoencoderTrainer, pipeline.autoencoder, "reconstruction_loss", 4)
UNET_LOSS = (pipeline.DenoiserTrainer, pipeline.DenoiserTrainer, "loss", 12)


@pytest.mark.parametrize(
    ("learns", "where", "name", "good", "how"),
    [
        (*VAE_LOSS, "loss"),
        (*UNET_LOSS, "gradient"),
        pytest.param(*VAE_LOSS, "gradient", marks=pytest.mark.slow),
        pytest.param(*UNET_LOSS, "loss", marks=pytest.mark.slow),
    ],
)
def test_steps_that_are_no_numbers_change_nothing_and_end_the_run(
    learn, tmp_path, monkeypatch, learns, where, name, good, how
):
    own, step, now = getattr(where, name), learns.step, [0]

    def stepped(self, n, share):
        now[0] = n
        return step(self, n, share)

    def spoilt(*given):
        value = own(*given)
        if now[0] >= 4 and how == "loss":
            return value * math.inf
        if now[0] >= 4:
            value.register_hook(lambda slope: slope * math.inf)
        return value

    monkeypatch.setattr(learns, "step", stepped)
    monkeypatch.setattr(where, name, spoilt)
    with pytest.raises(CalotypeError, match=f"step {good} is kept, and the same command with a lower"):
        learn(tmp_path)
    kept = load(tmp_path / "diffusion.state.safetensors")
    assert kept.step == len(kept.losses) == good
    assert all(torch.isfinite(value).all() for key, value in kept.weights.items() if "." in key)
    monkeypatch.undo()
    told = learn(tmp_path, vae_learning_rate=5e-4, learning_rate=5e-4)
    assert len(told[-1].losses) == 16
    assert f"going on after step {good} of 16, with another rate than before" in [getattr(e, "text", "") for e in told]


def spoiling(monkeypatch, learns, parts, after):
    """From a step on the weights become noise and the loss high; what they were after each step before."""
    own, kept = learns.step, []

    def step(self, n, share):
        loss, told = own(self, n, share)
        if n < after:
            kept.append({part: copy.deepcopy(getattr(self, part).state_dict()) for part in parts})
            return loss, told
        for part in parts:
            for weight in getattr(self, part).parameters():
                weight.data.normal_(0, 9)
        return loss + 9, told

    monkeypatch.setattr(learns, "step", step)
    return kept


@pytest.mark.slow
def test_an_autoencoder_that_has_become_worse_is_taken_as_it_was(learn, tmp_path, monkeypatch):
    kept = spoiling(monkeypatch, pipeline.AutoencoderTrainer, ["ema"], 6)
    options = {"sample_count": 2, "max_train_steps": 1, "save_precision": "float"}
    told = " ".join(getattr(event, "text", "") for event in learn(tmp_path, **options))
    assert "the autoencoder has collapsed" in told and "taken as it was at its best" in told
    learnt = load_file(f"{tmp_path}/diffusion/{WEIGHTS[1]}.safetensors")
    assert any(all(torch.equal(v, learnt[k]) for k, v in one["ema"].items() if "quant" not in k) for one in kept)


@pytest.mark.slow
@pytest.mark.parametrize("stop", [None, 15])
def test_a_unet_that_has_collapsed_is_taken_as_it_was(learn, tmp_path, monkeypatch, stop):
    monkeypatch.setattr(pipeline.diffusing, "WINDOW", 2)
    kept = spoiling(monkeypatch, pipeline.DenoiserTrainer, ["unet_ema", "text_ema"], 5)
    told = learn(tmp_path, stop, save_precision="float")
    told += learn(tmp_path, save_precision="float") if stop else []
    told = " ".join(getattr(event, "text", "") for event in told)
    assert "step 14: the loss is far above" in told and "collapsed at the end" in told
    for part, name in (("unet_ema", WEIGHTS[0]), ("text_ema", WEIGHTS[2])):
        learnt = load_file(f"{tmp_path}/diffusion/{name}.safetensors")
        both = learnt.keys() & kept[3][part].keys()
        assert both and all(torch.equal(kept[3][part][key], learnt[key]) for key in both)


@pytest.mark.slow
@pytest.mark.parametrize(("quality", "is_said"), [(-10.0, True), (10.0, False)])
def test_an_autoencoder_that_has_learnt_hardly_anything_is_told_of(learn, tmp_path, monkeypatch, quality, is_said):
    monkeypatch.setattr(pipeline.DiffusionEvaluator, "measure_psnr", lambda self, vae: self.mean_color_psnr() + quality)
    told = " ".join(getattr(event, "text", "") for event in learn(tmp_path, max_train_steps=1))
    assert ("hardly learned more than the mean colours" in told) == is_said


def test_a_loss_is_sound_while_it_is_near_its_lowest(monkeypatch):
    monkeypatch.setattr(pipeline.diffusing, "WINDOW", 2)
    assert pipeline.diffusing.sound_windows([4, 4, 1, math.nan, 1.4, 1.4, 2, 2, 1, 1, 9]) == [
        True,
        True,
        True,
        False,
        True,
    ]


def test_bad_input_is_told_in_a_sentence(learn, engine, pictures, tmp_path):
    with pytest.raises(CalotypeError, match="no captions"):
        Image.new("RGB", (32, 32)).save(tmp_path / "a.png")
        list(engine.run(TrainDiffusion(photos=tmp_path, output_dir=tmp_path / "out", **SMALL)))
    (tmp_path / "no.tar").write_bytes(b"nothing of the kind" * 100)
    with pytest.raises(CalotypeError, match="nor a readable tar"):
        list(engine.run(TrainDiffusion(photos=tmp_path / "no.tar", output_dir=tmp_path / "out", **SMALL)))
    (tmp_path / "names").write_text("reds/99\n")
    with pytest.raises(CalotypeError, match="not in the set"):
        learn(tmp_path / "out", held_out=tmp_path / "names")
    with pytest.raises(CalotypeError, match="multiple of 4"):
        TrainDiffusion(photos=pictures, resolution=34, vae_channels="32,32", unet_channels="32,32")
    (tmp_path / "names").write_text("".join(f"{n % 2 + 1}_{list(COLOURS)[n % 2]}s/{n}\n" for n in range(6)))
    with pytest.raises(CalotypeError, match="names all 6 pictures"):
        learn(tmp_path / "out", held_out=tmp_path / "names")
    with pytest.raises(CalotypeError, match="is a file, not a folder"):
        learn(tmp_path / "names")
    with pytest.raises(CalotypeError, match="names is a file, not a folder"):
        learn(tmp_path / "names/out")
    with pytest.raises(CalotypeError, match=r"take about .* so nothing is left"):
        learn(tmp_path / "out", vae_train_steps=10**6, max_train_steps=0, minutes=0.02)
    learn(tmp_path / "out", 2, save_state_every=1)
    with pytest.raises(CalotypeError, match="other pictures or settings"):
        learn(tmp_path / "out", seed=2, save_state_every=1)
