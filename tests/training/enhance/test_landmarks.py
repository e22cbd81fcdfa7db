"""The landmark loss moves the points of a face to where they belong."""

import numpy as np
import pytest
import torch
from skimage import data
from skimage.transform import resize

from calotype.checkpoints.models import Models
from calotype.settings import Settings
from calotype.training.enhance.landmarks import LandmarkLoss


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
