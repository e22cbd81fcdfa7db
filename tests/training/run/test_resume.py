"""A state gives back all that there was, also where weights lie in memory in another order."""

import copy

import pytest
import torch
from torch import nn

from calotype.errors import CalotypeError
from calotype.training.run import resume as state
from calotype.training.run.resume import State


@pytest.mark.parametrize("is_fused", [True, False])
@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_the_next_step_is_the_same_after_a_state(tmp_path, is_fused, layout):
    torch.manual_seed(0)
    network = nn.Conv2d(3, 4, 3).to(memory_format=layout)

    def optimizer_of(network):
        return torch.optim.AdamW(network.parameters(), lr=0.1, fused=is_fused)

    def stepped(network, optimizer, n):
        torch.manual_seed(n)
        network(torch.randn(2, 3, 8, 8)).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()

    optimizer = optimizer_of(network)
    for n in range(3):
        stepped(network, optimizer, n)
    other = copy.deepcopy(network)
    state.save(tmp_path / "state", State(3, {}, optimizer.state_dict(), (0.5,), "f"))
    again = optimizer_of(other)
    state.load_optimizer(again, state.load(tmp_path / "state").optimizer)
    for net, opt in ((network, optimizer), (other, again)):
        stepped(net, opt, 3)
    assert torch.equal(network.weight, other.weight) and torch.equal(network.bias, other.bias)


def test_whether_something_was_left_to_do_is_kept(tmp_path):
    for is_complete in (True, False):
        kept = State(1, {"w": torch.ones(2)}, {"state": {}, "param_groups": []}, (), "f", is_complete=is_complete)
        state.save(tmp_path / "state", kept)
        assert state.load(tmp_path / "state").is_complete is is_complete


def test_another_file_is_no_state(tmp_path):
    (tmp_path / "state").write_bytes(b"\x00" * 64)
    with pytest.raises(CalotypeError, match="is no state of a training run"):
        state.load(tmp_path / "state")
