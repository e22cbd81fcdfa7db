"""Restoring photos, the whole command, side by side with how others run the same networks: seconds and memory.

    python benchmarks/restore.py [--model realesrgan-x4plus] [--face-model faces-v3] [--quick photo-x2] [--scale 2]
                                 [--photos collins,astronaut,album] [--only NAME,NAME]

Each contender is a process that starts, loads its networks, reads the photo, restores it and writes a PNG:

calotype        `calotype restore` with the network of --model
quick           the same with the network of --quick
original        as inference_realesrgan.py and inference_gfpgan.py work on a processor: float32, NCHW, the picture whole
                (in tiles of 400 where it is larger), faces one by one, OpenCV around it. Written for this comparison.
ncnn            as upscayl works: the network in ncnn, in tiles, without faces. For models that are ncnn files, where
                ncnn is installed (pip install ncnn)

Detector and networks are the same in all. "cpu" is processor time, which a busy machine changes less than seconds.
"""

import argparse
import importlib.util
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

EXAMPLE = Path(__file__).parents[1] / "examples" / "collins.jpg"
TILE, TILE_PAD = 400, 10
NCNN_TILE = 200  # what ncnn takes for processors
QUICK = "photo-x2"


def photos(folder: Path, names: list[str]) -> dict[str, Path]:
    """The three photos: one of a person, one with a face in front of detail, one with two faces among others."""
    from skimage import data
    from stages import photo

    makers: dict[str, Callable[[], np.ndarray]] = {
        "collins": lambda: cv2.imread(str(EXAMPLE))[..., ::-1],
        "astronaut": data.astronaut,
        "album": lambda: photo(800, 2),
    }
    paths = {}
    for name in names:
        paths[name] = folder / f"{name}.png"
        cv2.imwrite(str(paths[name]), np.ascontiguousarray(makers[name]()[..., ::-1]))
    return paths


# ----------------------------------------------------------------------------------------------- contenders


def original(source: Path, out: Path, options: argparse.Namespace) -> None:
    import torch
    from upscale import _tile_by_tile

    from calotype.checkpoints.open_network import load
    from calotype.checkpoints.store import ModelStore
    from calotype.models.face_detector import Detector
    from calotype.ops.faces import similarity, template
    from calotype.settings import Settings

    store = ModelStore(Settings.gather({}))
    upscaler, faces = (
        load(store.find(options.model, kind="upscale")),
        load(store.find(options.face_model, kind="faces")),
    )
    detector = Detector(store.find("yunet", kind="detect").path)
    picture = cv2.imread(str(source), cv2.IMREAD_COLOR)[..., ::-1]
    height, width = (round(side * options.scale) for side in picture.shape[:2])

    def tensor(pixels: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(pixels.astype(np.float32) / 255).permute(2, 0, 1)[None].contiguous()

    def pixels(y: torch.Tensor) -> np.ndarray:
        return (y[0].permute(1, 2, 0).numpy().clip(0, 1) * 255).round().astype(np.uint8)

    def enlarge(x: torch.Tensor) -> torch.Tensor:
        if max(x.shape[2:]) <= TILE:
            return upscaler.call(upscaler.module, x, 0.5)
        return _tile_by_tile(lambda tile: upscaler.call(upscaler.module, tile, 0.5), x, TILE, upscaler.scale)

    with torch.no_grad():
        result = cv2.resize(pixels(enlarge(tensor(picture))), (width, height), interpolation=cv2.INTER_LANCZOS4)
        for face in detector.find(np.ascontiguousarray(picture)):
            matrix = similarity(np.asarray(face.landmarks, np.float64), template(faces.side))
            crop = cv2.warpAffine(picture, matrix, (faces.side,) * 2, borderValue=(135, 133, 132))
            restored = pixels(faces.call(faces.module, tensor(crop), 0.5))
            back = cv2.invertAffineTransform(matrix) * options.scale
            pasted = cv2.warpAffine(restored, back, (width, height))
            mask = cv2.warpAffine(np.ones((faces.side,) * 2, np.float32), back, (width, height))
            edge = max(3, int(mask.sum() ** 0.5) // 20)
            mask = cv2.erode(mask, np.ones((2 * edge, 2 * edge), np.uint8))
            mask = cv2.GaussianBlur(mask, (2 * edge + 1, 2 * edge + 1), 0)[..., None]
            result = (mask * pasted + (1 - mask) * result).astype(np.uint8)
    cv2.imwrite(str(out), result[..., ::-1])


def ncnn(source: Path, out: Path, options: argparse.Namespace) -> None:
    import ncnn

    from calotype.checkpoints.ncnn import pair_of
    from calotype.checkpoints.store import ModelStore
    from calotype.settings import Settings

    param, weights = pair_of(ModelStore(Settings.gather({})).find(options.model, kind="upscale").path)
    layers = [line.split() for line in param.read_text().splitlines()[2:] if line.strip()]
    first, last = layers[0][4], layers[-1][4 + int(layers[-1][2])]
    network = ncnn.Net()
    network.opt.use_vulkan_compute, network.opt.num_threads = False, os.cpu_count()
    network.load_param(str(param))
    network.load_model(str(weights))
    picture = np.ascontiguousarray(cv2.imread(str(source), cv2.IMREAD_COLOR)[..., ::-1])
    result = None
    for top in range(0, picture.shape[0], NCNN_TILE):
        for left in range(0, picture.shape[1], NCNN_TILE):
            y, x = max(0, top - TILE_PAD), max(0, left - TILE_PAD)
            bottom, right = top + NCNN_TILE + TILE_PAD, left + NCNN_TILE + TILE_PAD
            tile = np.ascontiguousarray(picture[y:bottom, x:right])
            given = ncnn.Mat.from_pixels(tile, ncnn.Mat.PixelType.PIXEL_RGB, tile.shape[1], tile.shape[0])
            given.substract_mean_normalize([], [1 / 255] * 3)
            extractor = network.create_extractor()
            extractor.input(first, given)
            found = np.array(extractor.extract(last)[1]).transpose(1, 2, 0)
            scale = found.shape[0] // tile.shape[0]
            if result is None:
                result = np.zeros((picture.shape[0] * scale, picture.shape[1] * scale, 3), np.uint8)
            part = found[(top - y) * scale : (top - y + NCNN_TILE) * scale, (left - x) * scale :]
            part = part[:, : NCNN_TILE * scale]
            at = (slice(top * scale, top * scale + len(part)), slice(left * scale, left * scale + part.shape[1]))
            result[at] = (part.clip(0, 1) * 255).round()
    height, width = (round(side * options.scale) for side in picture.shape[:2])
    cv2.imwrite(str(out), cv2.resize(result, (width, height), interpolation=cv2.INTER_LANCZOS4)[..., ::-1])


def command(name: str, source: Path, out: Path, options: argparse.Namespace) -> list[str]:
    """The command line of a contender."""
    if name in ("calotype", "quick"):
        upscaler = options.quick if name == "quick" else options.model
        flags = ["--upscaler", upscaler, "--face-model", options.face_model, "--scale", str(options.scale)]
        start = "from calotype.cli import enter; enter()"
        return [sys.executable, "-c", start, "restore", str(source), "-o", str(out), *flags, "--device", "cpu"]
    given = {"model": options.model, "face-model": options.face_model, "scale": options.scale}
    flags = [text for key, value in given.items() for text in (f"--{key}", str(value))]
    return [sys.executable, __file__, "--work", name, str(source), str(out), *flags]


WORK = {"original": original, "ncnn": ncnn}
CONTENDERS = ("original", "ncnn", "calotype", "quick")


# --------------------------------------------------------------------------------------------- measurement


@dataclass(frozen=True)
class Measured:
    """Seconds, processor seconds and peak memory in bytes of a process; or why there are none."""

    seconds: float = 0.0
    cpu: float = 0.0
    peak: int = 0
    why: str = ""


def reason_left_out(name: str, options: argparse.Namespace) -> str:
    if name == "quick" and not options.quick:
        return f"{QUICK} is not in the catalog: give --quick FILE"
    if name == "ncnn":
        from calotype.checkpoints.ncnn import pair_of
        from calotype.checkpoints.store import ModelStore
        from calotype.settings import Settings

        if importlib.util.find_spec("ncnn") is None:
            return "not installed"
        if pair_of(ModelStore(Settings.gather({})).find(options.model, kind="upscale").path) is None:
            return f"{options.model} is no ncnn file"
    return ""


def measured(name: str, source: Path, out: Path, options: argparse.Namespace) -> Measured:
    started = time.perf_counter()
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command(name, source, out, options), stdout=log, stderr=log)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode or not out.is_file():
            log.seek(0)
            lines = log.read().decode("utf-8", "replace").strip().splitlines() or ["failed"]
            return Measured(why=lines[-1])
    peak = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return Measured(seconds, usage.ru_utime + usage.ru_stime, peak)


def compare(options: argparse.Namespace) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"{options.model}, {options.face_model}, x{options.scale:g}, {platform.machine()}")
    for head in ("photo", "contender", "seconds", "cpu", "times as fast", "peak GiB"):
        table.add_column(head, justify="left" if head in ("photo", "contender") else "right")
    names, rows = [name for name in CONTENDERS if name in options.only.split(",")], []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for title, source in photos(folder, options.photos.split(",")).items():
            height, width = cv2.imread(str(source)).shape[:2]
            first: Measured | None = None
            for contender in names:
                print(f"{title}: {contender} ...", file=sys.stderr, flush=True)
                why = reason_left_out(contender, options)
                out = folder / f"{title}-{contender}.png"
                row = Measured(why=why) if why else measured(contender, source, out, options)
                rows.append({"photo": title, "contender": contender, **vars(row)})
                if row.why:
                    table.add_row(f"{title} {width}x{height}", contender, row.why)
                    continue
                first = first or row
                fast = f"{first.seconds / row.seconds:.2f}"
                peak = f"{row.peak / 2**30:.2f}"
                table.add_row(
                    f"{title} {width}x{height}", contender, f"{row.seconds:.1f}", f"{row.cpu:.1f}", fast, peak
                )
    Console(width=max(100, Console().width)).print(table)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n", "utf-8")


def main() -> None:
    from calotype.checkpoints.entries import CATALOG

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="realesrgan-x4plus")
    parser.add_argument("--face-model", default="faces-v3")
    parser.add_argument("--quick", default=QUICK if QUICK in CATALOG else "", help="catalog name or file")
    parser.add_argument("--scale", type=float, default=2.0)
    parser.add_argument("--photos", default="collins,astronaut,album")
    parser.add_argument("--only", default=",".join(CONTENDERS))
    parser.add_argument("--json", type=Path, help="also write the rows to this file")
    parser.add_argument("--work", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        name, source, out = options.work
        WORK[name](Path(source), Path(out), options)
    else:
        compare(options)


if __name__ == "__main__":
    main()
