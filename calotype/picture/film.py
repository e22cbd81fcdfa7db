"""Films of frames that are all of one size: GIF by Pillow, MP4 (H.264) by PyAV."""

import importlib.util
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
from PIL import Image

from calotype.errors import CalotypeError
from calotype.picture.saving import Arriving

RATE = 24  # frames a second of an MP4
WIDE = 640  # pixels of a GIF
MISSING = "PyAV is not installed, so there is no MP4; run pip install 'calotype[film]'"


def can_mp4() -> bool:
    return importlib.util.find_spec("av") is not None


def gif(path: Path, frames: Sequence[np.ndarray], seconds: Sequence[float]) -> None:
    """(H, W, 3) uint8 frames, each shown for so many seconds; begins again at its end. Whole or not at all.

    Frames wider than WIDE are shrunk, since GIF packs badly and is for pages and chats.
    """
    images = [_small(Image.fromarray(frame)).quantize(128, dither=Image.Dither.NONE) for frame in frames]
    times = [max(20, round(100 * s) * 10) for s in seconds]  # GIF counts hundredths
    with Arriving(path) as file:
        images[0].save(file, "GIF", save_all=True, append_images=images[1:], duration=times, loop=0, optimize=False)


def _small(image: Image.Image) -> Image.Image:
    share = min(1, WIDE / image.width)
    return image.resize((round(image.width * share), round(image.height * share)), Image.Resampling.LANCZOS)


def mp4(path: Path, frames: Sequence[np.ndarray], seconds: Sequence[float], fade: float = 0.15) -> None:
    """The same as a film that plays everywhere; each frame fades into the next.

    Raises:
        CalotypeError: PyAV is missing, or the disk is full.
    """
    if not can_mp4():
        raise CalotypeError(MISSING)
    import av

    height, width = frames[0].shape[:2]
    with Arriving(path) as file, av.open(file, "w", format="mp4") as film:
        stream = film.add_stream("libx264", rate=RATE, options={"crf": "18", "preset": "medium"})
        stream.width, stream.height, stream.pix_fmt = width - width % 2, height - height % 2, "yuv420p"
        stream.time_base = Fraction(1, RATE)
        for pixels in _played(frames, seconds, fade):
            even = np.ascontiguousarray(pixels[: stream.height, : stream.width])
            for packet in stream.encode(av.VideoFrame.from_ndarray(even, format="rgb24")):
                film.mux(packet)
        for packet in stream.encode():
            film.mux(packet)


def _played(frames: Sequence[np.ndarray], seconds: Sequence[float], fade: float) -> Iterator[np.ndarray]:
    for n, (frame, time) in enumerate(zip(frames, seconds, strict=True)):
        count = max(1, round(time * RATE))
        fading = min(round(fade * RATE), count - 1) if n else 0
        for k in range(fading):
            share = (k + 1) / (fading + 1)
            yield (frames[n - 1] * (1 - share) + frame * share).astype(np.uint8)
        yield from (frame for _ in range(count - fading))
