import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from skimage.data import astronaut

from calotype.checkpoints.bundled import shipped
from calotype.models import face_restorer as restorer
from calotype.models.face_restorer import Restorer
from calotype.ops.faces import align, similarity, template


def small() -> Restorer:
    torch.manual_seed(0)
    return Restorer((8, 16, 24), (1, 2, 1))


def test_an_untrained_one_changes_nothing():
    face = torch.rand(2, 3, 32, 32) * 2 - 1
    assert torch.equal(small()(face), face)


def test_the_size_is_read_from_the_weights():
    first = small()
    torch.nn.init.normal_(first.leave.weight)
    state = first.state_dict()
    assert restorer.detects(state)
    again = restorer.build({key: value.half().float() for key, value in state.items()})
    face = torch.rand(1, 3, 32, 32)
    assert not torch.equal(again(face), face)
    assert torch.allclose(again(face), first(face), atol=0.02)


def test_other_weights_are_not_taken_for_it():
    assert not restorer.detects(torch.nn.Conv2d(3, 3, 3).state_dict())


@pytest.mark.parametrize("change", ["missing", "unknown"])
def test_every_key_must_have_its_place(change):
    state = small().state_dict()
    if change == "missing":
        del state["down.1.1.norm.bias"]
    else:
        state["down.9.extra"] = torch.zeros(1)
    with pytest.raises(RuntimeError):
        restorer.build(state)


def test_the_shipped_one_brings_a_poor_face_nearer_to_the_good_one():
    good = aligned_astronaut()
    poor = cv2.resize(cv2.GaussianBlur(good, (0, 0), 5), (85, 85), interpolation=cv2.INTER_AREA)
    poor = poor + np.random.default_rng(0).normal(0, 6, poor.shape)
    poor = cv2.resize(poor.clip(0, 255).astype(np.float32), (512, 512), interpolation=cv2.INTER_CUBIC)
    network = restorer.build(load_file(shipped("faces-v3", "model.safetensors"))).eval()
    with torch.inference_mode():
        drawn = network(torch.from_numpy(poor / 127.5 - 1).permute(2, 0, 1)[None])[0]
    drawn = (drawn.permute(1, 2, 0).numpy() + 1) * 127.5
    assert np.square(drawn - good).mean() < 0.8 * np.square(poor - good).mean()  # 0.65 when it was measured


def aligned_astronaut() -> np.ndarray:
    """(512, 512, 3) float32 in [0, 255], as the network wants faces."""
    landmarks = np.array([[203, 101], [247, 103], [225, 125], [204, 141], [243, 143]], float)
    return align(astronaut(), similarity(landmarks, template(512)), 512).astype(np.float32)
