"""Networks of the architectures that spandrel knows: for enlarging, for faces, for filling holes."""

from collections.abc import Callable
from pathlib import Path

import torch.nn.functional as F
from spandrel import MAIN_REGISTRY, ImageModelDescriptor, MaskedImageModelDescriptor, UnsupportedModelError
from spandrel.architectures.GFPGAN import GFPGAN
from spandrel.architectures.RestoreFormer import RestoreFormer
from torch import Tensor, nn

from calotype.checkpoints.built import Built, signed, unsigned
from calotype.errors import CalotypeError

SIDE = 512  # of the aligned face crop that GFPGAN and RestoreFormer take


def build_known(state: dict[str, Tensor], path: Path) -> Built | None:
    """The network of these weights; None where spandrel knows none.

    Raises:
        CalotypeError: it is for something else than pictures of three channels, their faces or their holes.
        another exception: the weights don't fit the network that they look like.
    """
    try:
        descriptor = MAIN_REGISTRY.load(state)
    except UnsupportedModelError:
        return None
    if isinstance(descriptor, MaskedImageModelDescriptor):
        return _inpainting(descriptor, path)
    if not isinstance(descriptor, ImageModelDescriptor):
        raise CalotypeError(
            "{path} is a network for {purpose}; Calotype takes those for enlarging and for faces",
            path=path,
            purpose=descriptor.purpose.lower(),
        )
    half, bfloat16 = descriptor.supports_half, descriptor.supports_bfloat16
    if descriptor.purpose == "FaceSR":
        call = FACE_CALLS.get(type(descriptor.model))
        if call is None:
            raise CalotypeError("{path} is a face network of a kind that Calotype does not know", path=path)
        return Built("faces", descriptor.model, call, side=SIDE, half=half, bfloat16=bfloat16)
    channels = (descriptor.input_channels, descriptor.output_channels)
    if channels not in ((3, 3), (1, 1)):
        raise CalotypeError(
            "{path} takes {inputs} channels and gives {outputs}, not colour for colour",
            path=path,
            inputs=channels[0],
            outputs=channels[1],
        )
    multiple = max(1, descriptor.size_requirements.multiple_of)
    call = _enlarging(descriptor)
    return Built("upscale", descriptor.model, call, descriptor.scale, multiple, half=half, bfloat16=bfloat16)


def _enlarging(descriptor: ImageModelDescriptor) -> Callable[[nn.Module, Tensor, float], Tensor]:
    """spandrel's call without its clamp, for batches, on the given copy of the network."""
    needs, scale, grey = descriptor.size_requirements, descriptor.scale, descriptor.input_channels == 1

    def call(module: nn.Module, x: Tensor, fidelity: float) -> Tensor:
        n, c, height, width = x.shape
        if grey:
            x = x.reshape(n * c, 1, height, width)
        right, bottom = needs.get_padding(width, height)
        if right or bottom:
            x = F.pad(x, (0, right, 0, bottom), "replicate")
        y = descriptor._call_fn(module, x)[..., : height * scale, : width * scale]
        return y.reshape(n, c, height * scale, width * scale)

    return call


def _inpainting(descriptor: MaskedImageModelDescriptor, path: Path) -> Built:
    """Takes a picture and its mask, (N, 4, h, w), 1 in holes; gives the picture with filled holes, (N, 3, h, w)."""
    if (descriptor.input_channels, descriptor.output_channels) != (3, 3):
        raise CalotypeError("{path} is an inpainting network for other pictures than RGB; give another file", path=path)

    def call(module: nn.Module, x: Tensor, fidelity: float) -> Tensor:
        return descriptor._call_fn(module, x[:, :3], x[:, 3:])

    needs = descriptor.size_requirements
    sizes = {"multiple": max(1, needs.multiple_of), "min_side": max(1, needs.minimum)}
    return Built("inpaint", descriptor.model, call, **sizes, half=False, bfloat16=False, by_rows=False)


def call_gfpgan(module: nn.Module, x: Tensor, fidelity: float) -> Tensor:
    """(N, 3, 512, 512), in [0, 1]. The noise is stored in the checkpoint: the output is deterministic."""
    return unsigned(module(signed(x), return_rgb=False, randomize_noise=False)[0])


def call_restoreformer(module: nn.Module, x: Tensor, fidelity: float) -> Tensor:
    """(N, 3, 512, 512), input and output in [0, 1]."""
    return unsigned(module(signed(x))[0])


FACE_CALLS: dict[type, Callable[[nn.Module, Tensor, float], Tensor]] = {
    GFPGAN: call_gfpgan,
    RestoreFormer: call_restoreformer,
}
