"""Functions that crash, hang or print, for the process that decodes pictures: it imports this module by its name."""

import ctypes
import os
import sys
import time

from calotype.errors import Message, PictureError
from calotype.picture import Picture


def returned(*values):
    return values


def abort():
    os.abort()


def read_address_zero():
    ctypes.string_at(0)


def leave():
    os._exit(3)


def loop():
    while True:
        pass


def sleep_in_c():
    """With the GIL held, so that no thread of Python runs."""
    ctypes.PyDLL(None).sleep(1000)


def fail():
    return {}["missing"]


def refuse():
    raise PictureError("{name} is {what}", name="a.png", what=Message("{count} pictures", count=2), option="pages")


def allocate(count):
    return len(bytearray(count))


def unsendable():
    return object()


def print_everywhere():
    print("by Python")
    print("by Python, as an error", file=sys.stderr)
    os.write(1, b"by a library\n")
    os.write(2, b"by a library, as an error\n")
    return sys.stdin.read()


def limits():
    import resource

    return resource.getrlimit(resource.RLIMIT_CORE), resource.getrlimit(resource.RLIMIT_AS)


def process():
    return os.getpid()


_HOW = {"abort": abort, "null": read_address_zero, "loop": loop}
_CALLS = []


def open_or_crash(path, page, damaged_file, max_pixels):
    """Picture.open_here, but a file whose name starts with a key of `_HOW` is decoded by that function."""
    _CALLS.append(path)
    _HOW.get(path.stem.split("-")[0], time.monotonic)()
    if path.stem.startswith("late"):  # as after a damaged heap: only the second picture of a process crashes
        _ = len(_CALLS) == 1 or abort()
    return Picture.open_here(path, page, damaged_file, max_pixels)


def open_by_simplejpeg(path, page, damaged_file, max_pixels):
    import simplejpeg

    for _ in range(20):
        simplejpeg.decode_jpeg(path.read_bytes(), "GRAY", fastdct=True, min_height=1, min_width=1, min_factor=8)
    return Picture.open_here(path, page, damaged_file, max_pixels)
