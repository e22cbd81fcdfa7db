"""The parameters in the texts of a picture, whichever program wrote them."""

from collections.abc import Mapping

from calotype.dialects import comfyui, easydiffusion, fooocus, horde, infotext, invokeai, novelai, swarmui
from calotype.dialects.parameters import Parameters

READERS = (
    swarmui.read,
    invokeai.read,
    novelai.read,
    fooocus.read,
    horde.read,
    easydiffusion.read,
)  # each takes the texts by their keywords
INFOTEXTS = ("parameters", "UserComment", "Comment", "comment", "Description", "ImageDescription", "XPComment")
KEYWORDS = (  # of the texts in a picture that are looked at, by PNG's keywords, EXIF's and XMP's names
    *INFOTEXTS,
    *("prompt", "workflow", "Software", "Source", "Title", "generation_data", "fooocus_scheme"),
    *("invokeai_metadata", "invokeai", "sd-metadata", "Dream"),
    *(name for name in easydiffusion.KEYWORDS if name != "prompt"),
)


_OWN = ("prompt", "workflow", "generation_data", "fooocus_scheme")
_OWN += ("invokeai_metadata", "invokeai", "sd-metadata", "Dream")  # texts that only image generators write
_WITH_COMMENT = ("Title", "Description", "Software", "Source", "Comment")


def generator_texts(texts: Mapping[str, str]) -> dict[str, str]:
    """Those of an image generator beside `parameters`, which a PNG carries under their keywords."""
    is_in_comment = texts.get("Comment", "").lstrip().startswith("{")  # NovelAI, Fooocus-MRE
    is_easy = not easydiffusion.MARKS.isdisjoint(texts)
    keywords = (*_OWN, *(_WITH_COMMENT if is_in_comment else ()), *(easydiffusion.KEYWORDS if is_easy else ()))
    return {keyword: text for keyword in keywords if (text := texts.get(keyword))}


def read_parameters(texts: Mapping[str, str], size: tuple[int, int] | None = None) -> Parameters | None:
    """The parameters in the texts of a picture, by their keywords; None if there are none.

    Args:
        size: height and width of the picture, where known.
    """
    for read in READERS:
        if parameters := read(texts):
            return parameters
    for keyword in INFOTEXTS:
        if parameters := infotext.read(texts.get(keyword, "")):
            return parameters
    if parameters := comfyui.read(texts, size):
        return parameters
    text = texts.get("parameters", "").strip()
    if not text or text.startswith("{"):
        return None
    prompt, negative, _ = infotext.parse_infotext(text)  # A1111 can store a prompt alone
    return Parameters(program="A1111", prompt=prompt, negative=negative)


def is_parameters(text: str) -> bool:
    """Whether a comment is generation parameters, and not a person's words."""
    return infotext.read(text) is not None or any(read({"UserComment": text}) for read in READERS)
