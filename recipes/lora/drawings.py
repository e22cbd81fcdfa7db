"""OpenMoji's drawings as pictures to learn from: 256 px on white, with their names as captions."""

import io
import json
from collections.abc import Iterable
from pathlib import Path

import resvg_py
from PIL import Image

SIDE = 256
LEARNT = (  # 24 of all kinds, chosen before anything was trained
    *("red-apple", "strawberry", "pizza", "birthday-cake", "hot-beverage", "carrot"),
    *("cat-face", "dog-face", "penguin", "butterfly", "fish", "turtle"),
    *("cactus", "evergreen-tree", "house", "rocket", "automobile", "bicycle"),
    *("sun", "key", "guitar", "soccer-ball", "grinning-face", "smiling-face-with-sunglasses"),
)
UNSEEN = (
    *("banana", "cherries", "hamburger", "ice-cream", "wine-glass", "lemon"),
    *("fox", "owl", "octopus", "elephant", "honeybee", "tulip"),
    *("airplane", "castle", "sailboat", "bell", "hammer", "backpack"),
    *("crying-face", "star"),
)
OTHERS = (  # what the base model draws besides, so that it stays as it is
    *("grapes", "doughnut", "avocado", "lollipop", "teapot", "tomato", "watermelon", "cheese-wedge"),
    *("frog", "pig-face", "whale", "snail", "rabbit-face", "duck", "sunflower", "mushroom"),
    *("bus", "helicopter", "lighthouse", "umbrella", "trumpet", "crown", "winking-face", "red-heart"),
)


class Drawings:
    """The set in the npm package @iconify-json/openmoji (CC BY-SA 4.0): `icons.json`, as it is unpacked."""

    def __init__(self, icons: Path):
        told = json.loads(icons.read_text("utf-8"))
        self._icons, self._side = told["icons"], (told["width"], told["height"])

    def svg(self, name: str) -> str:
        """What is drawn, without the frame around it."""
        return self._icons[name]["body"]

    def picture(self, name: str) -> Image.Image:
        """256 px, on white."""
        width, height = self._side
        return raster(f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}">{self.svg(name)}</svg>')

    def write(self, names: Iterable[str], folder: Path, style: str = "") -> None:
        """A PNG each; with a style also the caption "name, style" beside it."""
        folder.mkdir(parents=True, exist_ok=True)
        for name in names:
            self.picture(name).save(folder / f"{name}.png")
            if style:
                (folder / f"{name}.txt").write_text(f"{words(name)}, {style}\n", "utf-8")


def raster(svg: str) -> Image.Image:
    """An SVG as 256 px on white."""
    drawn = Image.open(io.BytesIO(bytes(resvg_py.svg_to_bytes(svg_string=svg, width=SIDE, height=SIDE))))
    paper = Image.new("RGBA", (SIDE, SIDE), "white")
    paper.alpha_composite(drawn.convert("RGBA"))
    return paper.convert("RGB")


def words(name: str) -> str:
    """As the model knows it: `red-apple` -> "red apple"."""
    return name.replace("-", " ")
