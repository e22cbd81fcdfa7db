"""Gathers the photos of photos.csv: from Debian packages unpacked below a folder, and from scikit-image.

    python gather.py PACKAGES OUT [FACES]

PACKAGES holds the files of each package below PACKAGES/NAME; FACES holds aligned synthetic faces, of which 200 are
taken. OUT/train, OUT/held, OUT/marks and OUT/clean get the photos, at most 1600 pixels wide or high, so that they are
sharp: to train on, to measure with, and for networks that find scratches alone, to train on and to look for false
alarms in. All faces of one sheet (SHEET_rNNcNN.jpg) go to the same of the first two.
"""

import csv
import hashlib
import sys
from pathlib import Path

import skimage
from PIL import Image

MAX_SIDE = 1600  # pixels
FACES = 200
HELD_SHEETS = 26  # of 256


def main(packages: Path, out: Path, faces: Path | None = None) -> None:
    for use in ("train", "held", "marks", "clean"):
        (out / use).mkdir(parents=True, exist_ok=True)
    with (Path(__file__).parent / "photos.csv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            path = source_of(row, packages)
            with Image.open(path) as photo:
                photo = photo.convert("RGB")
                photo.thumbnail((MAX_SIDE, MAX_SIDE), Image.Resampling.LANCZOS)
                name = row["file"].rpartition(".")[0].replace("/", "-")
                photo.save(out / row["use"] / f"{name}.jpg", quality=95, subsampling=0)
    paths = sorted(faces.glob("*.jpg")) if faces else []
    for path in paths[:: max(1, len(paths) // FACES)]:
        sheet = path.stem.rpartition("_r")[0]
        use = "held" if hashlib.sha256(sheet.encode()).digest()[0] < HELD_SHEETS else "train"
        (out / use / f"face-{path.name}").write_bytes(path.read_bytes())


def source_of(row: dict[str, str], packages: Path) -> Path:
    """The file of a row of photos.csv."""
    is_skimage = row["package"] == "scikit-image"
    folder = Path(skimage.__file__).parent / "data" if is_skimage else packages / row["package"]
    found = [path for path in sorted(folder.rglob(row["file"])) if path.stat().st_size]
    if not found:
        sys.exit(f"{row['package']} has no {row['file']}; install or unpack another version of it")
    return found[0]


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
