"""Loads super-resolution and face networks from weight files. No code in a file is ever executed."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch.nn.functional as F
from torch import Tensor, nn

from calotype.checkpoints import ncnn
from calotype.checkpoints.built import Built, signed, unsigned
from calotype.checkpoints.entries import RANGES
from calotype.checkpoints.file_kinds import wrong_kind_error
from calotype.checkpoints.header import check_file
from calotype.checkpoints.state_dict import BUILD_ERRORS, WRAPPERS, read_state
from calotype.checkpoints.store import CATALOG, Checkpoint, digest, verified_hash
from calotype.errors import CalotypeError, Message, Remedy
from calotype.models import codeformer, repairer
from calotype.models import face_restorer as restorer
from calotype.models.network import NetworkCheckpoint


def load(checkpoint: Checkpoint, denoise: float | None = None) -> NetworkCheckpoint:
    """Loads a checkpoint: float32, on the CPU, in eval mode, without gradients.

    Args:
        denoise: interpolation weight for a checkpoint with a twin (realesr-general-x4v3): 0 is the twin; None is 1.

    Raises:
        CalotypeError: unreadable, changed since its download, with code in it, or not a network that Calotype knows.
    """
    check_file(checkpoint.path)
    sha256 = verified_hash(checkpoint)
    resize = 1.0
    if pair := ncnn.pair_of(checkpoint.path):
        sha256 = _check_weights(checkpoint, pair[1])
        converted = ncnn.read(*pair)
        state, resize = converted.state, converted.resize
    elif denoise is not None and denoise < 1 and _twin_of(checkpoint):
        state, sha256 = _interpolated(checkpoint, sha256, denoise)
    else:
        state = read_state(checkpoint.path)
    built = _build(state, checkpoint.path)
    if resize != 1:
        built = _resized(built, resize)
    built.module.eval().requires_grad_(False).float()
    ranges = _activation_ranges(checkpoint)
    return NetworkCheckpoint(name=checkpoint.name, sha256=sha256, activation_ranges=ranges, **vars(built))


def _activation_ranges(checkpoint: Checkpoint) -> tuple[Tensor, ...]:
    """Of a network that ships with them: per layer but the last, (2, channels)."""
    if not (checkpoint.entry and checkpoint.entry.has_ranges):
        return ()
    state = read_state(checkpoint.path.with_name(RANGES))
    return tuple(state[f"layers.{n}"] for n in range(len(state)))


def _check_weights(checkpoint: Checkpoint, weights: Path) -> str:
    sha256, expected = digest(weights), checkpoint.entry.weights_sha256 if checkpoint.entry else ""
    if expected and sha256 != expected:
        raise CalotypeError(
            "{weights} is not the {model} that ships (sha256 {sha256}, expected {expected})",
            weights=weights,
            model=checkpoint.name,
            sha256=sha256,
            expected=expected,
        )
    return sha256


def _twin_of(checkpoint: Checkpoint) -> str:
    entry = checkpoint.entry or CATALOG.get(checkpoint.name)
    return entry.twin if entry else ""


def _interpolated(checkpoint: Checkpoint, sha256: str, denoise: float) -> tuple[dict[str, Tensor], str]:
    """denoise * general + (1 - denoise) * twin for each tensor, and both sha256."""
    twin = _twin_of(checkpoint)
    if checkpoint.twin is None:
        raise CalotypeError(
            "{option:denoise} {denoise:g} mixes {model} with {twin}, which is not at hand; {remedy}, or give "
            "{option:denoise} 1",
            remedy=Remedy("pull_model", twin),
            denoise=denoise,
            model=checkpoint.name,
            twin=twin,
        )
    wrappers = ("params", *WRAPPERS)
    state, twin_state = read_state(checkpoint.path, wrappers), read_state(checkpoint.twin, wrappers)
    if {key: value.shape for key, value in state.items()} != {key: value.shape for key, value in twin_state.items()}:
        raise CalotypeError(
            "{path} and {twin} cannot be mixed: their layers differ", path=checkpoint.path, twin=checkpoint.twin
        )
    mixed = {key: denoise * state[key].float() + (1 - denoise) * twin_state[key].float() for key in state}
    return mixed, f"{sha256}+{digest(checkpoint.twin)}"


def _build(state: dict[str, Tensor], path: Path) -> Built:
    """Detects and builds the network of these weights; every key must match."""
    state = _without_prefix(state)
    build = next((build for detects, build in ARCHITECTURES if detects(state)), None)
    if build is None:
        from calotype.checkpoints.of_spandrel import build_known  # takes a second, which our own networks do without

        build = partial(build_known, path=path)
    try:
        if built := build(state):
            return built
    except BUILD_ERRORS as fault:
        reason = " ".join(str(fault).split())[:200]
        raise CalotypeError(
            "{path} looks like a known network but does not fit it: {reason}", path=path, reason=reason
        ) from None
    shapes = {key: tuple(value.shape) for key, value in state.items()}
    raise wrong_kind_error(path, shapes, Message("a network for enlarging pictures or for faces"))


def _without_prefix(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Removes the prefix that DataParallel or a wrapper class puts before every key."""
    for prefix in ("module.", "netG.", "generator."):
        if all(key.startswith(prefix) for key in state):
            state = {key.removeprefix(prefix): value for key, value in state.items()}
    return state


def _our_restorer(state: dict[str, Tensor]) -> Built:
    def call(module: nn.Module, x: Tensor, fidelity: float) -> Tensor:
        return unsigned(module(signed(x)))

    network = restorer.build(state)
    return Built("faces", network, call, side=network.side, sees_mirrored=True)


def _codeformer(state: dict[str, Tensor]) -> Built:
    def call(module: nn.Module, x: Tensor, fidelity: float) -> Tensor:
        return unsigned(module(signed(x), fidelity))

    network = codeformer.build(state)
    return Built("faces", network, call, side=network.side, has_fidelity=True, half=False)


def _our_repairer(state: dict[str, Tensor]) -> Built:
    """Takes (N, 3, h, w); gives the probability of marks, (N, 1, h, w)."""

    def call(module: nn.Module, x: Tensor, fidelity: float) -> Tensor:
        return module.probability(x)

    network = repairer.build(state)
    return Built("repair", network, call, multiple=network.multiple, half=False, by_rows=False, takes_float32=True)


ARCHITECTURES: list[tuple[Callable[[dict[str, Tensor]], bool], Callable[[dict[str, Tensor]], Built]]] = [
    (restorer.detects, _our_restorer),
    (codeformer.detects, _codeformer),
    (repairer.detects, _our_repairer),
]


def _resized(built: Built, factor: float) -> Built:
    """The network followed by a bicubic resize, as in ncnn's animevideov3 x2 and x3."""

    def call(module: nn.Module, x: Tensor, fidelity: float) -> Tensor:
        y = built.call(module, x, fidelity)
        return F.interpolate(y, scale_factor=factor, mode="bicubic", align_corners=False)

    return replace(built, call=call, scale=round(built.scale * factor), by_rows=False)
