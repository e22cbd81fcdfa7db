"""Labels are legible in whatever language people write, where the computer has a font for it."""

import numpy as np
from PIL import ImageFont

from calotype.inference.diffusion.xy_grid import compose_grid
from calotype.picture import fonts
from calotype.picture.fonts import font_for


def test_plain_words_are_in_the_same_font_on_every_computer():
    assert font_for("red apple, 7.5", 20).getname() == ImageFont.load_default(20).getname()


def test_the_font_with_the_letters_is_taken(monkeypatch):
    class Poor:
        def getmask(self, letter):
            return b"box" if letter in "é苹\uffff" else letter.encode()

    class Rich(Poor):
        def getmask(self, letter):
            return b"box" if letter == fonts.MISSING else letter.encode()

    rich = Rich()
    monkeypatch.setattr(fonts.ImageFont, "load_default", lambda size: Poor())
    monkeypatch.setattr(fonts, "_system_fonts", lambda size: (Poor(), rich))
    assert font_for("café", 20) is rich and font_for("苹果", 20) is rich
    assert isinstance(font_for("cafe", 20), Poor)


def test_what_a_font_lacks_is_known():
    own = ImageFont.load_default(20)
    assert fonts._lacks_glyph(own, "苹") and not fonts._lacks_glyph(own, "e")


def test_long_labels_without_spaces_stay_in_their_column():
    pictures = [[np.zeros((64, 64, 3), np.uint8)] * 2]
    sheet = compose_grid(pictures, ["苹" * 40, "x"], [])
    assert sheet.shape[1] == 64 * 2 + 4 and (sheet[:20, 64:68] == 255).all()
