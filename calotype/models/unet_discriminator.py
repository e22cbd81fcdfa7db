"""The discriminator of Real-ESRGAN: a U-Net with one logit per pixel and spectral normalisation.

Wang et al. 2021, "Real-ESRGAN" (arXiv 2107.10833), §3.4; spectral normalisation is that of Miyato et al. 2018.
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from calotype.tasks.enhancing import MAX_FEATURES

SLOPE = 0.2
MULTIPLE = 8  # height and width of the input are multiples of this
# names in published files -> names here: torch has moved the parameters of spectral_norm since
TORCH_KEYS = {
    "weight_orig": "parametrizations.weight.original",
    "weight_u": "parametrizations.weight.0._u",
    "weight_v": "parametrizations.weight.0._v",
}


class UNetDiscriminator(nn.Module):
    """(N, 3, H, W) in [0, 1] -> (N, 1, H, W) logits, higher for more real; sides are multiples of 8."""

    def __init__(self, channels: int = 64):
        super().__init__()
        c = channels
        self.conv0 = nn.Conv2d(3, c, 3, 1, 1)
        self.conv1, self.conv2, self.conv3 = (_spectral_conv(c * n, c * n * 2, 4, 2) for n in (1, 2, 4))
        self.conv4, self.conv5, self.conv6 = (_spectral_conv(c * n, c * n // 2) for n in (8, 4, 2))
        self.conv7, self.conv8 = _spectral_conv(c, c), _spectral_conv(c, c)
        self.conv9 = nn.Conv2d(c, 1, 3, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        x0 = F.leaky_relu(self.conv0(x), SLOPE)
        x1 = F.leaky_relu(self.conv1(x0), SLOPE)
        x2 = F.leaky_relu(self.conv2(x1), SLOPE)
        x = F.leaky_relu(self.conv3(x2), SLOPE)
        for conv, skip in ((self.conv4, x2), (self.conv5, x1), (self.conv6, x0)):
            x = F.leaky_relu(conv(F.interpolate(x, scale_factor=2, mode="bilinear")), SLOPE) + skip
        for conv in (self.conv7, self.conv8):
            x = F.leaky_relu(conv(x), SLOPE)
        return self.conv9(x)


def _spectral_conv(in_channels: int, out_channels: int, kernel_size: int = 3, stride: int = 1) -> nn.Module:
    return spectral_norm(nn.Conv2d(in_channels, out_channels, kernel_size, stride, 1, bias=False))


def build(state: Mapping[str, Tensor]) -> UNetDiscriminator:
    """A discriminator with the weights of a published file, or of one saved here.

    Raises:
        KeyError, RuntimeError, ValueError: keys are missing, unknown, or of the wrong shape.
    """
    first = state["conv0.weight"]
    if first.ndim != 4 or not 1 <= first.shape[0] <= MAX_FEATURES:
        raise ValueError(f"conv0.weight is {tuple(first.shape)}")
    with torch.device("meta"):  # no memory for a size that a file merely declares
        network = UNetDiscriminator(first.shape[0])
    own = {}
    for key, value in state.items():
        layer, _, name = key.partition(".")
        own[f"{layer}.{TORCH_KEYS.get(name, name)}"] = value.float()
    network.load_state_dict(own, assign=True)
    return network
