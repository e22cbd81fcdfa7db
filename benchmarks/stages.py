"""Where the time of one restored photo goes: decode, detect, faces, network, paste, encode, metadata.

    python benchmarks/stages.py [--picture FILE | --width 4000] [--faces 5] [--scale 2] [--upscaler photo-x2] [--runs 1]
    python benchmarks/stages.py --album 50 [--width 1155] [--faces 1]

The photo is made from pictures of scikit-image and examples/collins.jpg, whose face is pasted into it. Models are
loaded, and the command has run once over a small picture, before the clock starts. Seconds are those of a clock; "cpu"
is the processor time of this process and of the one that decodes, which a busy machine changes less. "peak" is the
largest resident memory of this process up to the end of the stage.

With --album it restores a folder of such photos, and tells how busy it keeps the cores: "busy" is processor time by
seconds and cores. "ready" is the part of the cores for which the program had work, running or waiting for a core that
another program had: on a machine without others, both are the same (Linux only).
"""

import argparse
import contextlib
import functools
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import GeneratorType
from typing import Any

import cv2
import numpy as np
import psutil

PHOTO = Path(__file__).parents[1] / "examples" / "collins.jpg"
FACE = 420  # pixels; side of the pasted square
QUICK, SLOW = "photo-x2", "realesr-animevideov3-x2"  # the second where the first is not in the catalog
STAGES = {  # name: functions whose time it is, in calls by the module that is named
    "decode": ["calotype.picture:Picture.open", "calotype.runner:size_of"],
    "detect": ["calotype.pipelines.restore:find_faces"],
    "faces": ["calotype.pipelines.restore:restore_faces"],
    "network": ["calotype.pipelines.restore:enlarge", "calotype.pipelines.restore:enlarge_alpha"],
    "paste": ["calotype.pipelines.restore:paste_face"],
    "metadata": ["calotype.picture.save:fitted", "calotype.outputs.save:write_sidecar"],
    "encode": ["calotype.runner:save_result"],  # less what is metadata in it
}


def photo(width: int, faces: int) -> np.ndarray:
    """(H, W, 3) uint8 RGB, 4:3: pictures side by side at their own sharpness, with faces pasted in a row."""
    from skimage import data

    height = width * 3 // 4
    sources = [data.astronaut(), data.chelsea(), data.coffee(), data.rocket(), data.hubble_deep_field()]
    canvas, rng, at = np.empty((height, width, 3), np.uint8), np.random.default_rng(0), 0
    for top in range(0, height, 600):
        for left in range(0, width, 800):
            source = cv2.resize(sources[at % len(sources)], (800, 600), interpolation=cv2.INTER_CUBIC)
            part = canvas[top : top + 600, left : left + 800]
            part[:] = source[: part.shape[0], : part.shape[1]]
            at += 1
    face = cv2.imread(str(PHOTO))[..., ::-1]
    side = min(face.shape[:2])
    face = face[:side, :side]
    shown = min(FACE, width // max(1, faces + 1))
    for n in range(faces):
        square = cv2.resize(face, (shown, shown), interpolation=cv2.INTER_AREA)
        square = cv2.GaussianBlur(square, (0, 0), 1.5) if shown > 100 else square
        left, top = (width - shown) * n // max(1, faces - 1), int(rng.integers(0, height - shown))
        canvas[top : top + shown, left : left + shown] = square
    return canvas


@dataclass
class Clock:
    seconds: float = 0.0
    cpu: float = 0.0
    peak: int = 0


class Stages:
    """Times of the stages; one within another is counted once, as the inner one."""

    def __init__(self) -> None:
        self.clocks = {name: Clock() for name in [*STAGES, "other"]}
        self._stack = ["other"]
        self._since, self._cpu = time.perf_counter(), cpu_seconds()

    def enter(self, name: str) -> None:
        self._count()
        self._stack.append(name)

    def leave(self) -> None:
        self._count()
        self._stack.pop()

    def _count(self) -> None:
        now, cpu, clock = time.perf_counter(), cpu_seconds(), self.clocks[self._stack[-1]]
        clock.seconds += now - self._since
        clock.cpu += cpu - self._cpu
        clock.peak = peak_bytes()
        self._since, self._cpu = now, cpu

    def timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def call(*args: Any, **values: Any) -> Any:
            self.enter(name)
            try:
                result = function(*args, **values)
            finally:
                self.leave()
            return self._steps(name, result) if isinstance(result, GeneratorType) else result

        return call

    def _steps(self, name: str, steps: Iterator[Any]) -> Iterator[Any]:
        while True:
            self.enter(name)
            try:
                step = next(steps)
            except StopIteration as end:
                return end.value
            finally:
                self.leave()
            yield step

    @contextlib.contextmanager
    def measured(self) -> Iterator[None]:
        """Replaces the functions of `STAGES` by timed ones."""
        import importlib

        replaced = []
        for name, places in STAGES.items():
            for place in places:
                module, _, path = place.partition(":")
                owner, (*classes, attribute) = importlib.import_module(module), path.split(".")
                for each in classes:
                    owner = getattr(owner, each)
                if attribute not in vars(owner):
                    continue
                old = vars(owner)[attribute]
                replaced.append((owner, attribute, old))
                is_method = isinstance(old, classmethod)
                new = self.timed(name, old.__func__ if is_method else old)
                setattr(owner, attribute, classmethod(new) if is_method else new)
        self._since, self._cpu = time.perf_counter(), cpu_seconds()
        try:
            yield
        finally:
            self._count()
            for owner, attribute, old in replaced:
                setattr(owner, attribute, old)


def cpu_seconds() -> float:
    """Of this process and of the one that decodes."""
    process = psutil.Process()
    return sum(sum(p.cpu_times()[:2]) for p in (process, *process.children()))


def peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def ready_threads(pid: int) -> int:
    """Threads of a process and its children that run or wait for a core."""
    count = 0
    for process in (psutil.Process(pid), *psutil.Process(pid).children()):
        for stat in Path(f"/proc/{process.pid}/task").glob("*/stat"):
            with contextlib.suppress(OSError):
                count += stat.read_text().rpartition(")")[2].split()[0] == "R"
    return count


def sample(pid: int, cores: int) -> None:
    """In a process of its own: counts until its input is closed, then prints the part of the cores that had work."""
    ended = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
    counts = []
    while not ended.wait(0.05):
        counts.append(min(cores, ready_threads(pid)) / cores)
    print(statistics.mean(counts) if counts else 0.0)


def album(engine: Any, folder: Path, options: argparse.Namespace) -> None:
    from calotype.picture import Picture, save

    (folder / "in").mkdir()
    for n in range(options.album):
        pixels = np.roll(photo(options.width, options.faces), n * 37, 1)
        save(Picture(pixels), folder / "in" / f"photo{n:02}.jpg", format="jpeg")
    cores = len(psutil.Process().cpu_affinity()) if hasattr(psutil.Process, "cpu_affinity") else psutil.cpu_count()
    command = [sys.executable, __file__, "--sample", str(psutil.Process().pid), str(cores)]
    sampler = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    started, cpu, before = time.perf_counter(), cpu_seconds(), peak_bytes()
    restore(engine, folder / "in", folder / "out", options)
    seconds, cpu = time.perf_counter() - started, cpu_seconds() - cpu
    ready = float(sampler.communicate()[0] or 0)
    height, width = pixels.shape[:2]
    print(f"{options.album} photos of {width}x{height}, {options.upscaler}, x{options.scale:g}, {cores} cores")
    print(f"seconds {seconds:.1f}, cpu {cpu:.1f}, busy {cpu / seconds / cores:.1%}, ready {ready:.1%}")
    print(f"peak {peak_bytes() / 2**20:.0f} MiB, {before / 2**20:.0f} before", flush=True)


def restore(engine: Any, source: Path, out: Path, options: argparse.Namespace) -> None:
    from calotype import runner
    from calotype.tasks import read_task
    from calotype.tasks.events import Failed
    from calotype.tasks.output import Album

    task = read_task("restore", {"source": source, "scale": options.scale, "upscaler": options.upscaler})
    for event in runner.run(runner.Request((task,), (source,)), engine, Album(out=out, overwrite=True)):
        if isinstance(event, Failed):
            sys.exit(str(event.cause))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--picture", type=Path, help="a photo of your own")
    parser.add_argument("--width", type=int, default=4000, help="of the photo that is made, 4:3")
    parser.add_argument("--faces", type=int, default=5, help="faces in the photo that is made")
    parser.add_argument("--scale", type=float, default=2.0)
    parser.add_argument("--upscaler", help=f"catalog name or file; {QUICK} where the catalog has it")
    parser.add_argument("--format", default="jpeg", choices=("jpeg", "png", "webp", "tiff"))
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--album", type=int, default=0, help="photos of a folder, with --width 1155 for 1 megapixel")
    parser.add_argument("--sample", type=int, nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.sample:
        sample(*options.sample)
        return
    from calotype.checkpoints.entries import CATALOG
    from calotype.engine import Engine
    from calotype.picture import Picture, save
    from calotype.settings import Settings

    options.upscaler = options.upscaler or (QUICK if QUICK in CATALOG else SLOW)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        suffix = {"jpeg": "jpg", "tiff": "tif"}.get(options.format, options.format)
        if options.picture is None:
            options.picture = folder / f"photo.{suffix}"
            save(Picture(photo(options.width, options.faces)), options.picture, format=options.format)
        small = folder / f"small.{suffix}"
        save(Picture(photo(400, 1)), small, format=options.format)
        engine = Engine(Settings.gather({"device": "cpu"}))
        restore(engine, small, folder / "first", options)
        if options.album:
            album(engine, folder, options)
            return
        before = peak_bytes()
        height, width = Picture.open(options.picture).pixels.shape[:2]
        for run in range(options.runs):
            stages = Stages()
            with stages.measured():
                restore(engine, options.picture, folder / f"out{run}", options)
            show(stages, f"{width}x{height}, {options.upscaler}, x{options.scale:g}", before)


def show(stages: Stages, title: str, before: int) -> None:
    print(f"{title}; {before / 2**20:.0f} MiB before")
    print(f"{'stage':10} {'seconds':>8} {'cpu':>8} {'peak MiB':>9}")
    for name, clock in stages.clocks.items():
        print(f"{name:10} {clock.seconds:8.2f} {clock.cpu:8.2f} {clock.peak / 2**20:9.0f}")
    clocks = stages.clocks.values()
    total, cpu = sum(c.seconds for c in clocks), sum(c.cpu for c in clocks)
    print(f"{'all':10} {total:8.2f} {cpu:8.2f}")
    decode = stages.clocks["decode"]
    print(f"{'- decode':10} {total - decode.seconds:8.2f} {cpu - decode.cpu:8.2f}", flush=True)


if __name__ == "__main__":
    main()
