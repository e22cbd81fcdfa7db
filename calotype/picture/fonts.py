"""Fonts for labels: Pillow's own, or a system font that has the glyphs of a text."""

from functools import lru_cache

from PIL import ImageFont

NAMES = (  # searched for in the system's font folders
    *("DejaVuSans.ttf", "NotoSans-Regular.ttf", "LiberationSans-Regular.ttf", "arial.ttf", "Arial.ttf"),
    *("NotoSansCJK-Regular.ttc", "NotoSansSC-Regular.otf", "SourceHanSansCN-Regular.otf", "wqy-microhei.ttc"),
    *("wqy-zenhei.ttc", "DroidSansFallbackFull.ttf", "msyh.ttc", "simsun.ttc", "PingFang.ttc", "STHeiti Light.ttc"),
    *("Hiragino Sans GB.ttc", "Arial Unicode.ttf", "malgun.ttf", "YuGothR.ttc"),
)
MISSING = "\uffff"  # never a letter, so every font draws its glyph for missing ones


def font_for(text: str, size: float) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """A font of `size` pixels with all glyphs of `text`; where none has them all, the font that lacks the fewest."""
    own = ImageFont.load_default(size)
    if text.isascii():
        return own
    letters = frozenset(text) - frozenset(" \n\t")
    missing_glyphs = {
        font: sum(_lacks_glyph(font, letter) for letter in letters) for font in (own, *_system_fonts(size))
    }
    return min(missing_glyphs, key=missing_glyphs.get)


@lru_cache(maxsize=16)
def _system_fonts(size: float) -> tuple[ImageFont.FreeTypeFont, ...]:
    fonts = []
    for name in NAMES:
        try:
            fonts.append(ImageFont.truetype(name, size))
        except OSError:
            continue
    return tuple(fonts)


def _lacks_glyph(font: ImageFont.FreeTypeFont, letter: str) -> bool:
    return bytes(font.getmask(letter)) == bytes(font.getmask(MISSING))
