"""Pictures from words, side by side with diffusers as one would write it: the same weights, steps and seeds, one table.

    python benchmarks/imagine.py [--count 4] [--steps 20] [--runs 3] [--only NAME,NAME]

Every contender works in a process of its own. "load" is from the start of the process to a model that is ready, "first"
the first picture from the start of the process, "pictures" the wanted number, from the prompt to 8-bit pixels, after
one run that is thrown away. PSNR is taken against what the first contender draws from the same seeds. diffusers'
pipeline needs transformers and accelerate (pip install '.[test]').
"""

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

PROMPT = "red apple, fluent 3d"
GUIDANCE, SEED = 3.5, 100
Draw = Callable[[int, int], np.ndarray]  # count, steps -> (N, H, W, 3) uint8


def pipeline(precision: str) -> Draw:
    """diffusers' StableDiffusionPipeline, with its usual way of setting a scheduler."""
    import torch
    from diffusers import DPMSolverMultistepScheduler, StableDiffusionPipeline

    from calotype.checkpoints.bundled import shipped

    pipe = StableDiffusionPipeline.from_pretrained(
        shipped("emoji"), torch_dtype=getattr(torch, precision), local_files_only=True
    )
    pipe.scheduler = DPMSolverMultistepScheduler.from_config(pipe.scheduler.config)
    pipe.set_progress_bar_config(disable=True)

    def draw(count: int, steps: int) -> np.ndarray:
        seeds = [torch.Generator().manual_seed(SEED + n) for n in range(count)]
        made = pipe(
            [PROMPT] * count, num_inference_steps=steps, guidance_scale=GUIDANCE, generator=seeds, output_type="np"
        )
        return (made.images * 255).round().astype(np.uint8)

    return draw


def ours(precision: str) -> Draw:
    """This program, as `calotype imagine` runs it."""
    from calotype.cli.fast_import import import_quickly

    import_quickly()
    from calotype.engine import Engine
    from calotype.record import Result
    from calotype.settings import Settings
    from calotype.tasks import Imagine

    engine = Engine(Settings.gather({"device": "cpu", "precision": precision}))
    engine.models.diffusion("emoji")

    def draw(count: int, steps: int) -> np.ndarray:
        task = Imagine(prompt=PROMPT, seed=SEED, count=count, steps=steps, guidance=GUIDANCE)
        return np.stack([step.picture.pixels for step in engine.run(task) if isinstance(step, Result)])

    return draw


CONTENDERS: dict[str, Callable[[], Draw]] = {
    "diffusers float32": lambda: pipeline("float32"),
    "diffusers bfloat16": lambda: pipeline("bfloat16"),
    "calotype float32": lambda: ours("float32"),
    "calotype": lambda: ours("auto"),
}


def work(name: str, count: int, steps: int, runs: int, out: str) -> None:
    """One contender, in its own process: writes its pictures, prints its figures as JSON."""
    begun = float(os.environ["BEGUN"])
    if name.startswith("calotype"):  # as the command line does, before torch is imported
        from calotype.cli import threads

        threads.rest()
        threads.spin_if_quiet()
    draw = CONTENDERS[name]()
    loaded = time.time() - begun
    draw(1, steps)
    first = time.time() - begun
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        made = draw(count, steps)
        times.append(time.perf_counter() - start)
    np.save(out, made)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(json.dumps({"load": loaded, "first": first, "times": times, "peak": peak}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--count", type=int, default=4)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--only", default=",".join(CONTENDERS))
    parser.add_argument("--work", nargs=2, metavar=("NAME", "OUT"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.work:
        work(args.work[0], args.count, args.steps, args.runs, args.work[1])
        return
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    machine = f"{platform.machine()}, {cores} cores"
    print(f"{args.count} pictures of 256 px, {args.steps} steps, guidance {GUIDANCE}; {machine}\n")
    print(f"{'':20} {'load s':>7} {'first s':>8} {'pictures s':>11} {'ratio':>6} {'peak GiB':>9} {'PSNR dB':>8}")
    base = None
    with tempfile.TemporaryDirectory() as folder:
        for name in args.only.split(","):
            told, made = _run(name, args, Path(folder) / "made.npy")
            median = statistics.median(told["times"])
            base = base or (median, made)
            psnr = _psnr(base[1], made)
            print(
                f"{name:20} {told['load']:7.2f} {told['first']:8.2f} {median:11.2f} {base[0] / median:6.2f} "
                f"{told['peak']:9.2f} {psnr:8.1f}",
                flush=True,
            )


def _run(name: str, args: argparse.Namespace, out: Path) -> tuple[dict, np.ndarray]:
    numbers = ["--count", str(args.count), "--steps", str(args.steps), "--runs", str(args.runs)]
    command = [sys.executable, __file__, *numbers, "--work", name, str(out)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "BEGUN": str(time.time())})
    if done.returncode:
        sys.exit(f"{name}: {done.stderr.strip()[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1]), np.load(out)


def _psnr(one: np.ndarray, other: np.ndarray) -> float:
    error = ((one.astype(float) - other) ** 2).mean()
    return float("inf") if error == 0 else 10 * np.log10(255**2 / error)


if __name__ == "__main__":
    main()
