"""The texts of a file in which image generators store their parameters, by PNG's keywords."""

import re
from collections.abc import Mapping

from calotype.dialects.readers import KEYWORDS, is_parameters
from calotype.picture.metadata import exif as exif_blocks
from calotype.picture.metadata import xmp

_PREFIXED = re.compile(r"\s*([A-Za-z][\w -]{0,30}):\s*(?=\{)")  # ComfyUI's "prompt:{...}" in EXIF
INFOTEXT = "parameters"
_COMMENTS = ("UserComment", "comment", "XPComment", "ImageDescription")


def gathered(chunks: Mapping[str, str], exif: exif_blocks.Exif | None, packet: bytes | None) -> dict[str, str]:
    """The texts of the file itself, of its EXIF and its XMP; the first of a keyword is used.

    A comment becomes "parameters" only if it is generation parameters; other comments are a person's.
    """
    texts = dict(chunks)
    for name, text in (exif_blocks.texts(exif) if exif else {}).items():
        prefix = _PREFIXED.match(text)
        keyword = prefix[1].lower() if prefix and prefix[1].lower() in KEYWORDS else name
        texts.setdefault(keyword, text[prefix.end() :] if prefix and keyword != name else text)
    if packet:
        texts = {**_of_xmp(packet), **texts}
    comment = next((texts[name] for name in _COMMENTS if name in texts and is_parameters(texts[name])), "")
    if comment:
        texts.setdefault(INFOTEXT, comment)
    return texts


def _of_xmp(packet: bytes) -> dict[str, str]:
    found = xmp.texts(packet)
    names = {"description": "Description", "usercomment": "UserComment"}
    return {
        keyword: text
        for name, text in found.items()
        if (keyword := names.get(name.lower(), name)) in KEYWORDS and keyword not in ("Software", "Source", "Title")
    }
