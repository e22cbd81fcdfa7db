"""Measures how fading is found and set right, on clean photos and on prints made of them.

    python measure.py FOLDER... [--half 0|1] [--sheet SHEET.png]

The folders hold clean photos. Each is taken as it is, and made into prints: by the fading of dyes that the tests use,
by `faded` of `calotype.ops.degrade.age` (tones and colours alone), and by the whole of `age` (blur, grain, dust and a
vignette too), of the photo in colour, in grey and in sepia. All go through `restore --repair auto` as far as fading.

"Found" are those that it changes. Errors are means of CIEDE2000 to the clean photo, of the prints that were found.
Photos are halved by their names' order: values of `calotype/ops/repair/fading.py` were chosen on half 0.
"""

import argparse
import random
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from skimage.color import deltaE_ciede2000, rgb2lab

sys.path.insert(0, str(Path(__file__).parents[2]))
from calotype.checkpoints.models import Models
from calotype.inference.repair import repair
from calotype.ops.color import to_pixels, to_tensor
from calotype.ops.degrade.age import age, faded
from calotype.picture import Picture
from calotype.settings import Settings
from calotype.tasks import Restore
from tests.ops.repair.fades import FADES, sepia

MAX_SIDE = 512  # pixels of a photo
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
AMOUNTS = (0.3, 0.6, 1.0)
Fade = Callable[[np.ndarray, int], np.ndarray]  # (H, W, 3) uint8 and a seed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--half", type=int, choices=(0, 1), default=1)
    parser.add_argument("--sheet", type=Path, help="writes photos, prints of amount 1 and what becomes of them")
    options = parser.parse_args()
    models = Models(Settings.gather({"device": "cpu"}, environ={}))
    files = {path for folder in options.folders for path in folder.iterdir() if path.suffix in SUFFIXES}
    photos = {path: opened(path) for path in sorted(files, key=lambda path: (path.stem, path))[options.half :: 2]}
    measure_clean(photos, models)
    print("\n| print | found | error before | after | of that: median | the worst |\n|---|---|---|---|---|---|")
    for name, fade in prints().items():
        measure_prints(name, fade, photos, models)
    if options.sheet:
        write_sheet(photos, models, options.sheet)


def opened(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        image = image.convert("RGB")
        image.thumbnail((MAX_SIDE, MAX_SIDE), Image.Resampling.LANCZOS)
        return np.array(image)


def prints() -> dict[str, Fade]:
    dyes = {name: lambda pixels, seed, fade=fade: fade(pixels) for name, fade in FADES.items()}
    tones = {f"tones, {amount:g}": lambda pixels, seed, n=amount: tones_of(pixels, seed, n) for amount in AMOUNTS}
    whole = {f"age, {amount:g}": lambda pixels, seed, n=amount: aged(pixels, seed, n) for amount in AMOUNTS}
    worn = list(whole.items())[1:]
    return {
        **dyes,
        **tones,
        **whole,
        **{f"grey, {name}": lambda pixels, seed, fade=fade: fade(grey(pixels), seed) for name, fade in worn},
        "sepia": lambda pixels, seed: sepia(pixels),
        **{f"sepia, {name}": lambda pixels, seed, fade=fade: fade(sepia(pixels), seed) for name, fade in worn},
    }


def grey(pixels: np.ndarray) -> np.ndarray:
    return np.rint(pixels.mean(2, keepdims=True)).astype(np.uint8).repeat(3, 2)


def tones_of(pixels: np.ndarray, seed: int, amount: float) -> np.ndarray:
    x = faded(to_tensor(pixels)[None], torch.Generator().manual_seed(seed), amount=amount)
    return to_pixels(x[0].clamp(0, 1), pixels)


def aged(pixels: np.ndarray, seed: int, amount: float) -> np.ndarray:
    return to_pixels(age(to_tensor(pixels), seed, amount), pixels)


def seed_of(path: Path) -> int:
    return random.Random(path.stem).getrandbits(30)


def restored(pixels: np.ndarray, models: Models) -> np.ndarray | None:
    """None where nothing is changed."""
    steps = repair(Picture(pixels), Restore(source="photo", auto_repair="fading", examined=False), models)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result = end.value.picture.pixels
            return None if result is pixels else result


def error(pixels: np.ndarray, truth: np.ndarray) -> float:
    """Mean CIEDE2000 of every second row and column."""
    return float(deltaE_ciede2000(rgb2lab(pixels[::2, ::2]), rgb2lab(truth[::2, ::2])).mean())


def measure_clean(photos: dict[Path, np.ndarray], models: Models) -> None:
    results = {path: restored(pixels, models) for path, pixels in photos.items()}
    changed = {path: error(result, photos[path]) for path, result in results.items() if result is not None}
    print(f"{len(changed)} of {len(photos)} clean photos changed, by a mean CIEDE2000 of:")
    print("  " + ", ".join(f"{path} {difference:.1f}" for path, difference in changed.items()))


def measure_prints(name: str, fade: Fade, photos: dict[Path, np.ndarray], models: Models) -> None:
    errors = []
    for path, truth in photos.items():
        print_ = fade(truth, seed_of(path))
        result = restored(print_, models)
        if result is not None:
            errors.append((error(print_, truth), error(result, truth)))
    row = f"| {name} | {len(errors)} of {len(photos)} |"
    if not errors:
        row += " – | – | – | – |"
    else:
        before, after = np.array(errors).T
        ratio = 100 * after / before
        row += f" {before.mean():.1f} | {after.mean():.1f} | {np.median(ratio):.0f} % | {ratio.max():.0f} % |"
    print(row, flush=True)


def write_sheet(photos: dict[Path, np.ndarray], models: Models, path: Path) -> None:
    """One row for each photo: clean, aged, restored; black where nothing was found."""
    rows = []
    for photo, truth in photos.items():
        print_ = aged(truth, seed_of(photo), 1.0)
        result = restored(print_, models)
        row = np.hstack([truth, print_, np.zeros_like(truth) if result is None else result])
        rows.append(np.pad(row, ((0, 0), (0, 3 * MAX_SIDE - row.shape[1]), (0, 0))))
    Image.fromarray(np.vstack(rows)).save(path)


if __name__ == "__main__":
    main()
