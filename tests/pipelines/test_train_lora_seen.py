"""What is seen of a LoRA run: nothing of it changes what is learnt, and it tells what was the case."""

import dataclasses
import json

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from calotype.engine import Engine
from calotype.errors import CalotypeError
from calotype.outputs.redraw import task_from_parameters
from calotype.picture import Picture
from calotype.pipelines.train_lora import TrainResult
from calotype.tasks import Learning, Note, Progress, TrainLora
from calotype.training.lora.evaluator import LoraEvaluator
from calotype.training.lora.layers import Dropouts, Lora
from calotype.training.lora.network import Adapters
from calotype.training.monitor.metrics_log import read_metrics_log
from tests.outputs.test_report import Reader

SMALL = {"resolution": "32", "min_bucket_reso": 32, "bucket_reso_steps": 32, "network_dim": 2, "mixed_precision": "no"}
PROMPT = "a cat --w 32 --h 32 --s 2 --d 5"


@pytest.fixture(scope="module")
def engine(small_settings):
    return Engine(dataclasses.replace(small_settings, precision="float32"))


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    room = folder / "1_zkz"
    room.mkdir()
    for n in range(4):
        Image.new("RGB", (32, 32), (60 * n, 250 - 60 * n, 40)).save(room / f"{n}.png")
        (room / f"{n}.txt").write_text(f"zkz, square {n}", "utf-8")
    return folder


@pytest.fixture(scope="module")
def learn(engine, photos):
    """Two epochs of two steps; closed after the step `stop`."""

    def run(out, stop=None, **options):
        options = {"max_train_epochs": 2, "train_batch_size": 2, "learning_rate": 1e-2, **SMALL, **options}
        options = {"model": "small", **options}
        task = TrainLora(photos=photos, output_dir=out, output_name="mine", save_precision="float", **options)
        told, steps = [], engine.run(task)
        for step in steps:
            told.append(step)
            if stop and isinstance(step, Learning) and step.done == stop:
                steps.close()
                break
        return told

    return run


@pytest.fixture(scope="module")
def watched(learn, tmp_path_factory):
    """A whole run with everything on, and where it lies."""
    out = tmp_path_factory.mktemp("watched")
    options = {"sample_prompts": PROMPT, "validation_split": 0.25, "network_dropout": 0.3}
    return learn(out, logging_dir=out / "logs", log_prefix="mine-", **options), out


def numbers(out, name):
    told = read_metrics_log(out / "mine.log.jsonl")
    return [(line["step"], line[name]) for line in told if name in line]


@pytest.mark.slow
def test_samples_change_nothing_and_a_run_that_is_stopped_draws_the_same(learn, tmp_path):
    options = {"network_dropout": 0.3, "save_state_every": 2}
    learn(tmp_path / "plain", **options)
    options |= {"sample_prompts": PROMPT, "sample_every_n_steps": 2, "log_with": "tensorboard"}
    learn(tmp_path / "whole", **options)
    for stop in (3, None):
        learn(tmp_path / "parts", stop, **options)
    state = {name: load_file(tmp_path / name / "mine.safetensors") for name in ("plain", "whole", "parts")}
    for name in ("whole", "parts"):
        assert all(torch.equal(value, state[name][key]) for key, value in state["plain"].items())
    names = {name: sorted(path.name for path in (tmp_path / name / "sample").iterdir()) for name in ("whole", "parts")}
    assert names["whole"] == names["parts"] and len(names["whole"]) == 3  # before, and after 2 and 4
    for name in names["whole"]:
        assert (tmp_path / "whole/sample" / name).read_bytes() == (tmp_path / "parts/sample" / name).read_bytes()
    assert [step for step, _ in numbers(tmp_path / "parts", "loss/current")] == [1, 2, 3, 4]
    [folder] = (tmp_path / "parts/logs").glob("*/network_train")
    assert [event.step for event in EventAccumulator(str(folder)).Reload().Scalars("loss/current")] == [1, 2, 3, 4]
    assert numbers(tmp_path / "whole", "loss/current") == numbers(tmp_path / "parts", "loss/current")


def test_samples_show_what_was_learnt_so_far(watched):
    _, out = watched
    files = sorted((out / "sample").iterdir())
    assert [path.name for path in files] == [f"mine_e00000{n}_00_5.png" for n in (0, 1, 2)]
    pictures = [Image.open(path) for path in files]
    assert len({picture.tobytes() for picture in pictures}) == 3
    text = pictures[2].text["parameters"]
    assert text.startswith("a cat\n") and "Steps: 2" in text and "Seed: 5" in text and "Size: 32x32" in text
    assert text.endswith('Training: "mine, epoch 2, step 4"')


@pytest.mark.slow
def test_a_caption_is_drawn_where_no_prompt_is_given(engine, tmp_path):
    """With the model's own steps, at the size that is learnt, without the prompts' grammar."""
    room = tmp_path / "2_zkz (a square)"
    room.mkdir()
    for n in range(2):
        Image.new("RGB", (32, 32)).save(room / f"{n}.png")
    options = {"max_train_steps": 1, "train_batch_size": 4, "sample_every_n_steps": 1, "sample_at_first": False}
    list(engine.run(TrainLora(photos=tmp_path, output_dir=tmp_path, output_name="mine", **options, **SMALL)))
    [path] = (tmp_path / "sample").iterdir()
    text = Image.open(path).text["parameters"]
    assert text.startswith("zkz (a square)\nSteps: 16, Sampler: DPM++ 2M,") and "Emphasis: None" in text
    assert path.name == "mine_e000001_00_1337.png" and "Size: 32x32" in text


def test_what_cannot_be_drawn_is_known_before_the_first_step_and_costs_a_set_later(learn, tmp_path):
    options = {"sample_prompts": "a <lora:none:1> --s 1 --w 32", "max_train_steps": 1}
    with pytest.raises(CalotypeError, match="none"):
        learn(tmp_path, **options)
    *told, learned = learn(tmp_path, sample_at_first=False, **options)
    assert isinstance(learned, TrainResult)
    assert any(isinstance(step, Note) and "step 1: samples are skipped" in step.text for step in told)


def test_the_plan_tells_of_samples_and_drawing_one_again_says_what_it_was_drawn_with(watched, tmp_path):
    told, out = watched
    plan = f"a sample picture drawn before the first step, every epoch and at the end, into {out / 'sample'}"
    assert any(isinstance(step, Note) and step.text == plan for step in told)
    path = out / "sample" / "mine_e000002_00_5.png"
    _, notes = task_from_parameters(Picture.open(path), path, lambda kind: ["small"])
    assert list(map(str, notes)) == [
        "it was generated with a LoRA during its training (mine, epoch 2, step 4), which is not applied here"
    ]


def test_validation_is_measured_alike_and_the_best_is_kept(watched, learn, tmp_path):
    told, out = watched
    measured = numbers(out, "loss/validation/epoch_average")
    assert [step for step, _ in measured] == [2, 4] and measured[0][1] != measured[1][1]
    learn(tmp_path, validation_split=0.25, network_dropout=0.3)
    assert numbers(tmp_path, "loss/validation/epoch_average") == measured
    best = min(measured, key=lambda one: one[1])[0]
    kept, last = (load_file(out / f"mine{name}.safetensors") for name in ("-best", ""))
    is_last = all(torch.equal(value, kept[key]) for key, value in last.items())
    assert is_last == (best == 4)
    said = [step.text for step in told if isinstance(step, Note)]
    assert any("1 photo for validation" in text for text in said) and any(
        "3 photos to train on" in text for text in said
    )
    assert any("the lowest so far" in text for text in said)


def test_the_loss_on_what_is_held_back_is_that_of_the_weights_alone(learn, tmp_path):
    """A rate of nothing moves nothing, so every epoch measures the same, dropout or not."""
    learn(tmp_path, validation_split=0.5, network_dropout=0.5, lr_warmup_steps="100", learning_rate=1e-30)
    values = [value for _, value in numbers(tmp_path, "loss/validation/epoch_average")]
    assert len(values) == 2 and values[0] == values[1]


def test_the_page_tells_what_was_the_case(watched):
    told, out = watched
    html = (out / "report.html").read_text("utf-8")
    page = Reader(html)
    assert told[-1].report == out / "report.html" and html.count("<svg") == 2
    assert page.tags.count("img") == 3 and all(address.startswith("data:") for address in page.addresses)
    assert "default-src 'none'" in html and "<script" not in html and "http" not in html.replace("http-equiv", "")
    for text in (
        "Finished after 4 steps",
        "a cat",
        "2 steps of DPM++ 2M",
        "3 photos to train on",
        "GiB at most",
        "small",
    ):
        assert text in page.text
    assert "mine-best.safetensors" in page.text and page.text.count("best") >= 3
    chosen, _, rest = page.text.partition("All other options")
    assert "validation_split" in chosen.partition("Options that were chosen")[2] and "flip_aug" in rest


def test_a_run_that_is_broken_off_leaves_its_page_and_its_diary(learn, tmp_path):
    learn(tmp_path, stop=3)
    assert "Stopped after step 3 of 4; the same command goes on" in (tmp_path / "report.html").read_text("utf-8")
    assert [step for step, _ in numbers(tmp_path, "loss/current")] == [1, 2, 3]
    assert not list(tmp_path.glob(".calotype*"))


def test_a_page_of_another_run_stays(learn, tmp_path):
    (tmp_path / "report.html").write_text("mine, not yours")
    *_, learned = learn(tmp_path, max_train_steps=1)
    assert isinstance(learned, TrainResult) and learned.report == tmp_path / "mine-report.html"
    assert (tmp_path / "report.html").read_text() == "mine, not yours"


def test_tensorboard_reads_its_files(watched):
    _, out = watched
    [folder] = (out / "logs").glob("mine-*/network_train")
    board = EventAccumulator(str(folder)).Reload()
    tags = board.Tags()
    names = {"loss/current", "loss/average", "loss/epoch_average", "lr/unet", "lr/textencoder"}
    assert set(tags["scalars"]) == names | {"loss/validation/epoch_average"} and tags["images"] == ["samples/00"]
    values = [(event.step, event.value) for event in board.Scalars("loss/current")]
    assert values == [(step, pytest.approx(value)) for step, value in numbers(out, "loss/current")]
    assert [event.step for event in board.Images("samples/00")] == [0, 2, 4]


@pytest.mark.slow
def test_without_tensorboards_library_it_is_said(learn, tmp_path, monkeypatch):
    monkeypatch.setattr("calotype.training.monitor.monitor.is_installed", lambda: False)
    with pytest.raises(CalotypeError, match="install the extra train"):
        learn(tmp_path, log_with="tensorboard")
    told = learn(tmp_path, logging_dir=tmp_path / "logs", dry_run=True)
    assert any(isinstance(step, Note) and "nothing is written to" in step.text for step in told)


def test_progress_tells_loss_rate_time_and_memory(watched):
    told, _ = watched
    steps = [step for step in told if isinstance(step, Learning)]
    assert [step.done for step in steps] == [1, 2, 3, 4] and steps[0].rate == 1e-2 > steps[3].rate
    assert all(step.loss > 0 and step.memory > 2**26 and step.remaining >= 0 for step in steps)
    samples = [step for step in told if type(step) is Progress and step.what == "drawing samples"]
    assert len(samples) == 3 * 2
    json.dumps(steps[0].__dict__)


class Averaging(torch.optim.SGD):
    """Learns with one set of weights and hands over another, as schedule-free optimizers do; not exact both ways."""

    def eval(self):
        self._scale(0.3)

    def train(self):
        self._scale(1 / 0.3)

    @torch.no_grad()
    def _scale(self, by):
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.mul_(by)


def test_an_optimizer_with_two_sets_of_weights_gets_its_own_back():
    adapters = Adapters()
    adapters.layers["one"] = lora = Lora(torch.nn.Linear(8, 8), 4, 4.0, Dropouts(0.5), 0)
    before = lora.down.detach().clone()
    seen = LoraEvaluator(
        None, None, None, None, adapters, Averaging(lora.parameters(), 0.1), (8, 8), (1, 1), (), None, None
    )
    with seen._evaluation_mode():
        assert torch.allclose(lora.down, before * 0.3) and not lora.training
    assert torch.equal(lora.down, before) and lora.training


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"sample_prompts": "none.txt"}, "none.txt cannot be read"),
        ({"sample_sampler": "Eulr"}, "no sampler is named"),
        ({"log_prefix": "../x"}, "not a path"),
        ({"log_with": "wandb"}, ""),
    ],
)
def test_what_cannot_be_is_said(learn, tmp_path, options, word):
    if "log_with" in options:
        from calotype.tasks import read_task

        with pytest.raises(CalotypeError, match="is one of auto, tensorboard, none"):
            read_task("train_lora", {"photos": tmp_path, **options})
        return
    with pytest.raises(CalotypeError, match=word):
        learn(tmp_path, **options)


def test_one_photo_cannot_be_split(engine, tmp_path):
    Image.new("RGB", (64, 64)).save(tmp_path / "one.png")
    with pytest.raises(CalotypeError, match="at least two photos"):
        list(engine.run(TrainLora(photos=tmp_path, output_dir=tmp_path / "out", validation_split=0.5)))
