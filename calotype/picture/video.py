"""Films of frames that are all of one size: GIF by Pillow, MP4 (H.264) by PyAV. Of a film in the making, a frame or two
lie in memory, however long it is."""

import contextlib
import importlib.util
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import GifImagePlugin, Image, ImageChops

from calotype.errors import CalotypeError, Remedy
from calotype.files import whole_file

RATE = 24  # frames a second of an MP4
WIDE = 640  # pixels of a GIF
LONGEST = 655_350  # thousandths of a second that a frame of a GIF can be shown

Shown = Callable[
    [np.ndarray, float], None
]  # takes the next frame, (H, W, 3) uint8, and for how many seconds it is shown


def can_mp4() -> bool:
    return importlib.util.find_spec("av") is not None


def missing() -> CalotypeError:
    """What to say where it cannot."""
    return CalotypeError("PyAV is not installed, so there is no MP4", remedy=Remedy("install", "film"))


@contextlib.contextmanager
def gif(path: Path) -> Iterator[Shown]:
    """A film that begins again at its end, of the frames that it is shown within. Whole or not at all.

    Frames wider than WIDE are shrunk, since GIF packs badly and is for pages and chats.
    """
    with whole_file(path) as file:
        film = _Gif(file)
        yield film.shown
        film.ended()


class _Gif:
    """The last frame waits until another one comes: while the same is shown again, only its time grows."""

    def __init__(self, file: BinaryIO):
        self._file, self._is_first = file, True
        self._last: Image.Image | None = None
        self._part, self._time = (0, 0, 0, 0), 0  # where it differs from the one before; thousandths of a second

    def shown(self, frame: np.ndarray, seconds: float) -> None:
        image = _small(Image.fromarray(frame)).quantize(128, dither=Image.Dither.NONE)
        time = max(20, round(100 * seconds) * 10)  # GIF counts hundredths
        part = (0, 0, *image.size) if self._last is None else _changed(self._last, image)
        if part is None:
            self._time = min(self._time + time, LONGEST)
            return
        self._written()
        self._last, self._part, self._time = image, part, time

    def ended(self) -> None:
        if self._last is None:
            raise CalotypeError("a film has no frames; give it some")
        self._written()
        self._file.write(b";")

    def _written(self) -> None:
        """The frame that waits, if one does; the first one's colours are the film's, others bring their own."""
        if self._last is None:
            return
        if self._is_first:
            header, _ = GifImagePlugin.getheader(self._last, info={"loop": 0, "duration": self._time})
            self._file.writelines(header)
        how = {"duration": self._time, "include_color_table": not self._is_first}
        self._file.writelines(GifImagePlugin.getdata(self._last.crop(self._part), self._part[:2], **how))
        self._is_first = False


def _changed(before: Image.Image, image: Image.Image) -> tuple[int, int, int, int] | None:
    """The smallest part outside which both look alike; None where they do everywhere."""
    return ImageChops.difference(before.convert("RGB"), image.convert("RGB")).getbbox()


def _small(image: Image.Image) -> Image.Image:
    share = min(1, WIDE / image.width)
    return image.resize((round(image.width * share), round(image.height * share)), Image.Resampling.LANCZOS)


@contextlib.contextmanager
def mp4(path: Path, fade: float = 0.15) -> Iterator[Shown]:
    """The same as a film that plays everywhere; each frame fades into the next, for so many seconds.

    Raises:
        CalotypeError: PyAV is missing, or the disk is full.
    """
    if not can_mp4():
        raise missing()
    import av

    with whole_file(path) as file, av.open(file, "w", format="mp4") as film:
        stream = film.add_stream("libx264", rate=RATE, options={"crf": "18", "preset": "medium"})
        stream.pix_fmt, stream.time_base = "yuv420p", Fraction(1, RATE)
        before: np.ndarray | None = None

        def shown(frame: np.ndarray, seconds: float) -> None:
            nonlocal before
            if before is None:
                stream.height, stream.width = (side - side % 2 for side in frame.shape[:2])
            for pixels in _played(before, frame, seconds, fade):
                even = np.ascontiguousarray(pixels[: stream.height, : stream.width])
                film.mux(stream.encode(av.VideoFrame.from_ndarray(even, format="rgb24")))
            before = frame

        yield shown
        if before is None:
            raise CalotypeError("a film has no frames; give it some")
        film.mux(stream.encode())


def _played(before: np.ndarray | None, frame: np.ndarray, seconds: float, fade: float) -> Iterator[np.ndarray]:
    count = max(1, round(seconds * RATE))
    fading = 0 if before is None else min(round(fade * RATE), count - 1)
    for k in range(fading):
        share = (k + 1) / (fading + 1)
        yield (before * (1 - share) + frame * share).astype(np.uint8)
    yield from (frame for _ in range(count - fading))
