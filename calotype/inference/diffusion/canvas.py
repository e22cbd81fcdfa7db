"""Prepares the canvas of a generation: text-to-image, image-to-image, inpainting or outpainting."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from calotype.errors import CalotypeError, Message
from calotype.inference.masks import read_mask
from calotype.ops.color import match_channels, max_value, to_pixels, to_tensor
from calotype.ops.resize import resized_region
from calotype.picture import Picture
from calotype.suffixes import SUFFIXES
from calotype.tasks import Imagine, read_margins, read_size

OVERLAP = 8  # pixels of the picture that outpainting regenerates, to hide the seam
MAX_BLENDED = 8  # pictures, with the initial one
CROP_ABOVE = 1.5  # a masked picture this much larger than the model's native size is cropped around the mask


@dataclass(frozen=True, eq=False)
class Canvas:
    """Sizes are (height, width). `pixels` and `mask` have the size `work` of the U-Net, a multiple of its step."""

    size: tuple[int, int]  # of the generated picture
    work: tuple[int, int]  # the same, padded for the U-Net
    pixels: Tensor | None = None  # (1, 3, h, w) in [0, 1]
    blended: tuple[Tensor, ...] = ()  # further pictures as `pixels`
    mask: Tensor | None = None  # (1, 1, h, w): 1 is generated, 0 is kept
    source: Picture | None = None  # as it was opened
    base: np.ndarray | None = None  # (H, W, C): the background, in the size of the result
    alpha: np.ndarray | None = None  # (H, W): of the result, if the source has one; generated pixels are opaque
    fade: np.ndarray | None = None  # (H, W) float32: opacity of the generated pixels; exactly 0 outside the mask
    box: tuple[int, int, int, int] | None = None  # top, left, bottom, right of the generated part of `base`
    mask_sha256: str = ""  # of the mask's file
    notes: tuple[Message, ...] = ()  # for the user

    def enlarged(self, times: float, multiple: int) -> "Canvas":
        """The text-to-image canvas of a second pass."""
        work = tuple(-(-round(side * times) // multiple) * multiple for side in self.work)
        return Canvas(tuple(round(side * times) for side in self.size), work)

    def composited(self, drawn: Tensor) -> np.ndarray:
        """Composites (3, h, w) in [0, 1] of the size `work` into the background: the pixels of the result."""
        drawn = drawn[:, : self.size[0], : self.size[1]]
        if self.base is None:
            return to_pixels(drawn, np.empty((1, 1, 3), np.uint8))
        top, left, bottom, right = self.box
        around, fade = self.base[top:bottom, left:right], torch.from_numpy(self.fade[top:bottom, left:right])
        if drawn.shape[1:] != around.shape[:2]:
            drawn = resized(drawn, around.shape[:2])
        old = to_tensor(around)
        mixed = to_pixels(old + fade * (drawn - old), around)
        result = self.base.copy()
        result[top:bottom, left:right] = np.where(self.fade[top:bottom, left:right, None] > 0, mixed, around)
        return result


SizeCheck = Callable[[tuple[int, int]], None]


def open_canvas(
    task: Imagine, native: int, multiple: int, max_pixels: int, check: SizeCheck = lambda work: None
) -> Canvas:
    """Opens the files of the task and prepares the canvas.

    Args:
        check: is called with the size (height, width) of the U-Net before anything of that size is allocated, and
            raises if it is too large.

    Raises:
        CalotypeError: a file is not a picture, or the mask is empty or of another size.
    """
    size = read_size(task.size, "size")
    if task.init is None:
        canvas = _empty_canvas(size or (native, native), multiple)
        check(canvas.work)
        return canvas
    source = Picture.open(task.init, max_pixels)
    if task.outpaint:
        return _outpaint_canvas(task, source, multiple, check)
    if task.mask:
        mask = Picture.open_option("mask", task.mask, max_pixels)
        return _inpaint_canvas(task, source, mask, _Sizes(size, native, multiple, check))
    canvas = _empty_canvas(size or _native_area_size(source.pixels.shape[:2], native), multiple)
    check(canvas.work)
    pixels = _placed(source, task, canvas)
    if task.blend:
        further = [_placed(Picture.open(path, max_pixels), task, canvas) for path in blended_files(task.blend)]
        canvas = replace(canvas, blended=tuple(further))
    white_parts = Message("{init} is transparent in parts; they are drawn as white", init=task.init.name)
    return replace(canvas, pixels=pixels, source=source, notes=() if source.alpha is None else (white_parts,))


def blended_files(folder: Path) -> list[Path]:
    """The pictures to blend with the initial one. Raises CalotypeError for none and for too many."""
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES) if folder.is_dir() else []
    if not 1 <= len(files) < MAX_BLENDED:
        raise CalotypeError(
            "{option} is a folder with 1 to {limit} pictures, not {count}",
            option="blend",
            limit=MAX_BLENDED - 1,
            count=len(files),
        )
    return files


def _placed(source: Picture, task: Imagine, canvas: Canvas) -> Tensor:
    """(1, 3, H, W): a whole picture on the canvas."""
    return _reflect_padded(_resized_to(source.on_white().in_srgb().pixels, canvas.size, task.resize), canvas)


@dataclass(frozen=True)
class _Sizes:
    """What determines the size `work`: the requested size, and the requirements of the model."""

    requested: tuple[int, int] | None
    native: int
    multiple: int
    check: SizeCheck


def _opaque(alpha: np.ndarray | None, fade: np.ndarray) -> np.ndarray | None:
    """(H, W): opaque where generated pixels show, unchanged bit for bit elsewhere."""
    if alpha is None:
        return None
    opaque = max_value(alpha.dtype)
    raised = (alpha + fade * (opaque - alpha.astype(np.float32)) + 0.5).clip(0, opaque).astype(alpha.dtype)
    return np.where(fade > 0, raised, alpha)


def _empty_canvas(size: tuple[int, int], multiple: int) -> Canvas:
    return Canvas(size, tuple(-(-side // multiple) * multiple for side in size))


def _native_area_size(size: tuple[int, int], native: int) -> tuple[int, int]:
    """The aspect ratio of the source with the native area of the model, in steps of 8."""
    scale = native / (size[0] * size[1]) ** 0.5
    return tuple(max(8, round(side * scale / 8) * 8) for side in size)


def _reflect_padded(x: Tensor, canvas: Canvas) -> Tensor:
    """(C, h, w) -> (1, C, H, W), reflected at the right and the bottom."""
    x = x[None]
    right, bottom = canvas.work[1] - canvas.size[1], canvas.work[0] - canvas.size[0]
    while right or bottom:
        step = (min(right, x.shape[3] - 1), min(bottom, x.shape[2] - 1))
        if not any(step):
            return F.pad(x, (0, right, 0, bottom), "replicate")
        x = F.pad(x, (0, step[0], 0, step[1]), "reflect")
        right, bottom = right - step[0], bottom - step[1]
    return x


def resized(x: Tensor, size: tuple[int, int]) -> Tensor:
    """(3, H, W) in [0, 1] by Lanczos."""
    pixels = to_pixels(x, np.empty((1, 1, 3), np.uint16))
    return resized_region(pixels, size, slice(0, size[0]), slice(0, size[1])).clamp(0, 1)


def _resized_to(pixels: np.ndarray, size: tuple[int, int], mode: str) -> Tensor:
    """(H, W, C) to (3, h, w) in [0, 1] of `size`: cropped, padded at the borders, or stretched.

    Only the visible part of the resized picture is computed.
    """
    height, width = pixels.shape[:2]
    if (height, width) == size:
        return to_tensor(pixels)
    if mode == "stretch":
        return resized_region(pixels, size, slice(0, size[0]), slice(0, size[1])).clamp(0, 1)
    pick = max if mode == "crop" else min
    scale = pick(size[0] / height, size[1] / width)
    scaled = (max(1, round(height * scale)), max(1, round(width * scale)))
    window = [
        slice(max((side - target) // 2, 0), max((side - target) // 2, 0) + min(side, target))
        for side, target in zip(scaled, size, strict=True)
    ]
    x = resized_region(pixels, scaled, *window).clamp(0, 1)
    top, left = ((target - side) // 2 for target, side in zip(size, x.shape[1:], strict=True))
    edges = (left, size[1] - x.shape[2] - left, top, size[0] - x.shape[1] - top)
    return F.pad(x[None], edges, "replicate")[0]


def _inpaint_canvas(task: Imagine, source: Picture, mask_picture: Picture, sizes: _Sizes) -> Canvas:
    mask, notes = _generated_part(task, source, mask_picture)
    height, width = mask.shape
    is_cropped = task.only_masked or (sizes.requested is None and max(height, width) > sizes.native * CROP_ABOVE)
    box = _mask_box(mask, task.padding, sizes.native) if is_cropped else (0, 0, height, width)
    top, left, bottom, right = box
    box_size = (bottom - top, right - left)
    work = sizes.requested or (_native_area_size(box_size, sizes.native) if is_cropped else box_size)
    canvas = _empty_canvas(work, sizes.multiple)
    sizes.check(canvas.work)
    x = to_tensor(source.on_white().pixels[top:bottom, left:right])
    filled = _fill_blurred(x, mask[top:bottom, left:right]) if task.fill == "blur" else x
    resized_mask = cv2.resize(mask[top:bottom, left:right].astype(np.float32), work[::-1], interpolation=cv2.INTER_AREA)
    fade = _mask_fade(mask, task.mask_blur)
    return replace(
        canvas,
        pixels=_reflect_padded(filled if work == box_size else resized(filled, work), canvas),
        mask=_reflect_padded(torch.from_numpy((resized_mask[None] > 0).astype(np.float32)), canvas),
        source=source,
        base=source.pixels,
        alpha=_opaque(source.alpha, fade),
        fade=fade,
        box=box,
        mask_sha256=mask_picture.sha256,
        notes=notes,
    )


def _generated_part(task: Imagine, source: Picture, mask_picture: Picture) -> tuple[np.ndarray, tuple[Message, ...]]:
    """(H, W) bool, True where the picture is generated; and notes."""
    painted = read_mask(mask_picture, source.pixels.shape[:2], task.mask.name)
    mask, notes = painted.pixels, ()
    paint = Message("black" if task.invert_mask else "white")
    if painted.is_layer:
        paint = Message("transparent" if task.invert_mask else "opaque")
        sentence = "{mask} has transparent parts: its opaque pixels are the mask; or give {option:invert_mask}"
        notes = (Message(sentence, mask=task.mask.name),)
    mask = ~mask if task.invert_mask else mask
    if not mask.any():
        mend = Message("leave out {option:invert_mask}") if task.invert_mask else Message("give {option:invert_mask}")
        raise CalotypeError(
            "{mask} is an empty mask: no pixel of it is {paint}; paint the area to generate, or {mend}",
            option="mask",
            mask=task.mask,
            paint=paint,
            mend=mend,
        )
    return mask, notes


def _mask_box(mask: np.ndarray, padding: int, native: int) -> tuple[int, int, int, int]:
    """The bounding box of the mask with padding, at least of the model's native size if the picture is that large."""
    box = []
    for profile, side in ((mask.any(1), mask.shape[0]), (mask.any(0), mask.shape[1])):
        first, last = np.flatnonzero(profile)[[0, -1]]
        first, last = first - padding, last + 1 + padding
        missing = max(0, min(native, side) - (last - first))
        first, last = first - missing // 2, last + missing - missing // 2
        first, last = max(0, first - max(0, last - side)), min(side, last - min(0, first))
        box.append((int(first), int(last)))
    return box[0][0], box[1][0], box[0][1], box[1][1]


def _mask_fade(mask: np.ndarray, blur: int) -> np.ndarray:
    """Opacity: 1 inside, falling to the border of the mask over `blur` pixels, exactly 0 outside."""
    inside = np.pad(mask, 1, mode="edge").astype(np.uint8)  # the border of the picture is not a border of the mask
    depth = cv2.distanceTransform(inside, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)[1:-1, 1:-1] if not mask.all() else None
    if depth is None:
        return np.ones(mask.shape, np.float32)
    depth_fraction = np.clip(depth / (blur + 1), 0, 1).astype(np.float32)
    return depth_fraction * depth_fraction * (3 - 2 * depth_fraction)


def _fill_blurred(x: Tensor, mask: np.ndarray) -> Tensor:
    """(3, h, w) with the masked area filled by the surrounding colours, increasingly blurred inwards."""
    keep = torch.from_numpy(~mask).float()
    result, sigma = x * keep, 2
    missing = ~keep.bool()
    while missing.any() and sigma < 2 * max(mask.shape):
        blurred = [_blurred(plane.numpy(), sigma) for plane in (*(x * keep), keep)]
        weight = torch.from_numpy(blurred[3])
        reached = missing & (weight > 0.02)
        colour = torch.from_numpy(np.stack(blurred[:3])) / weight.clamp(min=1e-6)
        result = torch.where(reached, colour, result)
        missing, sigma = missing & ~reached, sigma * 2
    return result.clamp(0, 1)


def _blurred(plane: np.ndarray, sigma: int) -> np.ndarray:
    return cv2.GaussianBlur(np.ascontiguousarray(plane), (0, 0), sigma)


def _outpaint_canvas(task: Imagine, source: Picture, multiple: int, check: SizeCheck) -> Canvas:
    left, top, right, bottom = read_margins(task.outpaint)
    height, width = source.pixels.shape[:2]
    size = (height + top + bottom, width + left + right)
    canvas = _empty_canvas(size, multiple)
    check(canvas.work)
    mask = np.ones(size, bool)
    inner = [
        slice(edge + (OVERLAP if edge else 0), edge + side - (OVERLAP if opposite else 0))
        for edge, side, opposite in ((top, height, bottom), (left, width, right))
    ]
    mask[inner[0], inner[1]] = False
    base, shown = (
        _edge_padded(pixels, (top, bottom, left, right)) for pixels in (source.pixels, source.on_white().pixels)
    )
    alpha = None if source.alpha is None else np.pad(source.alpha, ((top, bottom), (left, right)))
    fade = np.ones(size, np.float32)
    fade[top : top + height, left : left + width] = _mask_fade(mask, OVERLAP - 1)[
        top : top + height, left : left + width
    ]
    return replace(
        canvas,
        pixels=_reflect_padded(_fill_blurred(to_tensor(match_channels(shown, np.empty((1, 1, 3)))), mask), canvas),
        mask=_reflect_padded(torch.from_numpy(mask[None].astype(np.float32)), canvas),
        source=source,
        base=base,
        alpha=_opaque(alpha, fade),
        fade=fade,
        box=(0, 0, *size),
    )


def _edge_padded(pixels: np.ndarray, margins: tuple[int, int, int, int]) -> np.ndarray:
    """(H, W, C) with its edges repeated at top, bottom, left and right."""
    top, bottom, left, right = margins
    return np.pad(pixels, ((top, bottom), (left, right), (0, 0)), "edge")
