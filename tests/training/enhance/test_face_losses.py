"""The losses of faces move their points to where they belong, their eyes and their descriptors."""

import numpy as np
import pytest
import torch
from skimage import data
from skimage.transform import resize

from calotype.checkpoints.models import Models
from calotype.models.face_identity import CHIP, SIDE, FaceDescriptor
from calotype.ops.face_measures import eye_openness
from calotype.ops.faces import align, similarity, template
from calotype.settings import Settings
from calotype.training.enhance.face_losses import DescriptorLoss, EyeLoss, LandmarkLoss, _openness, descriptor_chips


@pytest.fixture(scope="module")
def mesh():
    return Models(Settings.gather({"device": "cpu"}, environ={})).face_mesh()


@pytest.fixture(scope="module")
def loss(mesh):
    return LandmarkLoss(mesh.mesh_network)


@pytest.fixture(scope="module")
def eyes(mesh):
    return EyeLoss(mesh.mesh_network, mesh.iris_network)


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


def narrowed(face, mesh, numbers):
    """A face, (1, 3, H, W), with these eyes squeezed to two thirds of their height."""
    pixels = face[0].permute(1, 2, 0).numpy().copy()
    found = mesh.find(pixels)
    for number in numbers:
        (left, top), (right, bottom) = found.lids[number].min(0) - 4, found.lids[number].max(0) + 4
        rows, columns = slice(int(top), int(bottom) + 1), slice(int(left), int(right) + 1)
        eye = pixels[rows, columns]
        height = 2 * len(eye) // 3
        above = (len(eye) - height) // 2
        small = resize(eye, (height, eye.shape[1]), anti_aliasing=True)
        pixels[rows, columns] = np.pad(small, ((above, len(eye) - height - above), (0, 0), (0, 0)), "edge")
    return torch.from_numpy(pixels.transpose(2, 0, 1)[None].copy())


def test_eyes_are_as_open_for_the_loss_as_for_the_measure(eyes, mesh, face):
    for numbers in ((), (0,), (1,), (0, 1)):
        changed = narrowed(face, mesh, numbers)
        measured = eye_openness(mesh.find(changed[0].permute(1, 2, 0).numpy()))
        seen = _openness(eyes._eyes(changed, eyes._eye_grid(changed)))[0]
        np.testing.assert_allclose(seen, measured, atol=0.04)


def test_one_eye_that_is_narrower_counts_for_more_than_its_points(eyes, mesh, face):
    assert eyes(face, face) == pytest.approx(0.01, abs=1e-4)  # the root of SMOOTH
    one, other, both = (float(eyes(narrowed(face, mesh, numbers), face)) for numbers in ((0,), (1,), (0, 1)))
    assert min(one, other) > both > 0.02


def test_its_gradient_opens_an_eye(eyes, mesh, face):
    x = narrowed(face, mesh, (0,)).requires_grad_()
    before = eyes(x, face)
    before.backward()
    assert torch.isfinite(x.grad).all() and not any(parameter.requires_grad for parameter in eyes.parameters())
    step = 0.02 * x.grad / x.grad.abs().max()
    assert eyes((x - step).detach(), face) < before.detach()


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
