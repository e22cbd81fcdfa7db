"""What decoding in a second process costs: of one picture, of an album, and of the first picture of a command.

    python benchmarks/decoding.py [--pictures 8] [--width 1024] [--runs 3] [--model realesr-animevideov3-x2]

"here" decodes in the program's own process, which a damaged file can crash; "apart" is how the program works. Every
number is the median of the runs, in seconds; the two ways take turns. The album is upscaled by the quickest model that
ships, so that decoding is as large a part of its time as it can be; its seconds are those of processors, in this and in
the second process, which a busy machine changes little. The last line is the second process's share of them, measured
by opening the same pictures alone, since a small difference of two whole albums is noise.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil

FORMATS = {"jpeg": ".jpg", "png": ".png", "webp": ".webp", "tiff": ".tif", "avif": ".avif", "heic": ".heic"}
HERE = (
    "import sys; from calotype.picture import decoder; "
    "decoder.read = lambda function, path, *args, max_pixels: function(path, *args, max_pixels); "
    "from calotype import out_of_process; out_of_process.start = lambda: None; "
)
REPEATS = 5  # of a measurement that is shorter than the clock's steps
LIMIT = 5  # percent of an album's time that the second process may take
COMMAND = "from calotype.cli import enter; enter()"


def photo(width: int, seed: int) -> np.ndarray:
    """(H, W, 3) uint8: smooth shapes and noise, 3:2."""
    rng, height = np.random.default_rng(seed), width * 2 // 3
    y, x = np.mgrid[0:height, 0:width].astype(np.float32) / width
    waves = [np.sin(x * rng.uniform(5, 60) + rng.uniform(0, 6)) * np.cos(y * rng.uniform(5, 60)) for _ in range(3)]
    return (128 + 80 * np.stack(waves, 2) + rng.normal(0, 2, (height, width, 3))).clip(0, 255).astype(np.uint8)


def processor_time() -> float:
    """Of this process and of the one that decodes."""
    process = psutil.Process()
    return sum(sum(p.cpu_times()[:2]) for p in (process, *process.children()))


def compared(
    here: Callable[[], object],
    apart: Callable[[], object],
    runs: int,
    clock: Callable[[], float] = time.perf_counter,
) -> tuple[float, float]:
    """Medians of both, taking turns."""

    def seconds(work: Callable[[], object]) -> float:
        started = clock()
        work()
        return clock() - started

    times = [(seconds(here), seconds(apart)) for _ in range(runs)]
    return statistics.median(t[0] for t in times), statistics.median(t[1] for t in times)


def line(what: str, here: float, apart: float) -> None:
    print(f"{what:34} {here:8.3f} {apart:8.3f} {apart - here:+8.3f}  {(apart / here - 1) * 100:+6.1f} %", flush=True)


def decoding(folder: Path, width: int, runs: int) -> None:
    from calotype.picture import Picture, save

    picture = Picture(photo(width, 0))
    Picture.open(_saved(picture, folder / "first.png", "png", save))  # the process is started
    for format, suffix in FORMATS.items():
        path = _saved(picture, folder / f"photo{suffix}", format, save)
        here, apart = compared(
            lambda p=path: Picture.open_here(p, 0, None, 1 << 30), lambda p=path: Picture.open(p), 3 * runs
        )
        line(f"decode {width * (width * 2 // 3) / 1e6:.0f} megapixels of {format}", here, apart)


def _saved(picture: object, path: Path, format: str, save: Callable[..., object]) -> Path:
    save(picture, path, format=format)
    return path


def command(folder: Path, source: Path, model: str, runs: int, what: str) -> None:
    def run(prefix: str) -> None:
        arguments = ["upscale", str(source), "-o", str(folder / "out"), "--model", model, "--overwrite"]
        subprocess.run(
            [sys.executable, "-c", prefix + COMMAND, *arguments, "--device", "cpu"], check=True, capture_output=True
        )
        for path in (folder / "out").iterdir():
            path.unlink()

    line(what, *compared(lambda: run(HERE), lambda: run(""), runs))


def album(folder: Path, source: Path, model: str, runs: int, what: str) -> tuple[float, float]:
    from calotype import runner
    from calotype.engine import Engine
    from calotype.picture import decoder
    from calotype.settings import Settings
    from calotype.tasks import read_task
    from calotype.tasks.output import Album

    engine, read = Engine(Settings.gather({"device": "cpu"})), decoder.read

    def run(way: Callable[..., object]) -> None:
        decoder.read = way
        request = runner.Request((read_task("upscale", {"model": model, "source": source}),), (source,))
        for _ in runner.run(request, engine, Album(out=folder / "out", overwrite=True)):
            pass
        for path in (folder / "out").iterdir():
            path.unlink()

    def here(function: Callable[..., object], path: Path, *args: object, max_pixels: int) -> object:
        return function(path, *args, max_pixels)

    run(read)  # torch and the model are loaded
    times = compared(lambda: run(here), lambda: run(read), runs, processor_time)
    decoder.read = read
    line(what, *times)
    return times


def guard_time(paths: list[Path], runs: int) -> float:
    """What the second process adds to opening these pictures once: a small difference, so that all else is left out."""
    from calotype.picture import Picture

    def opened(opener: Callable[[Path], object]) -> None:
        for path in paths * REPEATS:
            opener(path)

    here, apart = compared(
        lambda: opened(lambda path: Picture.open_here(path, 0, None, 1 << 30)),
        lambda: opened(Picture.open),
        3 * runs,
        processor_time,
    )
    return (apart - here) / REPEATS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=8, help="pictures of the album")
    parser.add_argument("--width", type=int, default=1024, help="of the pictures of the album, in pixels")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--model", default="realesr-animevideov3-x2")
    options = parser.parse_args()
    print(f"{'':34} {'here':>8} {'apart':>8} {'more':>8}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        from calotype.picture import Picture, save

        decoding(folder, 2048, options.runs)
        (folder / "album").mkdir()
        for n in range(options.pictures):
            save(Picture(photo(options.width, n)), folder / "album" / f"{n}.jpg", format="jpeg")
        save(Picture(photo(96, 0)), folder / "small.jpg", format="jpeg")
        command(folder, folder / "small.jpg", options.model, options.runs, "a command with one small picture")
        what = f"an album of {options.pictures} pictures"
        seconds, _ = album(folder, folder / "album", options.model, options.runs, what)
        added = guard_time(sorted((folder / "album").iterdir()), options.runs)
    share = added / seconds * 100
    print(
        f"\nThe second process adds {added:.2f} s to the decoding of these pictures, {share:.1f} % of the album's "
        f"{seconds:.2f} s: {'within' if share < LIMIT else 'MORE THAN'} the {LIMIT} % allowed ({options.model}, "
        f"{options.width} pixels wide). A larger model takes longer for each picture, and the share is smaller."
    )


if __name__ == "__main__":
    main()
