"""Figures of quick networks on held-back photos, beside x4plus, animevideov3 and bicubic; and a sheet to look at.

    python measure.py HELD --x2 FILE --x4 FILE [--sheet FILE] [--crops 2]

Of each photo, square crops of 256 pixels, brought to half their size before where the photo is large enough, so that
the truth is sharp. Each is reduced (clean), or degraded as in training (Wang et al. 2021, "Real-ESRGAN", second order),
and enlarged again. PSNR, and the distance of EfficientNet-Lite0's features that training uses: to the truth, and to
what x4plus answers. Lower is better, PSNR aside.
"""

import argparse
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.nn import functional

from calotype.checkpoints.models import Models
from calotype.ops.degrade import SecondOrder, second_order
from calotype.settings import Settings
from calotype.training.optim.perceptual import Lite

SIDE = 256  # pixels of a crop
TEACHER = "realesrgan-x4plus"
SMALL = {2: "realesr-animevideov3-x2", 4: "realesr-animevideov3"}
SHEET_SIDE = 192  # pixels of the source of each picture on the sheet
Enlarge = Callable[[Tensor], Tensor]  # (1, 3, h, w) -> (1, 3, h * scale, w * scale)


def crops(folder: Path, count: int) -> Iterator[tuple[str, Tensor]]:
    """Name and (1, 3, SIDE, SIDE) in [0, 1] of each crop; of a face one."""
    chance = random.Random(1)
    for path in sorted(folder.glob("*.jpg")):
        with Image.open(path) as photo:
            photo = photo.convert("RGB")
        reduce = 2 if min(photo.size) >= 2 * SIDE else 1
        for _ in range(1 if path.name.startswith("face-") else count):
            x, y = (chance.randint(0, size - SIDE * reduce) for size in photo.size)
            crop = photo.crop((x, y, x + SIDE * reduce, y + SIDE * reduce))
            yield path.stem, functional.avg_pool2d(_tensor(crop), reduce)


def _tensor(picture: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None].float() / 255


def low_resolution(truth: Tensor, scale: int, kind: str, seed: int) -> Tensor:
    if kind == "clean":
        return functional.avg_pool2d(truth, scale)
    return second_order(truth, torch.Generator().manual_seed(seed), SecondOrder(scale))


def psnr(a: Tensor, b: Tensor) -> float:
    return float(-10 * (a - b).square().mean().clamp_min(1e-10).log10())


@torch.no_grad()
def measure(networks: dict[str, Enlarge], folder: Path, scale: int, count: int) -> dict[tuple[str, str], np.ndarray]:
    """Mean figures by (kind, network): PSNR and distance to the truth, the same to x4plus, seconds."""
    features, rows = Lite(), {}
    for n, (_, truth) in enumerate(crops(folder, count)):
        for kind in ("clean", "degraded"):
            low = low_resolution(truth, scale, kind, seed=n)
            answers, seconds = {}, {}
            for name, network in networks.items():
                started = time.perf_counter()
                answers[name] = functional.adaptive_avg_pool2d(network(low).clamp(0, 1), SIDE)
                seconds[name] = time.perf_counter() - started
            for name, answer in answers.items():
                row = [value for other in (truth, answers[TEACHER]) for value in compared(answer, other, features)]
                rows.setdefault((kind, name), []).append([*row, seconds[name]])
    return {key: np.mean(values, 0) for key, values in rows.items()}


def compared(answer: Tensor, other: Tensor, features: Lite) -> tuple[float, float]:
    return psnr(answer, other), float(features(answer, other))


def networks_of(scale: int, quick: Path, models: Models) -> dict[str, Enlarge]:
    def bicubic(x: Tensor) -> Tensor:
        return functional.interpolate(x, scale_factor=scale, mode="bicubic")

    return {
        "bicubic": bicubic,
        SMALL[scale]: models.upscaler(SMALL[scale]),
        f"photo-x{scale}": models.upscaler(str(quick)),
        TEACHER: models.upscaler(TEACHER),
    }


def show(scale: int, figures: dict[tuple[str, str], np.ndarray]) -> None:
    table = Table(title=f"scale {scale}, {torch.get_num_threads()} threads")
    for head in ("source", "network", "PSNR dB", "features", "PSNR to x4plus", "features to x4plus", "seconds"):
        table.add_column(head, justify="left" if head in ("source", "network") else "right")
    for (kind, name), (truth, distance, near, apart, seconds) in sorted(figures.items()):
        if name == TEACHER:
            near, apart = np.nan, np.nan
        cells = (f"{truth:.2f}", f"{distance:.3f}", f"{near:.2f}", f"{apart:.3f}", f"{seconds:.3f}")
        table.add_row(kind, name, *cells)
    Console(width=110).print(table)


@torch.no_grad()
def sheet(folder: Path, scale: int, networks: dict[str, Enlarge], path: Path) -> None:
    """Ten sources at full size, as they are, one below the other: bicubic, the quick network, x4plus."""
    rows = []
    for name, truth in list(crops(folder, 1))[:10]:
        low = truth[..., :SHEET_SIDE, :SHEET_SIDE]
        low = low_resolution(low, 1, "degraded", seed=len(name)) if len(rows) % 2 else low
        size = (SHEET_SIDE * scale, SHEET_SIDE * scale)
        answers = (networks[n](low).clamp(0, 1) for n in ("bicubic", f"photo-x{scale}", TEACHER))
        rows.append(torch.cat([functional.adaptive_avg_pool2d(answer, size) for answer in answers], 3))
    pixels = (torch.cat(rows, 2)[0].permute(1, 2, 0) * 255).round().byte().numpy()
    Image.fromarray(pixels).save(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("held", type=Path)
    parser.add_argument("--x2", type=Path, default=Path("photo-x2"))
    parser.add_argument("--x4", type=Path, default=Path("photo-x4"))
    parser.add_argument("--sheet", type=Path)
    parser.add_argument("--crops", type=int, default=2, help="of each photo")
    options = parser.parse_args()
    models = Models(Settings.gather({}))
    for scale, quick in ((2, options.x2), (4, options.x4)):
        networks = networks_of(scale, quick, models)
        if options.sheet and scale == 2:
            sheet(options.held, scale, networks, options.sheet)
        show(scale, measure(networks, options.held, scale, options.crops))


if __name__ == "__main__":
    main()
