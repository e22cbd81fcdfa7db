"""Which super-resolution network `auto` stands for, and how long it takes."""

import time
from collections.abc import Generator
from functools import cache

import numpy as np
import torch
from torch import nn

from calotype.checkpoints.entries import AUTO_SCALE, BEST_UPSCALER, CATALOG, quick_upscaler
from calotype.checkpoints.models import Models
from calotype.errors import Message, duration
from calotype.inference.upscale import enlarged_size, passes
from calotype.models.int8 import Int8Layer
from calotype.models.network import computes_int8, pick_dtype
from calotype.ops.drawn import is_drawn
from calotype.tasks import Note, Restore, Upscale

EFFICIENCY = 0.8  # of a whole network over the convolutions that are measured: tiles, concatenations, colours
SENTENCES = {
    "photo": "{model} takes about {time}; {option:speed} {speed} ({alternative}) would take about {alternative_time}",
    "drawing": "this looks like a drawing: {model} takes about {time}; {option:speed} {speed} ({alternative}) would "
    "take about {alternative_time}",
}
PROBE_SIDE, PROBE_CHANNELS, PROBE_LAYERS = 96, 64, 2  # of the measurement


def choose_upscaler(task: Upscale | Restore, pixels: np.ndarray, models: Models) -> Generator[Note, None, str]:
    """The name of the network for (H, W, C) pixels: the task's own, or for auto what `speed` chooses, with a note.

    `speed` auto takes the best one on a graphics card, or where its expected time is at most the task's
    `auto_seconds`, and otherwise the quick one of the smallest sufficient scale. Drawings get networks for drawings.
    """
    if not task.is_automatic or task.auto_upscaler:
        return task.auto_upscaler if task.is_automatic else getattr(task, task.UPSCALER_OPTION)
    kind = "drawing" if is_drawn(pixels) else "photo"
    scale = task.scale or AUTO_SCALE
    best, quick = BEST_UPSCALER[kind], quick_upscaler(kind, scale)
    seconds = {name: expected_seconds(name, pixels, scale, models) for name in (best, quick)}
    is_best = task.speed == "best"
    if task.speed == "auto":
        is_best = models.device.type != "cpu" or seconds[best] <= task.auto_seconds
    chosen, alternative = (best, quick) if is_best else (quick, best)
    text = Message(
        SENTENCES[kind],
        model=chosen,
        time=duration(seconds[chosen]),
        speed="quick" if is_best else "best",
        alternative=alternative,
        alternative_time=duration(seconds[alternative]),
    )
    yield Note(text, topic=f"network {chosen}")
    return chosen


def expected_seconds(name: str, pixels: np.ndarray, scale: float, models: Models) -> float:
    """About how long a network of the catalog takes for (H, W, C) pixels on this device, without loading it."""
    entry = CATALOG[name]
    shapes = passes(pixels.shape[:2], entry.scale, enlarged_size(pixels, scale))
    area = sum(height * width for height, width in shapes)
    device, precision = models.device, models.settings.precision
    dtype = torch.int8 if entry.has_ranges and computes_int8(device, precision) else pick_dtype(device, precision)[0]
    return entry.macs * area / (EFFICIENCY * _throughput(device, dtype, torch.get_num_threads()))


@cache
@torch.inference_mode()
def _throughput(device: torch.device, dtype: torch.dtype, threads: int) -> float:
    """Multiply-accumulates per second of 3x3 convolutions on a device, measured in about 50 ms."""
    layer = nn.Conv2d(PROBE_CHANNELS, PROBE_CHANNELS, 3, padding=1).to(device, memory_format=torch.channels_last)
    probe = Int8Layer.quantized(layer.weight, layer.bias, None, 0, 0) if dtype == torch.int8 else layer.to(dtype)
    x = torch.zeros(1, PROBE_CHANNELS, PROBE_SIDE, PROBE_SIDE, device=device)
    x = x.to(torch.uint8 if dtype == torch.int8 else dtype).contiguous(memory_format=torch.channels_last)
    probe(x).cpu()  # warms up
    seconds = []
    for _ in range(3):
        started = time.perf_counter()
        for _ in range(PROBE_LAYERS):
            y = probe(x)
        y.cpu()
        seconds.append(time.perf_counter() - started)
    return PROBE_LAYERS * layer.weight.numel() * PROBE_SIDE**2 / min(seconds)
