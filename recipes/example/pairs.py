"""Makes the pictures of docs/examples.md, and docs/before-after.jpg, the one of the README: photos before and after.

    apt-get download lomiri-wallpapers-16.04 palapeli-data      (and unpack each by dpkg-deb -x into PACKAGES/NAME)
    python -m recipes.example.pairs PACKAGES [NAME ...]

Run it from the root of the repository, with `.[test]` installed. Each command is the one that the page shows, run in
one folder. No free old photos lie in a package, so the prints are photos that were damaged here, each in a way that
is known; PACKAGES is laid out as for `recipes/photo/gather.py`.
"""

import io
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random

import cv2
import numpy as np
import torch
from PIL import Image, ImageDraw
from skimage import data

from calotype.ops.color import to_pixels, to_tensor
from calotype.ops.degrade import age
from calotype.ops.degrade.marks import damaged
from tests.ops.repair.fades import FADES
from tests.ops.repair.prints import as_uint8, printed

ROOT = Path(__file__).parents[2]
SHOWN = ROOT / "docs" / "examples"
README = ("collins", ROOT / "docs" / "before-after.jpg", 1200)  # which pair, and the width of the comparison
WIDTH, HEIGHT, GAP = 1200, 560, 8  # pixels; the most that a pair takes
LARGEST = 195_000  # bytes


@dataclass(frozen=True)
class Pair:
    """One row of the page.

    prepare writes the photo, and what else the command reads, into the folder that it is given.
    """

    command: str
    before: str
    after: str
    prepare: Callable[[Path, Path], None]  # folder, packages


def photo(packages: Path, name: str, side: int) -> np.ndarray:
    """(H, W, 3) uint8, the longer side `side` pixels."""
    [path] = [found for found in packages.rglob(name) if found.stat().st_size]
    image = Image.open(path).convert("RGB")
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    return np.array(image)


def save(pixels: np.ndarray, path: Path, quality: int = 92) -> None:
    options = {"quality": quality} if path.suffix == ".jpg" else {}
    Image.fromarray(pixels.squeeze()).save(path, **options)


def collins(folder: Path, packages: Path) -> None:
    (folder / "collins.jpg").write_bytes((ROOT / "examples" / "collins.jpg").read_bytes())


def silk(folder: Path, packages: Path) -> None:
    save(as_uint8(printed(data.astronaut()[:400, 40:420] / np.float32(255), "silk")), folder / "silk.jpg")


def newspaper(folder: Path, packages: Path) -> None:
    tones = photo(packages, "picosdeeuropa_by_Aitzol_Berasategi.jpg", 800).mean(2, keepdims=True) / np.float32(255)
    save(as_uint8(printed(tones.repeat(3, 2), "halftone"))[..., 0], folder / "newspaper.png")


def slide(folder: Path, packages: Path) -> None:
    save(FADES["magenta lost"](photo(packages, "aitzgorri_by_Aitzol_Berasategi.jpg", 640)), folder / "slide.jpg")


def yellowed(folder: Path, packages: Path) -> None:
    faded = FADES["all lost, yellowed"](photo(packages, "life_by_Aitzol_Berasategi.jpg", 640))
    save(faded, folder / "yellowed.jpg")


def scratched(folder: Path, packages: Path) -> None:
    grey = data.camera()[..., None].repeat(3, 2) / np.float32(255)
    save(as_uint8(damaged(grey, Random(4), 1.0, 1.6).mean(2)), folder / "scratched.png")


def small(folder: Path, packages: Path) -> None:
    dogs = photo(packages, "friends_by_Aitzol_Berasategi.jpg", 720)[130:430, 100:400]
    save(cv2.resize(dogs, (150, 150), interpolation=cv2.INTER_AREA), folder / "small.jpg", 40)


def flatbed(folder: Path, packages: Path) -> None:
    """Two prints on the lid of a scanner, both turned."""
    scan = Image.new("RGB", (1300, 760), (247, 247, 245))
    prints = (photo(packages, "european-honey-bee.jpg", 560), photo(packages, "Picture_0B_by_freespace.jpg", 560))
    for pixels, left, angle in zip(prints, (50, 670), (4, -7), strict=True):
        turned = Image.fromarray(pixels).convert("RGBA").rotate(angle, Image.Resampling.BICUBIC, expand=True)
        scan.paste(turned, (left, 110), turned)
    scan.save(folder / "flatbed.png")


def grey(folder: Path, packages: Path) -> None:
    """A cup of coffee without colour, and a few strokes."""
    pixels = cv2.resize(data.coffee(), (480, 320), interpolation=cv2.INTER_AREA)
    tones = Image.fromarray(pixels).convert("L")
    tones.save(folder / "grey.png")
    strokes = Image.new("RGBA", tones.size)
    draw = ImageDraw.Draw(strokes)
    for points in STROKES:
        colour = tuple(int(value) for value in np.median([pixels[y, x] for x, y in points], 0))
        draw.line(points, (*colour, 255), 5)
    strokes.save(folder / "strokes.png")


STROKES = [  # x, y: saucer, cup, coffee, spoon, table
    *([(120, 230), (150, 262), (190, 280)], [(170, 150), (172, 190), (190, 225)], [(215, 95), (245, 85), (275, 95)]),
    *([(330, 120), (350, 180)], [(20, 40), (80, 30), (60, 100)], [(420, 40), (450, 120)], [(30, 290), (90, 305)]),
    [(400, 290), (460, 270)],
]


def lamplight(folder: Path, packages: Path) -> None:
    save(photo(packages, "Wine_by_Jakkub_Mede.jpg", 640), folder / "lamplight.jpg")


def tiny(folder: Path, packages: Path) -> None:
    torch.set_num_threads(1)  # sums in one order
    pixels = cv2.resize(data.astronaut()[:300, 60:400], (136, 120), interpolation=cv2.INTER_AREA)
    save(to_pixels(age(to_tensor(pixels), 3, 0.6), pixels), folder / "tiny.jpg", 80)


PAIRS = {
    "collins": Pair(
        "calotype restore collins.jpg --repair scratches,fading", "collins.jpg", "out/collins.jpg", collins
    ),
    "silk": Pair("calotype restore silk.jpg", "silk.jpg", "out/silk.jpg", silk),
    "newspaper": Pair("calotype restore newspaper.png", "newspaper.png", "out/newspaper.png", newspaper),
    "slide": Pair("calotype restore slide.jpg", "slide.jpg", "out/slide.jpg", slide),
    "yellowed": Pair("calotype restore yellowed.jpg --scale 1", "yellowed.jpg", "out/yellowed.jpg", yellowed),
    "scratched": Pair(
        "calotype restore scratched.png --repair scratches", "scratched.png", "out/scratched.png", scratched
    ),
    "small": Pair("calotype restore small.jpg --scale 4", "small.jpg", "out/small.jpg", small),
    "flatbed": Pair("calotype split flatbed.png", "flatbed.png", "out/flatbed-*.png", flatbed),
    "grey": Pair("calotype colour grey.png --hints strokes.png", "grey.png", "out/grey.png", grey),
    "lamplight": Pair(
        "calotype restore lamplight.jpg --repair fading --scale 1", "lamplight.jpg", "out/lamplight.jpg", lamplight
    ),
    "tiny": Pair("calotype restore tiny.jpg --scale 4", "tiny.jpg", "out/tiny.jpg", tiny),
}


def main(packages: Path, *names: str) -> None:
    SHOWN.mkdir(exist_ok=True)
    for name in names or PAIRS:
        pair = PAIRS[name]
        with tempfile.TemporaryDirectory() as folder:
            pair.prepare(Path(folder), packages)
            is_readmes = name == README[0]
            run(pair.command + (" --compare" if is_readmes else ""), Path(folder))
            before, after = (opened(Path(folder), pattern) for pattern in (pair.before, pair.after))
            data = encoded(side_by_side(before, after))
            (SHOWN / f"{name}.jpg").write_bytes(data)
            print(f"{name}: {len(data)} bytes", flush=True)
            if is_readmes:
                comparison = opened(Path(folder), f"out/{name}-compare.jpg")
                height = round(comparison.height * README[2] / comparison.width)
                comparison.resize((README[2], height), Image.Resampling.LANCZOS).save(README[1], quality=88)


def run(command: str, folder: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "CALOTYPE_LANG": "en", "CALOTYPE_HOME": str(folder / "home")}
    subprocess.run([sys.executable, "-m", *shlex.split(command)], cwd=folder, env=environment, check=True)


def opened(folder: Path, pattern: str) -> Image.Image:
    """The picture, or those that a pattern names, one below the other."""
    images = [Image.open(path).convert("RGB") for path in sorted(folder.glob(pattern))]
    if len(images) == 1:
        return images[0]
    whole = Image.new("RGB", (max(i.width for i in images), sum(i.height + GAP for i in images) - GAP), "white")
    top = 0
    for image in images:
        whole.paste(image, (0, top))
        top += image.height + GAP
    return whole


def side_by_side(before: Image.Image, after: Image.Image) -> Image.Image:
    """Both of one height."""
    widths = sum(image.width / image.height for image in (before, after))
    height = min(HEIGHT, int((WIDTH - GAP) / widths))
    before, after = (
        image.resize((round(image.width * height / image.height), height), Image.Resampling.LANCZOS)
        for image in (before, after)
    )
    whole = Image.new("RGB", (before.width + GAP + after.width, height), "white")
    whole.paste(before, (0, 0))
    whole.paste(after, (before.width + GAP, 0))
    return whole


def encoded(image: Image.Image) -> bytes:
    """A JPEG, as good as `LARGEST` allows."""
    for quality in range(90, 40, -4):
        file = io.BytesIO()
        image.save(file, "JPEG", quality=quality, optimize=True)
        if file.tell() <= LARGEST:
            break
    return file.getvalue()


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
