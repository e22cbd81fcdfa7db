"""Optimizers by sd-scripts' names: found, refused in a sentence, and going on from a state as if never stopped."""

import sys

import pytest
import torch

from calotype.errors import CalotypeError
from calotype.tasks.optimizers import KNOWN, package_of
from calotype.training.optim.optimizers import available_optimizer, create_optimizer, set_train_mode
from calotype.training.run import resume as states

CPU = torch.device("cpu")
QUICK = [name for name, known in KNOWN.items() if not known.plain]


def groups(weights, rate=0.1):
    return [{"params": [one], "lr": rate, "initial_lr": rate} for one in weights]


def stepped(optimizer, weights, steps):
    for step in steps:
        for n, weight in enumerate(weights):
            weight.grad = torch.sin(weight.detach() * 3 + step + n)
        optimizer.step()


@pytest.mark.parametrize("name", [*QUICK, "torch.optim.RMSprop"])
def test_each_goes_on_from_its_state_bit_for_bit(name, tmp_path):
    known = KNOWN.get(name)
    pytest.importorskip(known.module.split(".")[0] if known else "torch")
    begin = [torch.randn(4, 6, generator=torch.Generator().manual_seed(n)) for n in range(2)]
    whole = [torch.nn.Parameter(one.clone()) for one in begin]
    first = create_optimizer(name, groups(whole))
    stepped(first, whole, range(3))
    path = tmp_path / "a.state.safetensors"
    kept = {str(n): one.detach() for n, one in enumerate(whole)}
    states.save(path, states.State(3, kept, first.state_dict(), (0.5,), "f"))
    stepped(first, whole, range(3, 6))

    state = states.load(path)
    parts = [torch.nn.Parameter(state.weights[str(n)].clone()) for n in range(2)]
    second = create_optimizer(name, groups(parts))
    second.load_state_dict(state.optimizer)
    stepped(second, parts, range(3, 6))
    assert all(torch.equal(one, other) for one, other in zip(whole, parts, strict=True))
    assert not torch.equal(whole[0], begin[0])


def test_states_keep_tensors_however_deep(tmp_path):
    deep = {"map": {"absmax": torch.arange(3.0), "offset": 1, "names": ["a", torch.ones(1)]}}
    optimizer = {"state": {0: {"step": 2, "quant": deep}}, "param_groups": [{"lr": 0.1, "d": torch.ones(())}]}
    states.save(tmp_path / "s", states.State(1, {}, optimizer, (), ""))
    found = states.load(tmp_path / "s").optimizer
    assert (
        found["state"][0]["quant"]["map"]["absmax"].tolist() == [0, 1, 2] and float(found["param_groups"][0]["d"]) == 1
    )
    assert found["state"][0]["quant"]["map"]["names"][1].tolist() == [1.0]


@pytest.mark.parametrize(("name", "plain"), [("AdamW8bit", "AdamW"), ("pagedlion8bit", "Lion"), ("AdamW", "")])
def test_what_needs_a_gpu_has_its_plain_twin_elsewhere(name, plain):
    found, note = available_optimizer(name, CPU)
    assert found == (plain or name) and bool(note) == bool(plain) and plain in str(note)


def test_schedule_free_ones_answer_with_other_weights():
    pytest.importorskip("schedulefree")
    weights = [torch.nn.Parameter(torch.randn(4, 6))]
    optimizer = create_optimizer("AdamWScheduleFree", groups(weights))
    stepped(optimizer, weights, range(3))
    while_learning = weights[0].detach().clone()
    set_train_mode(optimizer, False)
    answering = weights[0].detach().clone()
    set_train_mode(optimizer, True)
    assert not torch.equal(while_learning, answering) and torch.allclose(weights[0], while_learning, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "rates", "args", "words"),
    [
        ("AdmW", (1, 1), "", "did you mean AdamW"),
        ("os.system", (1, 1), "", "no optimizer is named os.system"),
        ("no.such.Thing", (1, 1), "", "no optimizer is named no.such.Thing"),
        ("antigravity.fly", (1, 1), "", "no optimizer is named antigravity.fly"),
        ("torch.optim.lr_scheduler.StepLR", (1, 1), "", "no optimizer is named torch.optim.lr_scheduler.StepLR"),
        ("torch.optimize.X", (1, 1), "", "no optimizer is named"),
        ("../optim.X", (1, 1), "", "no optimizer is named"),
        ("torch.optim.\ud800.X", (1, 1), "", "not installed: install torch"),
        ("pytorch_optimizer.none.X", (1, 1), "", "not installed: install pytorch_optimizer"),
        ("AdamW", (1, 1), "betas=()", "does not take 'betas=\\(\\)'"),
        ("AdamW", (1, 1), "eps={[]:1}", "not 'eps={\\[\\]:1}'"),
        ("AdamW", (1, 1), "eps=" + "-" * 10**4 + "1", "optimizer_args looks like"),
        ("AdamW", (1, 1), "eps=" + "(" * 10**4, "optimizer_args looks like"),
        ("AdamW", (1, 1), "betas", "not 'betas'"),
        ("AdamW", (1, 1), "speed=3", "does not take"),
        ("Prodigy", (1, 0.1), "", "not installed|estimates one learning rate"),
    ],
)
def test_what_cannot_be_taken_is_one_sentence(name, rates, args, words):
    weights = [torch.nn.Parameter(torch.zeros(2)) for _ in rates]
    told = [{"params": [w], "lr": rate, "initial_lr": rate} for w, rate in zip(weights, rates, strict=True)]
    with pytest.raises(CalotypeError, match=words):
        create_optimizer(name, told, args)


def test_no_module_is_imported_by_a_name_that_it_was_given(tmp_path, monkeypatch):
    (tmp_path / "evil.py").write_text("raise SystemExit('imported')")
    (tmp_path / "torch_optim.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("evil.X", "evil.a.X", "torch_optim.X", "os.X", "calotype.cli.X", ".X", "..evil.X", "evil:X"):
        with pytest.raises(CalotypeError, match="no optimizer is named"):
            create_optimizer(name, groups([torch.nn.Parameter(torch.zeros(2))]))
    assert "evil" not in sys.modules


def test_names_of_sd_scripts_are_of_packages_that_are_known():
    assert all(package_of(entry.module) for entry in KNOWN.values())
    assert package_of("bitsandbytes.optim.adamw") == "bitsandbytes" and package_of("torch") is None
