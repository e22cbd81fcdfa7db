"""Small files of formats that are only read, written by hand or by another library than the reader's."""

import struct

import imagecodecs
import numpy as np


def psd(samples, resources=(), *, mode=None, layers=None, packed=False, palette=b"", version=1):
    """A PSD, or a PSB as version 2, of (H, W, C) samples; `layers` as its layer count, negative with transparency."""
    height, width, channels = samples.shape
    mode = {1: 1, 2: 1, 3: 3, 4: 3}[channels] if mode is None else mode
    length = ">I" if version == 1 else ">Q"
    block = b"".join(
        b"8BIM" + struct.pack(">HHI", number, 0, len(body)) + body + bytes(len(body) % 2)
        for number, body in dict(resources).items()
    )
    head = struct.pack(">4sH6xHIIHH", b"8BPS", version, channels, height, width, samples.itemsize * 8, mode)
    head += struct.pack(">I", len(palette)) + palette + struct.pack(">I", len(block)) + block
    info = b"" if layers is None else struct.pack(length, 2) + struct.pack(">h", layers)
    if layers is not None and samples.itemsize == 2:  # as Photoshop stores layers of 16 bits
        blocks = b"8BIMPatt\0\0\0\3abc\0" + b"8BIMLr16" + struct.pack(length, 2) + struct.pack(">hxx", layers)
        info = bytes(4 * version + 4) + blocks
    head += struct.pack(length, len(info)) + info
    planes = np.moveaxis(samples, 2, 0).astype(samples.dtype.newbyteorder(">"))
    if not packed:
        return head + b"\0\0" + planes.tobytes()
    rows = [imagecodecs.packbits_encode(row.tobytes()) for plane in planes for row in plane]
    lengths = b"".join(struct.pack(">H" if version == 1 else ">I", len(row)) for row in rows)
    return head + b"\0\1" + lengths + b"".join(rows)


def boxed_jp2(codestream, shape, header=b"", further=b""):
    """A JPEG 2000 of a codestream; `header` are boxes in jp2h, `further` are boxes of the file."""
    height, width, channels = shape
    inner = box(b"ihdr", struct.pack(">IIHBBBB", height, width, channels, 7, 7, 0, 0)) + header
    start = b"\0\0\0\x0cjP  \r\n\x87\n" + box(b"ftyp", b"jp2 \0\0\0\0jp2 ")
    return start + box(b"jp2h", inner) + further + box(b"jp2c", codestream)


def box(kind, body):
    return struct.pack(">I", 8 + len(body)) + kind + body


MATRIX = (32404542, -15371385, -4985314, -9692660, 18760108, 415560, 556434, -2040259, 10572252)  # XYZ to sRGB, D65


def dng(light, orientation=1, stops=None):
    """A DNG with one colour per pixel (RGGB) of linear sRGB, (H, W, 3) in [0, 1]."""
    height, width, _ = light.shape
    samples = np.rint(light * 65_535).astype("<u2")
    mosaic = samples[:, :, 1].copy()
    mosaic[0::2, 0::2], mosaic[1::2, 1::2] = samples[0::2, 0::2, 0], samples[1::2, 1::2, 2]
    entries = {
        254: (4, [0]),
        256: (4, [width]),
        257: (4, [height]),
        258: (3, [16]),
        259: (3, [1]),
        262: (3, [32803]),
        271: (2, b"Acme\0"),
        272: (2, b"Camera\0"),
        273: (4, [0]),
        274: (3, [orientation]),
        277: (3, [1]),
        278: (4, [height]),
        279: (4, [2 * height * width]),
        306: (2, b"1954:07:03 12:00:00\0"),
        33421: (3, [2, 2]),
        33422: (1, bytes((0, 1, 1, 2))),
        50706: (1, bytes((1, 4, 0, 0))),
        50708: (2, b"Camera\0"),
        50717: (4, [65_535]),
        50721: (10, [part for value in MATRIX for part in (value, 10_000_000)]),
        50728: (5, [1, 1, 1, 1, 1, 1]),
        50778: (3, [21]),
    }
    if stops is not None:
        entries[50730] = (10, [round(stops * 100), 100])
    entries[273] = (4, [8 + len(_directory(entries))])
    return b"II*\0\x08\0\0\0" + _directory(entries) + mosaic.tobytes()


def _directory(entries, start=8):
    out, values = struct.pack("<H", len(entries)), b""
    for tag, (kind, value) in sorted(entries.items()):
        data = (
            value
            if isinstance(value, bytes)
            else struct.pack(f"<{len(value)}{ {3: 'H', 10: 'i'}.get(kind, 'I') }", *value)
        )
        count = len(value) // 2 if kind in (5, 10) else len(value)
        head = struct.pack("<HHI", tag, kind, count)
        if len(data) <= 4:
            out += head + data.ljust(4, b"\0")
        else:
            out += head + struct.pack("<I", start + 2 + 12 * len(entries) + 4 + len(values))
            values += data + bytes(len(data) % 2)
    return out + bytes(4) + values
