"""Forgeries of several programs, held against the pictures that all of them learnt from, in one table.

    python benchmarks/train_gan.py PICTURES NAME=FOLDER [NAME=FOLDER ...]

Each FOLDER holds what one program drew, such as `calotype imagine --model gan.safetensors --count 256 --out FOLDER`.
Give all programs the same time on the same machine before. The first NAME=FOLDER may be other real pictures: no forger
gets further. The features are those of calotype/training/gan/metrics.py.
"""

import sys
from pathlib import Path

from calotype.settings import Settings
from calotype.tasks import Note
from calotype.training.data.squares import Images, of_folder
from calotype.training.gan.metrics import SIDE, GanMetrics


def main() -> None:
    folders = [name.partition("=") for name in sys.argv[2:]]
    if not folders or not all(folder for _, _, folder in folders):
        sys.exit(__doc__)
    real = gathered(Path(sys.argv[1]))
    measure = GanMetrics(lambda: [real])
    print("| forgeries | pictures | Fréchet | precision | recall | diversity |")
    print("|---|---|---|---|---|---|")
    for name, _, folder in folders:
        pictures = gathered(Path(folder))
        told = measure([pictures])
        figures = f"{told.frechet:.3f} | {told.precision:.2f} | {told.recall:.2f} | {told.diversity:.2f}"
        print(f"| {name} | {len(pictures)} | {figures} |")


def gathered(folder: Path):
    """(N, 3, SIDE, SIDE) in [-1, 1] of a folder."""
    for event in of_folder(folder, SIDE, 2**33, Settings.gather({}).max_pixels):
        if isinstance(event, Note):
            print(event.text, file=sys.stderr)
    assert isinstance(event, Images)
    return event.batch(slice(None))


if __name__ == "__main__":
    main()
