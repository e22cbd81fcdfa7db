"""Makes the photo that ships, examples/collins.jpg: NASA's portrait of Eileen Collins, aged by calotype.ops.degrade.

    pip install . scikit-image
    python recipes/example/make.py           makes the file
    python recipes/example/make.py --check   makes it in memory and compares it with the file, byte for byte

The same versions on the same kind of processor give the same bytes; others may move single pixels by a step.
"""

import hashlib
import io
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from skimage.data import astronaut

from calotype.ops.color import to_pixels, to_tensor
from calotype.ops.degrade import AgeRecipe, age

PHOTO = Path(__file__).parents[2] / "examples" / "collins.jpg"
ORIGINAL = "a8c429c18afa7b0fd5673e598d73a21225d94c864a71bbb3885126fdecb41071"  # sha256 of the portrait's pixels
CROP = (slice(0, 480), slice(36, 420))  # rows, columns: head and shoulders, 4:5 as prints have it
SEED = 22  # its scratches spare the face
RECIPE = AgeRecipe(grain=0.014, blur=1.3, smaller=1.1, fading=0.95, toning=0.78, stains=0.06, texture=0.006)
QUALITY = 88
DATE = "2026:11:23 12:00:00"  # when it was aged; when it was taken is not recorded in the original
TAGS = {
    0x010E: "Eileen Collins, astronaut. NASA portrait, aged by Calotype's degradation operator.",  # ImageDescription
    0x0132: DATE,  # DateTime
    0x013B: "NASA",  # Artist
    0x8298: "Public domain (NASA)",  # Copyright
}
DIGITIZED = 0x9004


def main() -> int:
    made = encoded(aged(portrait()))
    if "--check" not in sys.argv[1:]:
        PHOTO.write_bytes(made)
        print(f"{PHOTO}: {len(made)} bytes, sha256 {hashlib.sha256(made).hexdigest()}")
        return 0
    if made == PHOTO.read_bytes():
        print("the same, byte for byte")
        return 0
    ours, theirs = (np.asarray(Image.open(file)).astype(int) for file in (io.BytesIO(made), PHOTO))
    difference = abs(ours - theirs)
    print(f"not the same bytes; pixels differ by {difference.max()} at most, by {difference.mean():.4f} on average")
    return 1


def portrait() -> np.ndarray:
    """(480, 384, 3) uint8 RGB. Exits if scikit-image ever carries another picture under this name."""
    pixels = astronaut()
    found = hashlib.sha256(pixels.tobytes()).hexdigest()
    if found != ORIGINAL:
        sys.exit(f"scikit-image's astronaut() is not the picture we know (sha256 of its pixels: {found})")
    return np.ascontiguousarray(pixels[CROP])


def aged(pixels: np.ndarray) -> np.ndarray:
    torch.set_num_threads(1)  # sums in one order
    return to_pixels(age(to_tensor(pixels), SEED, recipe=RECIPE), pixels)


def encoded(pixels: np.ndarray) -> bytes:
    """A JPEG with the story in its EXIF, at 300 dots an inch."""
    exif = Image.Exif()
    for tag, text in TAGS.items():
        exif[tag] = text
    exif.get_ifd(0x8769)[DIGITIZED] = DATE
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=QUALITY, exif=exif, dpi=(300, 300))
    return file.getvalue()


if __name__ == "__main__":
    sys.exit(main())
