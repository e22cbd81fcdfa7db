"""Seconds for examining and repairing a photo against enlarging it, and the most memory, by size.

    python benchmarks/repair.py [--megapixels 0.2 3 12]

The photo is made of pictures of scikit-image, with its colours faded and with examples/collins.jpg's face pasted in,
as `benchmarks/stages.py` makes it. Each figure is of processes of their own, by the command line, the quicker of two;
the time of starting and loading is that of the same command over a tiny photo, and is taken off. Of repairing, that of
reading and writing the photo without a repair is taken off too. The column "x4plus" is what its time was estimated at
where it would take longer than a minute.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
from stages import photo

LONGEST = 60  # seconds of x4plus that are measured
REPAIRS = "texture,scratches,fading"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megapixels", type=float, nargs="+", default=[0.2, 3, 12])
    sizes = parser.parse_args().megapixels
    print("| megapixels | examine and repair, s | photo-x4, s | share | x4plus, s | share | memory of repair, MiB |")
    print("|---|---|---|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        tiny = written(0.01, folder)
        for megapixels in sizes:
            path = written(megapixels, folder)
            repairing, memory = repaired(path, tiny, REPAIRS)
            repairing -= repaired(path, tiny, "none")[0]
            quick = enlarging(path, tiny, "photo-x4")
            best = estimated(path)
            best = best if best > LONGEST else enlarging(path, tiny, "realesrgan-x4plus")
            shares = (f"{100 * repairing / seconds:.0f} %" for seconds in (quick, best))
            cells = (f"{megapixels:g}", f"{repairing:.1f}", f"{quick:.1f}", next(shares), f"{best:.0f}", next(shares))
            print(f"| {' | '.join(cells)} | {memory / 2**20:.0f} |", flush=True)


def written(megapixels: float, folder: str) -> Path:
    """A faded print of about that size."""
    pixels = photo(max(96, round((megapixels * 4e6 / 3) ** 0.5)), 2)
    path = Path(folder) / f"{megapixels:g}.png"
    cv2.imwrite(str(path), cv2.convertScaleAbs(pixels[..., ::-1], alpha=0.75, beta=40))
    return path


def repaired(path: Path, tiny: Path, repairs: str) -> tuple[float, int]:
    """Seconds, and the most memory in bytes (Linux), of restoring at scale 1 without networks but those of repairs."""
    options = ["--scale", "1", "--faces", "none", "--upscaler", "none", "--repair", repairs]
    return beyond(path, tiny, options)


def enlarging(path: Path, tiny: Path, upscaler: str) -> float:
    options = ["--scale", "4", "--faces", "none", "--repair", "none", "--upscaler", upscaler]
    return beyond(path, tiny, options)[0]


def beyond(path: Path, tiny: Path, options: list[str]) -> tuple[float, int]:
    """Seconds by which a photo takes longer than a tiny one, and the most memory in bytes (Linux)."""
    runs, starts = ([run([str(photo), *options]) for _ in range(2)] for photo in (path, tiny))
    return min(runs)[0] - min(starts)[0], max(memory for _, memory in runs)


def run(arguments: list[str]) -> tuple[float, int]:
    with tempfile.TemporaryDirectory() as out:
        start = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, "-m", "calotype", "restore", *arguments, "-o", out],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
    if status:
        sys.exit(f"restore {' '.join(arguments)} ended with {status}")
    return seconds, usage.ru_maxrss * 1024


def estimated(path: Path) -> float:
    """Seconds of x4plus, as the command's plan estimates them."""
    command = [sys.executable, "-m", "calotype", "restore", str(path), "--plan", "--scale", "4", "--repair", "none"]
    text = subprocess.run([*command, "--speed", "quick"], capture_output=True, text=True, check=True).stdout
    found = re.search(
        r"realesrgan-x4plus\) (?:would take|takes) about (?:(\d+) hours?)?.*?(\d+) (second|minute|hour)", text
    )
    units = {"second": 1, "minute": 60, "hour": 3600}
    return int(found[2]) * units[found[3]] if found else 0.0


if __name__ == "__main__":
    main()
