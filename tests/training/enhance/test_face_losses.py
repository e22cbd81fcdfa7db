"""The losses of faces move their points to where they belong, and their descriptors."""

import numpy as np
import pytest
import torch
from skimage import data
from skimage.transform import resize

from calotype.checkpoints.models import Models
from calotype.models.face_identity import CHIP, SIDE, FaceDescriptor
from calotype.ops.faces import align, similarity, template
from calotype.settings import Settings
from calotype.training.enhance.face_losses import DescriptorLoss, LandmarkLoss, descriptor_chips


@pytest.fixture(scope="module")
def loss():
    return LandmarkLoss(Models(Settings.gather({"device": "cpu"}, environ={})).face_mesh().mesh_network)


@pytest.fixture(scope="module")
def face():
    """(1, 3, 256, 256), aligned about as faces are that are restored."""
    pixels = resize(data.astronaut()[:, :, :3][0:250, 100:350], (256, 256), anti_aliasing=True)
    return torch.from_numpy(pixels.transpose(2, 0, 1)[None].astype(np.float32))


def test_it_is_the_fraction_by_which_a_face_has_moved(loss, face):
    assert loss(face, face) < 1e-4
    moved = torch.roll(face, 8, 3)
    assert loss(moved, face) == pytest.approx(8 / 256, rel=0.2)
    assert loss(moved, face) < loss(torch.roll(face, 16, 3), face)


def test_its_gradient_brings_a_face_nearer_and_trains_nothing_of_the_mesh(loss, face):
    x = torch.roll(face, 6, 3).requires_grad_()
    before = loss(x, face)
    before.backward()
    assert torch.isfinite(x.grad).all() and x.grad.abs().sum() > 0
    assert not any(parameter.requires_grad for parameter in loss.parameters())
    step = 0.02 * x.grad / x.grad.abs().max()
    assert loss((x - step).detach(), face) < before.detach()


@pytest.fixture(scope="module")
def descriptors():
    """With random weights: what a loss does with a network does not depend on them."""
    torch.manual_seed(0)
    network = FaceDescriptor().eval()
    for tensor in network.state_dict().values():
        torch.nn.init.normal_(tensor, 1.0 if tensor.ndim == 1 else 0.0, 0.05)
    return DescriptorLoss(network)


@pytest.mark.parametrize("side", [64, 256, 512])
def test_chips_are_those_that_the_measure_cuts_out(face, side):
    crop = torch.nn.functional.interpolate(face, size=(side, side), mode="bilinear", antialias=True)
    pixels = (crop[0].permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
    expected = align(pixels, similarity(template(side), CHIP), SIDE)
    chip = (255 * descriptor_chips(crop)[0]).permute(1, 2, 0).numpy()
    assert chip.shape == (SIDE, SIDE, 3) and np.abs(chip - expected).mean() < 2
    moved = np.abs(np.roll(chip, 1, 1) - expected).mean()
    assert np.abs(chip - expected).mean() < moved / 2


def test_a_descriptor_loss_is_0_for_the_face_itself_grows_with_blur_and_has_a_gradient(descriptors, face):
    soft, softer = (torch.nn.functional.avg_pool2d(face, n, 1, n // 2) for n in (3, 9))
    assert descriptors(face, face) == pytest.approx(0.01, abs=1e-4)  # the root of SMOOTH
    x = softer.clone().requires_grad_()
    before = descriptors(x, face)
    assert 0.01 < descriptors(soft, face) < before
    before.backward()
    assert torch.isfinite(x.grad).all() and x.grad.abs().sum() > 0
    assert not any(parameter.requires_grad for parameter in descriptors.parameters())
    step = 0.005 * x.grad / x.grad.abs().max()
    assert descriptors((x - step).detach(), face) < before.detach()


def test_a_face_and_its_mirror_image_count_alike(descriptors, face):
    soft = torch.nn.functional.avg_pool2d(face, 5, 1, 2)
    ways = [descriptors(soft, face), descriptors(soft.flip(3), face.flip(3))]
    assert ways[0] == pytest.approx(float(ways[1]), rel=0.05)
