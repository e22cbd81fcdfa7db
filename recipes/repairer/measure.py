"""Measures a network that finds scratches, on photos that it never saw: damaged ones, and clean ones.

    python measure.py MARKS.safetensors FOLDER [--clean FOLDER] [--half 0|1] [--sheet SHEET.png]

FOLDER holds clean photos; some of scikit-image and Gradio are taken too, and, as clean pictures alone, all of
`tests/ops/repair/scenes.py`. Each photo is made into two prints by `calotype.ops.degrade`: one gets the scratches and
specks of `age`, the other hairs, fluff, creases and tears. Damage counts where it changes a pixel by more than 9 of 255
and more than 1.2 times the noise around it; fainter damage counts neither way. A pixel beside is allowed for, around
the one with which what is found is filled.

Photos and pictures are halved by their names' order: values of the search by name were chosen on half 0, so half 1 is
measured; it only decided between values that were as good on half 0. Those of what is not asked for were chosen so that
no clean picture of either half is repaired. Pictures of the folder of `--clean`
chose one value alone: THIN, which keeps birds.
"""

import argparse
import math
import random
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[2]))
from calotype.checkpoints.models import Models
from calotype.inference.damage import find_marks
from calotype.models.repairer import local_noise
from calotype.ops.degrade.age import age_marks
from calotype.ops.degrade.jpeg import jpeg
from calotype.ops.degrade.marks import damaged
from calotype.ops.repair.damage import ASKED, UNASKED, Marks, Rule
from calotype.ops.repair.fill import filled, navier_stokes
from calotype.picture import Picture
from calotype.settings import Settings
from calotype.training.repair.pairs import FAINT, OF_NOISE, VISIBLE, printed
from tests.ops.repair.scenes import clean

MAX_SIDE = 1000  # pixels of a photo
DAMAGED_SCENES = ("chelsea", "rocket", "camera", "motorcycle_left", "cheetah1", "lion", "tower")


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
    parser.add_argument("--clean", type=Path)
    parser.add_argument("--half", type=int, choices=(0, 1), default=1)
    parser.add_argument("--sheet", type=Path)
    options = parser.parse_args()
    models = Models(Settings.gather({"device": "cpu"}, environ={}))
    network = models.repairer(options.network)

    def find(pixels: np.ndarray, rule: Rule) -> Marks:
        return find_marks(pixels, network, lambda: models.found_faces(Picture(pixels)), rule)

    scenes = {name: in_colour(drawn()) for name, drawn in clean().items()}
    photos = {path.stem: opened(path) for path in sorted(options.folder.glob("*.jpg"))}
    photos |= {name: scenes[name] for name in DAMAGED_SCENES}
    pictures = scenes | {f"held-{name}": pixels for name, pixels in photos.items() if name not in scenes}
    worn = [list(prints(name, pixels)) for name, pixels in sorted(photos.items())]
    names = sorted(pictures)
    for what, rule, halves in (("by name", ASKED, (options.half,)), ("auto", UNASKED, (0, 1))):
        print(f"\n{what}:")
        some = [one for n, both in enumerate(worn) for one in both if n % 2 in halves]
        measure_damaged(some, [find(one.marked, rule) for one in some], options.sheet if rule is ASKED else None)
        measure_clean({name: find(pictures[name], rule) for n, name in enumerate(names) if n % 2 in halves}, scenes)
        if options.clean:
            unseen = sorted(options.clean.glob("*.jpg"))
            measure_clean({path.stem: find(opened(path), rule) for path in unseen}, scenes)


def in_colour(pixels: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(pixels if pixels.shape[2] == 3 else pixels.repeat(3, 2))


def opened(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        image = image.convert("RGB")
        image.thumbnail((MAX_SIDE, MAX_SIDE), Image.Resampling.LANCZOS)
        return np.array(image)


def prints(name: str, pixels: np.ndarray) -> Iterator[Print]:
    """Two of a photo."""
    for kind in (0, 1):
        rng = random.Random(f"held {name} {kind}")
        unit = max(0.7, min(pixels.shape[:2]) / 512) * rng.uniform(0.8, 1.4)
        x = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float() / 255
        x = printed(x, rng, torch.Generator().manual_seed(rng.getrandbits(40)), unit).clamp(0, 1)
        if kind:
            y = age_marks(x, rng, unit)
        else:
            y = torch.from_numpy(damaged(x[0].permute(1, 2, 0).numpy(), rng, unit)).permute(2, 0, 1)[None]
        change = (y - x).abs().amax(1)[0]
        noise = local_noise(x.mean(1, keepdim=True))[0, 0]
        is_visible = ((change > VISIBLE) & (change > OF_NOISE * noise)).numpy()
        marked = to_pixels(jpeg(y.clamp(0, 1), rng.uniform(75, 95)))
        yield Print(f"{name} {kind}", to_pixels(x), marked, is_visible, (change > FAINT).numpy() & ~is_visible)


def to_pixels(x: torch.Tensor) -> np.ndarray:
    return (255 * x[0].clamp(0, 1)).round().byte().permute(1, 2, 0).contiguous().numpy()


def measure_damaged(held: list[Print], marks: list[Marks], sheet: Path | None) -> None:
    figures, pictures = [], []
    for one, found in zip(held, (each.mask for each in marks), strict=True):
        results = (one.marked, *(filled(one.marked, mask, navier_stokes) for mask in (found, one.is_visible)))
        if one.is_visible.sum() > 20:
            figures.append([psnr(pixels, one) for pixels in results])
        pictures.append(np.hstack([one.marked, results[1], found[..., None].repeat(3, 2) * np.uint8(255)])[:400])
    before, after, known = np.mean(figures, 0)
    repaired = sum(each.count > 0 for each in marks)
    precision, recall = precision_and_recall(held, [each.mask for each in marks])
    print(f"{len(held)} prints, {repaired} repaired: precision {precision:.3f}, recall {recall:.3f}")
    print(f"in what is damaged: {before:.2f} dB, filled where found {after:.2f}, filled where it is {known:.2f}")
    if sheet:
        width = max(picture.shape[1] for picture in pictures)
        rows = [np.pad(picture, ((0, 0), (0, width - picture.shape[1]), (0, 0))) for picture in pictures]
        Image.fromarray(np.vstack(rows)).save(sheet)


def precision_and_recall(held: list[Print], masks: list[np.ndarray]) -> tuple[float, float]:
    """Of the pixels of all prints."""
    found_count = right = visible = recalled = 0
    for one, found in zip(held, masks, strict=True):
        counted = found & ~one.is_faint
        found_count, right = found_count + counted.sum(), right + (counted & grown(grown(one.is_visible))).sum()
        visible, recalled = visible + one.is_visible.sum(), recalled + (one.is_visible & grown(found)).sum()
    return right / max(1, found_count), recalled / visible


def measure_clean(found: dict[str, Marks], scenes: dict[str, np.ndarray]) -> None:
    flagged = {name: 100 * marks.mask.mean() for name, marks in found.items() if marks.count}
    of_scenes = sum(name in scenes for name in flagged)
    print(f"{len(found)} clean pictures: {sum(flagged.values()) / len(found):.3f} % of pixels flagged", end=", ")
    print(f"{len(flagged)} repaired, {of_scenes} of them scenes:")
    worst = sorted(flagged.items(), key=lambda item: -item[1])
    print("  " + ", ".join(f"{name} {percent:.2f} %" for name, percent in worst[:8]))


def grown(mask: np.ndarray) -> np.ndarray:
    return cv2.dilate(mask.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0


def psnr(pixels: np.ndarray, one: Print) -> float:
    """In dB, of damaged pixels."""
    error = np.square(pixels[one.is_visible].astype(float) - one.clean[one.is_visible]).mean()
    return -10 * math.log10(max(error, 1e-6) / 255**2)


if __name__ == "__main__":
    main()
