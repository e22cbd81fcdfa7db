"""Videos of frames of one size: GIF by Pillow, MP4 (H.264) by PyAV. Frames are written as they come: one or two are in
memory at a time, however long the video is."""

import contextlib
import importlib.util
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import GifImagePlugin, Image, ImageChops

from calotype.errors import CalotypeError, Remedy
from calotype.files import atomic_file

RATE = 24  # frames a second of an MP4
WIDE = 640  # pixels of a GIF
LONGEST = 655_350  # milliseconds; longest duration of a frame of a GIF

AddFrame = Callable[[np.ndarray, float], None]  # next frame, (H, W, 3) uint8, and its duration in seconds


def can_mp4() -> bool:
    return importlib.util.find_spec("av") is not None


def missing() -> CalotypeError:
    """The error for a missing PyAV."""
    return CalotypeError("PyAV is not installed, so there is no MP4", remedy=Remedy("install", "film"))


@contextlib.contextmanager
def gif(path: Path) -> Iterator[AddFrame]:
    """Yields a function that adds frames to a looping GIF. The file appears complete or not at all.

    Frames wider than WIDE are shrunk, since GIF compresses badly and is meant for pages and chats.
    """
    with atomic_file(path) as file:
        film = _Gif(file)
        yield film.add_frame
        film.finish()


class _Gif:
    """Holds the last frame back until a different one comes: a repeated frame only extends its duration."""

    def __init__(self, file: BinaryIO):
        self._file, self._is_first = file, True
        self._last: Image.Image | None = None
        self._box, self._time = (0, 0, 0, 0), 0  # region that differs from the frame before; milliseconds

    def add_frame(self, frame: np.ndarray, seconds: float) -> None:
        image = _shrunk(Image.fromarray(frame)).quantize(128, dither=Image.Dither.NONE)
        time = max(20, round(100 * seconds) * 10)  # GIF counts hundredths of a second
        box = (0, 0, *image.size) if self._last is None else _changed(self._last, image)
        if box is None:
            self._time = min(self._time + time, LONGEST)
            return
        self._write_pending()
        self._last, self._box, self._time = image, box, time

    def finish(self) -> None:
        if self._last is None:
            raise CalotypeError("a film has no frames; give it some")
        self._write_pending()
        self._file.write(b";")

    def _write_pending(self) -> None:
        """Writes the frame held back, if any; the palette of the first is global, others have local ones."""
        if self._last is None:
            return
        if self._is_first:
            header, _ = GifImagePlugin.getheader(self._last, info={"loop": 0, "duration": self._time})
            self._file.writelines(header)
        options = {"duration": self._time, "include_color_table": not self._is_first}
        self._file.writelines(GifImagePlugin.getdata(self._last.crop(self._box), self._box[:2], **options))
        self._is_first = False


def _changed(before: Image.Image, image: Image.Image) -> tuple[int, int, int, int] | None:
    """Bounding box of the pixels that differ; None where all are equal."""
    return ImageChops.difference(before.convert("RGB"), image.convert("RGB")).getbbox()


def _shrunk(image: Image.Image) -> Image.Image:
    scale = min(1, WIDE / image.width)
    return image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.LANCZOS)


@contextlib.contextmanager
def mp4(path: Path, fade: float = 0.15) -> Iterator[AddFrame]:
    """As `gif`, for an MP4 that every player decodes; each frame fades into the next for `fade` seconds.

    Raises:
        CalotypeError: PyAV is missing, or the disk is full.
    """
    if not can_mp4():
        raise missing()
    import av

    with atomic_file(path) as file, av.open(file, "w", format="mp4") as film:
        stream = film.add_stream("libx264", rate=RATE, options={"crf": "18", "preset": "medium"})
        stream.pix_fmt, stream.time_base = "yuv420p", Fraction(1, RATE)
        before: np.ndarray | None = None

        def add_frame(frame: np.ndarray, seconds: float) -> None:
            nonlocal before
            if before is None:
                stream.height, stream.width = (side - side % 2 for side in frame.shape[:2])
            for pixels in _video_frames(before, frame, seconds, fade):
                even = np.ascontiguousarray(pixels[: stream.height, : stream.width])
                film.mux(stream.encode(av.VideoFrame.from_ndarray(even, format="rgb24")))
            before = frame

        yield add_frame
        if before is None:
            raise CalotypeError("a film has no frames; give it some")
        film.mux(stream.encode())


def _video_frames(before: np.ndarray | None, frame: np.ndarray, seconds: float, fade: float) -> Iterator[np.ndarray]:
    count = max(1, round(seconds * RATE))
    fading = 0 if before is None else min(round(fade * RATE), count - 1)
    for k in range(fading):
        fraction = (k + 1) / (fading + 1)
        yield (before * (1 - fraction) + frame * fraction).astype(np.uint8)
    yield from (frame for _ in range(count - fading))
