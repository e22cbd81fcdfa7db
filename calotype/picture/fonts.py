"""Letters for labels: Pillow's own font, or one of the computer's that has the letters of a text."""

from functools import lru_cache

from PIL import ImageFont

NAMES = (  # looked for where the system keeps its fonts
    *("DejaVuSans.ttf", "NotoSans-Regular.ttf", "LiberationSans-Regular.ttf", "arial.ttf", "Arial.ttf"),
    *("NotoSansCJK-Regular.ttc", "NotoSansSC-Regular.otf", "SourceHanSansCN-Regular.otf", "wqy-microhei.ttc"),
    *("wqy-zenhei.ttc", "DroidSansFallbackFull.ttf", "msyh.ttc", "simsun.ttc", "PingFang.ttc", "STHeiti Light.ttc"),
    *("Hiragino Sans GB.ttc", "Arial Unicode.ttf", "malgun.ttf", "YuGothR.ttc"),
)
MISSING = "\uffff"  # never a letter, so every font draws its sign for what it lacks


def font_for(text: str, size: float) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """A font of `size` pixels with all letters of `text`; where none has them all, the one with most of them."""
    own = ImageFont.load_default(size)
    if text.isascii():
        return own
    letters = frozenset(text) - frozenset(" \n\t")
    lacking = {font: sum(_lacks(font, letter) for letter in letters) for font in (own, *_systems(size))}
    return min(lacking, key=lacking.get)


@lru_cache(maxsize=16)
def _systems(size: float) -> tuple[ImageFont.FreeTypeFont, ...]:
    found = []
    for name in NAMES:
        try:
            found.append(ImageFont.truetype(name, size))
        except OSError:
            continue
    return tuple(found)


def _lacks(font: ImageFont.FreeTypeFont, letter: str) -> bool:
    return bytes(font.getmask(letter)) == bytes(font.getmask(MISSING))
