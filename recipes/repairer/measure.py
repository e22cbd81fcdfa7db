"""Measures a network that finds scratches: on photos that it never saw, as they are and damaged.

    python measure.py MARKS.safetensors FOLDER [--sheet SHEET.png]

FOLDER holds clean photos. Damage is that of `calotype.ops.degrade`: every second photo gets the scratches and specks of
`age`, the others hairs, fluff, creases and tears too. Damage counts where it changes a pixel by more than 9 of 255 and
more than 1.2 times the noise around it; fainter damage counts neither way. A pixel beside is allowed for,
around the one with which what is found is filled.
"""

import argparse
import math
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image

from calotype.checkpoints.models import Models
from calotype.inference.damage import find_marks
from calotype.models.network import Network
from calotype.models.repairer import local_noise
from calotype.ops.degrade.age import age_marks
from calotype.ops.degrade.jpeg import jpeg
from calotype.ops.degrade.marks import damaged
from calotype.ops.repair.fill import filled, navier_stokes
from calotype.settings import Settings
from calotype.training.repair.pairs import FAINT, OF_NOISE, VISIBLE, printed

MAX_SIDE = 1000  # pixels of a photo


@dataclass(frozen=True, eq=False)
class Print:
    name: str
    clean: np.ndarray  # (H, W, 3) uint8
    marked: np.ndarray  # (H, W, 3) uint8
    is_visible: np.ndarray  # (H, W) bool
    is_faint: np.ndarray  # (H, W) bool


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--sheet", type=Path)
    options = parser.parse_args()
    network = Models(Settings.gather({"device": "cpu"})).repairer(options.network)
    photos = {path.stem: opened(path) for path in sorted(options.folder.glob("*.jpg"))}
    print("| clean photos | flagged, % of pixels | scratches | specks |\n|---|---|---|---|")
    for name, pixels in photos.items():
        marks = find_marks(pixels, network)
        print(f"| {name} | {100 * marks.mask.mean():.3f} | {marks.scratches} | {marks.specks} |")
    measure(list(prints(photos)), network, options.sheet)


def opened(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        image = image.convert("RGB")
        image.thumbnail((MAX_SIDE, MAX_SIDE), Image.Resampling.LANCZOS)
        return np.array(image)


def prints(photos: dict[str, np.ndarray]) -> Iterator[Print]:
    for n, (name, pixels) in enumerate(photos.items()):
        rng = random.Random(f"held {name}")
        unit = max(0.7, min(pixels.shape[:2]) / 512) * rng.uniform(0.8, 1.4)
        x = torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255
        x = printed(x, rng, torch.Generator().manual_seed(rng.getrandbits(40)), unit).clamp(0, 1)
        if n % 2:
            y = age_marks(x, rng, unit)
        else:
            y = torch.from_numpy(damaged(x[0].permute(1, 2, 0).numpy(), rng, unit)).permute(2, 0, 1)[None]
        change = (y - x).abs().amax(1)[0]
        noise = local_noise(x.mean(1, keepdim=True))[0, 0]
        is_visible = ((change > VISIBLE) & (change > OF_NOISE * noise)).numpy()
        marked = to_pixels(jpeg(y.clamp(0, 1), rng.uniform(75, 95)))
        yield Print(name, to_pixels(x), marked, is_visible, (change > FAINT).numpy() & ~is_visible)


def to_pixels(x: torch.Tensor) -> np.ndarray:
    return (255 * x[0].clamp(0, 1)).round().byte().permute(1, 2, 0).contiguous().numpy()


def measure(held: list[Print], network: Network, sheet: Path | None) -> None:
    found_count = right = visible = recalled = 0
    figures, pictures = [], []
    for one in held:
        found = find_marks(one.marked, network).mask
        counted = found & ~one.is_faint
        found_count, right = found_count + counted.sum(), right + (counted & grown(grown(one.is_visible))).sum()
        visible, recalled = visible + one.is_visible.sum(), recalled + (one.is_visible & grown(found)).sum()
        results = (one.marked, *(filled(one.marked, mask, navier_stokes) for mask in (found, one.is_visible)))
        figures.append([psnr(pixels, one) for pixels in results])
        pictures.append(np.hstack([one.marked, results[1], found[..., None].repeat(3, 2) * np.uint8(255)])[:400])
    before, after, known = np.mean(figures, 0)
    print(f"\n{len(held)} prints: precision {right / max(1, found_count):.3f}, recall {recalled / visible:.3f}")
    print(f"in what is damaged: {before:.2f} dB, filled where found {after:.2f}, filled where it is {known:.2f}")
    if sheet:
        width = max(picture.shape[1] for picture in pictures)
        rows = [np.pad(picture, ((0, 0), (0, width - picture.shape[1]), (0, 0))) for picture in pictures]
        Image.fromarray(np.vstack(rows)).save(sheet)


def grown(mask: np.ndarray) -> np.ndarray:
    return cv2.dilate(mask.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0


def psnr(pixels: np.ndarray, one: Print) -> float:
    """In dB, of damaged pixels."""
    error = np.square(pixels[one.is_visible].astype(float) - one.clean[one.is_visible]).mean()
    return -10 * math.log10(max(error, 1e-6) / 255**2)


if __name__ == "__main__":
    main()
