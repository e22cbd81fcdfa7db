"""Networks that fill holes are read by path, and fill holes alone."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from calotype.checkpoints.add import kind_of_file
from calotype.checkpoints.models import Models
from calotype.errors import CalotypeError
from calotype.inference.damage import CROP, fill_marks, fill_of
from calotype.models.network import Network, NetworkCheckpoint


def filled(pixels, mask, network):
    steps = fill_marks(pixels, mask, fill_of(network), CROP)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


def hole(shape):
    mask = np.zeros(shape, bool)
    mask[20:24, 10:70] = True
    return mask


@pytest.mark.parametrize(("height", "width"), [(100, 120), (33, 81), (24, 71)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_network_is_given_sides_that_it_takes_and_fills_the_hole_alone(height, width, dtype):
    sizes = []

    def call(module, x, fidelity):
        sizes.append(x.shape)
        return x[:, :3] * (1 - x[:, 3:]) + x[:, 3:]  # white in the hole

    loaded = NetworkCheckpoint("white", "", "inpaint", nn.Identity(), call, multiple=8, min_side=32, by_rows=False)
    network = Network(loaded, torch.device("cpu"), torch.float32)
    pixels, mask = np.full((height, width, 3), 7, dtype), hole((height, width))
    result = filled(pixels, mask, network)
    assert (result[mask] == np.iinfo(dtype).max).all() and (result[~mask] == 7).all()
    assert all(side % 8 == 0 and side >= 32 for shape in sizes for side in shape[2:])


@pytest.mark.slow
def test_lama_works_by_path(settings, tmp_path):
    """Random weights of the layout of big-lama.pt."""
    from spandrel.architectures.LaMa import LaMa

    torch.manual_seed(0)
    path = tmp_path / "big-lama.safetensors"
    save_file({key: value.contiguous() for key, value in LaMa(in_nc=4, out_nc=3).state_dict().items()}, path)
    assert kind_of_file(path) == "inpaint"
    network = Models(settings).inpainter(str(path))
    assert (network.multiple, network.min_side, network.dtype) == (8, 16, torch.float32)
    pixels = np.random.default_rng(0).integers(0, 256, (100, 124, 3), np.uint8)
    mask = hole(pixels.shape[:2])
    result = filled(pixels, mask, network)
    assert np.array_equal(result[~mask], pixels[~mask]) and (result[mask] != pixels[mask]).any()
    with pytest.raises(CalotypeError, match="big-lama is for filling holes, not for enlarging"):
        Models(settings).upscaler(str(path))
