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

    installed = {name: Poor() for name in fonts.NAMES} | {fonts.NAMES[-1]: Rich()}
    monkeypatch.setattr(fonts.ImageFont, "load_default", lambda size: Poor())
    monkeypatch.setattr(fonts.ImageFont, "truetype", lambda name, size: installed[name])
    rich = installed[fonts.NAMES[-1]]
    assert font_for("café", 20.25) is rich and font_for("苹果", 20.25) is rich
    assert font_for("cafe", 20.25) not in installed.values()


def test_what_a_font_lacks_is_known(monkeypatch):
    """Of Pillow's own font, by what it draws."""
    own, empty, rich = (ImageFont.load_default(size) for size in (20, 30, 40))
    monkeypatch.setattr(empty, "getmask", lambda letter: b"box")
    monkeypatch.setattr(rich, "getmask", lambda letter: letter.encode())
    monkeypatch.setattr(fonts.ImageFont, "load_default", lambda size: own)
    monkeypatch.setattr(fonts.ImageFont, "truetype", lambda name, size: empty)
    assert font_for("苹e", 20.5) is own
    monkeypatch.setattr(fonts.ImageFont, "truetype", lambda name, size: rich)
    assert font_for("苹e", 20.75) is rich


def test_long_labels_without_spaces_stay_in_their_column():
    pictures = [[np.zeros((64, 64, 3), np.uint8)] * 2]
    sheet = compose_grid(pictures, ["苹" * 40, "x"], [])
    assert sheet.shape[1] == 64 * 2 + 4 and (sheet[:20, 64:68] == 255).all()
