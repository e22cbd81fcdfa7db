"""The network that finds marks: its sizes, what it is given, and its weights in a file."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from calotype.checkpoints.open_network import load
from calotype.checkpoints.store import Checkpoint
from calotype.errors import CalotypeError
from calotype.models.network import Network
from calotype.models.repairer import Repairer, _box, build, detects, differences, local_noise, saved_state


def tiny(seed=0, widths=(8, 8, 12), is_deep=True):
    torch.manual_seed(seed)
    return Repairer(widths, is_deep).eval()


@pytest.mark.parametrize("widths", [(4, 8), (8, 8, 12), (4, 4, 4, 8)])
def test_its_mask_has_the_size_of_the_picture(widths):
    network = tiny(widths=widths)
    assert network.multiple == 2 ** len(widths)
    x = torch.rand(2, 3, 2 * network.multiple, 3 * network.multiple)
    assert network(x).shape == (2, 1, *x.shape[2:])


def test_noise_is_measured_around_each_pixel():
    torch.manual_seed(0)
    x = torch.full((1, 1, 120, 240), 0.5)
    x[..., :120] += 0.05 * torch.randn(1, 1, 120, 120)
    noise = local_noise(x)
    assert 0.045 < noise[..., 20:100, 20:100].mean() < 0.055 and noise[..., 160:].max() < 0.005


def test_a_line_stands_out_in_what_the_network_is_given():
    x = torch.full((1, 3, 64, 64), 0.5)
    x[..., 30] = 0.6
    difference = differences(x)
    assert difference.shape == (1, 4, 64, 64)
    assert (difference[0, :, 32, 30] > 4 * difference[0, :, 32, 50].abs()).all() and difference.abs().max() <= 4


@given(st.integers(1, 60), st.integers(1, 60), st.sampled_from([1, 5, 17, 31]))
def test_the_mean_around_a_pixel_is_of_what_is_inside_the_picture(height, width, size):
    x = torch.rand(1, 2, height, width, dtype=torch.float64)
    y, half = _box(x, size), size // 2
    for row, column in ((0, 0), (height // 2, width // 3), (height - 1, width - 1)):
        part = x[..., max(0, row - half) : row + half + 1, max(0, column - half) : column + half + 1]
        assert torch.allclose(y[..., row, column], part.mean((2, 3)))


def test_the_second_blocks_change_nothing_before_they_are_trained():
    deep = Repairer((8, 8, 12), is_deep=True).eval()
    shallow = {key: value for key, value in saved_state(deep).items() if not key.startswith("second_")}
    x = torch.rand(1, 3, 16, 24)
    with torch.inference_mode():
        assert torch.allclose(build(shallow).eval()(x), deep(x))
    assert any(key.startswith("second_encoder.") for key in saved_state(deep))


def test_in_bfloat16_it_sees_the_picture_in_float32():
    """In 8 bits of a mantissa, neighbouring levels of a light picture would be the same."""
    network = tiny()
    x = 0.9 + 0.002 * torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        whole, rounded = network(x).sigmoid(), network(x.bfloat16().float()).sigmoid()
        half = network.to(torch.bfloat16)(x).float().sigmoid()
    assert (half - whole).abs().mean() < 0.2 * (rounded - whole).abs().mean()


def test_what_it_finds_is_the_mean_for_a_picture_and_its_mirror_image(tmp_path):
    network = tiny()
    save_file(saved_state(network), tmp_path / "x.safetensors")
    loaded = load(Checkpoint("x", tmp_path / "x.safetensors"))
    x = torch.rand(1, 3, 32, 40)
    with torch.inference_mode():
        both = (network(x).sigmoid() + network(x.flip(3)).sigmoid().flip(3)) / 2
    found = Network(loaded, torch.device("cpu"), torch.bfloat16)(x)
    assert found.dtype == torch.float32 and (found - both).abs().max() < 0.001  # 0.002 of a picture in bfloat16


@pytest.mark.parametrize("is_deep", [True, False])
def test_a_file_gives_the_same_network(tmp_path, is_deep):
    network = tiny(is_deep=is_deep)
    network.encoder[0].first_norm.running_mean.fill_(0.3)  # statistics are saved too
    save_file(saved_state(network), tmp_path / "x.safetensors")
    loaded = load(Checkpoint("x", tmp_path / "x.safetensors"))
    x = torch.rand(1, 3, 16, 24)
    with torch.inference_mode():
        assert torch.equal(loaded.call(loaded.module, x, 0.5), network.probability(x))
    assert (loaded.kind, loaded.multiple) == ("repair", 8)


def test_weights_that_do_not_fit_are_refused(tmp_path):
    state = saved_state(tiny())
    assert detects(state) and not detects({"stem.weight": state["stem.weight"]})
    del state["down.0.weight"]
    with pytest.raises(RuntimeError):
        build(state)
    save_file(state, tmp_path / "x.safetensors")
    with pytest.raises(CalotypeError, match="looks like a known network but does not fit it"):
        load(Checkpoint("x", tmp_path / "x.safetensors"))
