"""Time and memory that a run will take: counted right, told before it starts, and without a trace in what is learnt."""

import dataclasses

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import nn
from torch.utils.checkpoint import checkpoint

from calotype.cli import main
from calotype.cli.wording import WORDING
from calotype.engine import Engine
from calotype.errors import CalotypeError, Message
from calotype.tasks import Note, TrainLora
from calotype.training.run.estimate import TRIAL_FLOPS, Trial, cost, estimate, memory_warning, optimizer_bytes

MIB = 2**20


class Deep(nn.Module):
    """Layers whose outputs, (256, 1024) float32 of 1 MiB each, are needed on the way back."""

    def __init__(self, layers, is_checked=False):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(1024, 1024, bias=False) for _ in range(layers))
        self.is_checked = is_checked

    def forward(self, x):
        for layer in self.layers:
            x = checkpoint(self._one, layer, x, use_reentrant=False) if self.is_checked else self._one(layer, x)
        return x

    def _one(self, layer, x):
        return layer(x).sigmoid().exp()


def counted(layers, is_checked=False):
    network, x = Deep(layers, is_checked), torch.randn(256, 1024)
    return cost(lambda: network(x).sum(), network.parameters()), network


def test_memory_and_work_are_counted():
    found, network = counted(8)
    weights, maps = 8 * 4 * MIB, 8 * 2 * MIB  # gradients as large as the weights; of each layer two maps are kept
    assert maps + weights <= found.bytes + 8 * MIB and found.bytes <= maps + weights + 8 * MIB
    assert found.operations == 8 * 3 * 2 * 256 * 1024**2 - 2 * 256 * 1024**2  # the first input wants no gradient
    assert all(parameter.grad is None for parameter in network.parameters())
    longer, _ = counted(16)
    assert 1.8 < longer.bytes / found.bytes < 2.2


def test_checkpointing_takes_less_memory_and_more_work():
    plain, _ = counted(24)
    checked, _ = counted(24, True)
    assert checked.bytes < plain.bytes  # by how much hangs on when Python clears up
    assert checked.operations > 1.2 * plain.operations


def test_what_looks_at_numbers_cannot_be_counted():
    weight = nn.Parameter(torch.randn(4))
    assert cost(lambda: (weight * float(weight.sum().item())).sum(), [weight]) is None


def test_optimizers_remember_as_much_as_they_do():
    parameters = [nn.Parameter(torch.randn(1000))]
    optimizer = torch.optim.AdamW(parameters)
    parameters[0].grad = torch.ones(1000)
    optimizer.step()
    kept = sum(value.numel() * value.itemsize for value in optimizer.state[parameters[0]].values() if value.dim())
    assert optimizer_bytes("AdamW", parameters) == kept
    assert optimizer_bytes("Lion", parameters) == 4000 and optimizer_bytes("AdamW8bit", parameters) == 2000


def test_what_does_not_fit_is_refused_and_what_is_tight_is_said():
    less = [Message("{option:train_batch_size} 1"), Message("{option:resolution} {side}", side=64), "less"]
    assert memory_warning(100 * MIB, 1000 * MIB, less) is None
    warning = memory_warning(950 * MIB, 1000 * MIB, less)
    assert "may run out; give train_batch_size 1 or resolution 64 or less, or close" in str(warning)
    assert "give --train-batch-size 1 or --resolution 64 or less, or close" in WORDING.fill(warning)
    with pytest.raises(CalotypeError, match=r"about 2\.0 GiB .* and 1\.0 GiB are free; give train_batch_size 1, or"):
        memory_warning(2048 * MIB, 1024 * MIB, less[:1])


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    room = tmp_path_factory.mktemp("set") / "3_zkz"
    room.mkdir()
    rng = np.random.default_rng(0)
    for n in range(2):
        Image.fromarray(rng.integers(0, 255, (64, 64, 3), np.uint8)).save(room / f"{n}.png")
    return room.parent


OPTIONS = {
    "model": "small",
    "resolution": "64",
    "min_bucket_reso": 64,
    "mixed_precision": "no",
    "network_dim": 2,
    "max_train_steps": 2,
}


def learn(settings, photos, out, memory, **options):
    engine = Engine(dataclasses.replace(settings, memory=memory))
    task = TrainLora(photos=photos, output_dir=out, output_name="a", save_precision="float", **OPTIONS, **options)
    return [step.text for step in engine.run(task) if isinstance(step, Note)]


@pytest.mark.slow
def test_counting_leaves_no_trace_in_what_is_learnt(small_settings, photos, tmp_path, monkeypatch):
    counts, options = [], {"network_train_unet_only": True, "network_dropout": 0.5}
    monkeypatch.setattr(
        "calotype.training.run.estimate.cost", lambda *given, own=cost: counts.append(own(*given)) or counts[-1]
    )
    monkeypatch.setattr("calotype.training.run.estimate.SAFETY_FACTOR", 0)
    learn(small_settings, photos, tmp_path / "plain", 0, **options)
    assert not counts
    monkeypatch.setattr("calotype.training.run.estimate.SAFETY_FACTOR", 1e9)  # as on a small machine
    learn(small_settings, photos, tmp_path / "counted", 0, **options)
    assert len(counts) == 2 and all(counts)
    one, other = (load_file(tmp_path / name / "a.safetensors") for name in ("plain", "counted"))
    assert one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


@pytest.mark.slow
def test_a_dry_run_tells_findings_plan_memory_and_time_in_this_order(small_settings, photos, tmp_path):
    said = learn(small_settings, photos, tmp_path / "none", 0, dry_run=True, train_batch_size=2)
    words = ("that is too few", "2 photos to train on", "memory expected: ", "time expected on this machine: ")
    places = [next(n for n, text in enumerate(said) if word in text) for word in words]
    assert places == sorted(places) and not (tmp_path / "none").exists()


@pytest.mark.slow
def test_training_that_cannot_fit_does_not_begin(photos, small_model, tmp_path, capsys):
    command = ["train", "lora", str(photos), "--output-dir", str(tmp_path / "out"), "--train-batch-size", "8"]
    command += ["--model", str(small_model.parent), "--resolution", "128"]
    assert main([*command, "--memory", "0.02", "--offline"]) == 2
    told = capsys.readouterr().err.splitlines()[-1]
    assert "besides the model, and 20 MiB are free; give --train-batch-size 1 or --gradient-checkpointing" in told
    assert not (tmp_path / "out").exists()


def test_large_models_are_tried_on_smaller_pictures(monkeypatch):
    """A trial whose whole step is too dear runs on one picture, or a small one, and is counted up."""
    sizes = []

    def loss(count, part):
        sizes.append((count, part))
        x = torch.randn(count, int(64 * part), 64, requires_grad=True)
        return (x @ weight).sum()

    weight = nn.Parameter(torch.randn(64, 64))
    trial = Trial(
        loss=loss,
        encode=lambda part: torch.zeros(1),
        parameters=[weight],
        optimizer="AdamW",
        device=torch.device("cpu"),
        batch=4,
        widest=1,
        passes=100,
        photos=1,
        weights=0,
        remedies=["less"],
    )
    monkeypatch.setitem(TRIAL_FLOPS, "cpu", 1e6)
    *_, time = estimate(trial, 2**33, True)
    assert (4, 1.0) in sizes and sizes[-1] == (1, 0.5) and "time expected" in str(time)
