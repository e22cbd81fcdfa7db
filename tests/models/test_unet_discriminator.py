import pytest
import torch

from calotype.models import unet_discriminator
from calotype.models.unet_discriminator import TORCH_KEYS, UNetDiscriminator, build


def test_every_pixel_is_judged():
    assert UNetDiscriminator(8)(torch.rand(2, 3, 24, 32)).shape == (2, 1, 24, 32)


def test_a_file_of_the_published_program_is_read():
    """Its names for what spectral normalisation keeps are older than torch's today."""
    torch.manual_seed(0)
    network = UNetDiscriminator(8)
    network(torch.rand(1, 3, 16, 16))  # moves the norm's vectors
    published = {}
    for key, value in network.state_dict().items():
        for theirs, ours in TORCH_KEYS.items():
            key = key.replace(ours, theirs)
        published[key] = value
    assert "conv1.weight_orig" in published and "conv0.weight" in published
    x = torch.rand(1, 3, 16, 16)
    assert torch.equal(build(published).eval()(x), network.eval()(x))


@pytest.mark.parametrize("shape", [(), (8,), (0, 3, 3, 3), (513, 3, 3, 3), (8, 3, 3, 3), (512, 0), (512, 3, 3, 0)])
def test_a_file_that_is_none_is_refused_before_it_takes_memory(shape, monkeypatch):
    made = []
    monkeypatch.setattr(unet_discriminator, "UNetDiscriminator", lambda c: made.append(UNetDiscriminator(c)) or made[0])
    given = torch.zeros(shape)
    with pytest.raises((KeyError, RuntimeError, ValueError)):
        build({"conv0.weight": given})
    kept = [part for network in made for part in network.state_dict().values() if not part.is_meta]
    assert sum(part.numel() for part in kept) <= given.numel()


def test_its_slope_is_bounded():
    """Spectral normalisation: no layer inside stretches anything by much more than 1."""
    torch.manual_seed(0)
    network = UNetDiscriminator(8)
    with torch.no_grad():
        network.conv4.parametrizations.weight.original.mul_(50)
    for _ in range(30):
        network(torch.rand(1, 3, 16, 16))
    weight = network.eval().conv4.weight.detach().flatten(1)
    assert torch.linalg.matrix_norm(weight, 2) < 1.05
