"""The one door for weights: a file becomes a network that is ready to work. Nothing in a file is ever run."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch.nn.functional as F
from spandrel import MAIN_REGISTRY, ImageModelDescriptor, UnsupportedModelError
from spandrel.architectures.GFPGAN import GFPGAN
from spandrel.architectures.RestoreFormer import RestoreFormer
from torch import Tensor, nn

from calotype.checkpoints import ncnn
from calotype.checkpoints.header import check_file
from calotype.checkpoints.state_dict import WRAPPERS, read_state
from calotype.checkpoints.store import CATALOG, Checkpoint, digest, verified
from calotype.errors import CalotypeError, Remedy
from calotype.models import codeformer
from calotype.models import face_restorer as restorer
from calotype.models.network import NetworkCheckpoint

SIDE = 512  # of the aligned face that GFPGAN and RestoreFormer take
STRANGE = (KeyError, IndexError, ValueError, TypeError, RuntimeError, AssertionError, AttributeError, ZeroDivisionError)


def load(found: Checkpoint, denoise: float | None = None) -> NetworkCheckpoint:
    """Opens a checkpoint: float32, on the CPU, in eval mode, without gradients.

    Args:
        denoise: for a checkpoint with a twin (realesr-general-x4v3): 1 is it alone, 0 the twin alone; None is 1.

    Raises:
        CalotypeError: unreadable, changed since it was fetched, with code in it, or no network that Calotype knows.
    """
    check_file(found.path)
    sha256 = verified(found)
    resize = 1.0
    if pair := ncnn.pair_of(found.path):
        sha256 = _checked_weights(found, pair[1])
        converted = ncnn.read(*pair)
        state, resize = converted.state, converted.resize
    elif denoise is not None and denoise < 1 and _twin_of(found):
        state, sha256 = _mixed(found, sha256, denoise)
    else:
        state = read_state(found.path)
    built = _built(state, found.path)
    if resize != 1:
        built = _resized(built, resize)
    built.module.eval().requires_grad_(False).float()
    return NetworkCheckpoint(name=found.name, sha256=sha256, **vars(built))


def _checked_weights(found: Checkpoint, weights: Path) -> str:
    sha256, expected = digest(weights), found.entry.weights_sha256 if found.entry else ""
    if expected and sha256 != expected:
        raise CalotypeError(
            "{weights} is not the {model} that ships (sha256 {sha256}, expected {expected})",
            weights=weights,
            model=found.name,
            sha256=sha256,
            expected=expected,
        )
    return sha256


def _twin_of(found: Checkpoint) -> str:
    entry = found.entry or CATALOG.get(found.name)
    return entry.twin if entry else ""


def _mixed(found: Checkpoint, sha256: str, denoise: float) -> tuple[dict[str, Tensor], str]:
    """denoise * general + (1 - denoise) * twin, tensor by tensor, and both sha256."""
    twin = _twin_of(found)
    if found.twin is None:
        raise CalotypeError(
            "{option:denoise} {denoise:g} mixes {model} with {twin}, which is not at hand; {remedy}, or give "
            "{option:denoise} 1",
            remedy=Remedy("pull_model", twin),
            denoise=denoise,
            model=found.name,
            twin=twin,
        )
    wanted = ("params", *WRAPPERS)
    one, other = read_state(found.path, wanted), read_state(found.twin, wanted)
    if {key: value.shape for key, value in one.items()} != {key: value.shape for key, value in other.items()}:
        raise CalotypeError("{path} and {twin} cannot be mixed: their layers differ", path=found.path, twin=found.twin)
    mixed = {key: denoise * one[key].float() + (1 - denoise) * other[key].float() for key in one}
    return mixed, f"{sha256}+{digest(found.twin)}"


@dataclass(frozen=True, eq=False)
class Built:
    """What Loaded needs besides name and sha256."""

    kind: str
    module: nn.Module
    call: Callable[[nn.Module, Tensor, float], Tensor]
    scale: int = 1
    multiple: int = 1
    side: int | None = None
    has_fidelity: bool = False
    half: bool = True
    bfloat16: bool = True


def _built(state: dict[str, Tensor], path: Path) -> Built:
    """Finds the network that these weights belong to; every key must have its place."""
    state = _without_prefix(state)
    try:
        for detects, build in ARCHITECTURES:
            if detects(state):
                return build(state)
        return _from_spandrel(state, path)
    except UnsupportedModelError:
        raise CalotypeError(
            "{path} is no network that Calotype knows: {count} tensors, the first {first}; it takes networks "
            "for enlarging and for restoring faces",
            path=path,
            count=len(state),
            first=min(state)[:80],
        ) from None
    except STRANGE as fault:
        reason = " ".join(str(fault).split())[:200]
        raise CalotypeError(
            "{path} looks like a known network but does not fit it: {reason}", path=path, reason=reason
        ) from None


def _without_prefix(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Drops what training in parallel, or a class around the network, puts before every key."""
    for prefix in ("module.", "netG.", "generator."):
        if all(key.startswith(prefix) for key in state):
            state = {key.removeprefix(prefix): value for key, value in state.items()}
    return state


def _our_restorer(state: dict[str, Tensor]) -> Built:
    def call(module: nn.Module, x: Tensor, fidelity: float) -> Tensor:
        return unsigned(module(signed(x)))

    network = restorer.build(state)
    return Built("faces", network, call, side=network.side)


def _codeformer(state: dict[str, Tensor]) -> Built:
    def call(module: nn.Module, x: Tensor, fidelity: float) -> Tensor:
        return unsigned(module(signed(x), fidelity))

    network = codeformer.build(state)
    return Built("faces", network, call, side=network.side, has_fidelity=True, half=False)


ARCHITECTURES: list[tuple[Callable[[dict[str, Tensor]], bool], Callable[[dict[str, Tensor]], Built]]] = [
    (restorer.detects, _our_restorer),
    (codeformer.detects, _codeformer),
]


def _from_spandrel(state: dict[str, Tensor], path: Path) -> Built:
    found = MAIN_REGISTRY.load(state)
    if not isinstance(found, ImageModelDescriptor):
        raise CalotypeError(
            "{path} is a network for {purpose}; Calotype takes those for enlarging and for faces",
            path=path,
            purpose=found.purpose.lower(),
        )
    half, bfloat16 = found.supports_half, found.supports_bfloat16
    if found.purpose == "FaceSR":
        call = FACE_CALLS.get(type(found.model))
        if call is None:
            raise CalotypeError("{path} is a face network of a kind that Calotype does not know", path=path)
        return Built("faces", found.model, call, side=SIDE, half=half, bfloat16=bfloat16)
    channels = (found.input_channels, found.output_channels)
    if channels not in ((3, 3), (1, 1)):
        raise CalotypeError(
            "{path} takes {inputs} channels and gives {outputs}, not colour for colour",
            path=path,
            inputs=channels[0],
            outputs=channels[1],
        )
    multiple = max(1, found.size_requirements.multiple_of)
    call = _enlarging(found)
    return Built("upscale", found.model, call, found.scale, multiple, half=half, bfloat16=bfloat16)


def _enlarging(found: ImageModelDescriptor) -> Callable[[nn.Module, Tensor, float], Tensor]:
    """spandrel's own call without its clamp, for batches, on whichever copy of the network is given."""
    needs, scale, grey = found.size_requirements, found.scale, found.input_channels == 1

    def call(module: nn.Module, x: Tensor, fidelity: float) -> Tensor:
        n, c, height, width = x.shape
        if grey:
            x = x.reshape(n * c, 1, height, width)
        right, bottom = needs.get_padding(width, height)
        if right or bottom:
            x = F.pad(x, (0, right, 0, bottom), "replicate")
        y = found._call_fn(module, x)[..., : height * scale, : width * scale]
        return y.reshape(n, c, height * scale, width * scale)

    return call


def _resized(built: Built, factor: float) -> Built:
    """The network followed by a bicubic change of size, as ncnn's animevideov3 x2 and x3 have it."""

    def call(module: nn.Module, x: Tensor, fidelity: float) -> Tensor:
        y = built.call(module, x, fidelity)
        return F.interpolate(y, scale_factor=factor, mode="bicubic", align_corners=False)

    return Built(**{**vars(built), "call": call, "scale": round(built.scale * factor)})


def signed(x: Tensor) -> Tensor:
    """[0, 1] -> [-1, 1]."""
    return x * 2 - 1


def unsigned(y: Tensor) -> Tensor:
    """[-1, 1] -> [0, 1]."""
    return (y + 1) / 2


def call_gfpgan(module: nn.Module, x: Tensor, fidelity: float) -> Tensor:
    """(N, 3, 512, 512) in [0, 1] both ways. The noise is the checkpoint's own: the same face comes out the same."""
    return unsigned(module(signed(x), return_rgb=False, randomize_noise=False)[0])


def call_restoreformer(module: nn.Module, x: Tensor, fidelity: float) -> Tensor:
    """(N, 3, 512, 512) in [0, 1] both ways."""
    return unsigned(module(signed(x))[0])


FACE_CALLS: dict[type, Callable[[nn.Module, Tensor, float], Tensor]] = {
    GFPGAN: call_gfpgan,
    RestoreFormer: call_restoreformer,
}
