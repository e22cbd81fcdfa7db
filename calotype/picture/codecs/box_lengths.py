"""Boxes of an ISO base media file (HEIC, AVIF): where they are, whether all data of its items are there, and where the
file ends."""

from collections.abc import Iterator


def trimmed(data: bytes) -> bytes:
    """The file without what is no box behind it, such as a phone's own data.

    Raises:
        ValueError: data are missing; a truncated file would decode with a grey bottom.
    """
    end, meta, is_sequence = 0, None, False
    for kind, start, stop in boxes(data, 0, len(data)):
        if stop > len(data):
            break
        meta = (start, stop) if kind == b"meta" and meta is None else meta
        is_sequence = is_sequence or kind == b"moov"
        end = stop
    if end < len(data) and (meta is None or is_sequence):  # samples of a sequence are not listed as items
        raise ValueError("the end is missing")
    if meta is not None and _end_of_items(data, *meta) > end:
        raise ValueError("the end is missing")
    return data[:end]


def boxes(data: bytes, at: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Kind, start of the content, and end of the box, which may lie beyond the data."""
    while at + 8 <= end:
        length, start = int.from_bytes(data[at : at + 4], "big"), at + 8
        if length == 1:
            length, start = int.from_bytes(data[at + 8 : at + 16], "big"), at + 16
        if length == 0 and at:  # to the end of the file
            length = end - at
        if length < start - at:
            return
        yield data[at + 4 : at + 8], start, at + length
        at += length


def _end_of_items(data: bytes, start: int, end: int) -> int:
    """The largest position up to which items are stored in the file itself."""
    for kind, at, stop in boxes(data, start + 4, end):
        if kind == b"iloc":
            return max(_ends_of_items(data[at:stop]), default=0)
    return 0


def _ends_of_items(box: bytes) -> Iterator[int]:
    """By an item location box, version 0 to 2."""
    version, sizes = box[0], box[4] << 8 | box[5]
    offset_size, length_size, base_size = sizes >> 12, sizes >> 8 & 15, sizes >> 4 & 15
    index_size = sizes & 15 if version else 0
    at = 6

    def number(size: int) -> int:
        nonlocal at
        if at + size > len(box):
            raise ValueError("the list of its items is damaged")
        at += size
        return int.from_bytes(box[at - size : at], "big")

    wide = 4 if version == 2 else 2
    for _ in range(number(wide)):
        number(wide)
        method = number(2) & 15 if version else 0
        number(2)
        base = number(base_size)
        for _ in range(number(2)):
            number(index_size)
            offset, length = number(offset_size), number(length_size)
            if method == 0:
                yield base + offset + length
