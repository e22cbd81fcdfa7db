"""Unpacks the pictures in Qt's resource files (.rcc) below a folder.

    python resources.py FOLDER

What NAME.rcc holds is written below FOLDER/NAME; it wants PySide6-Essentials.
"""

import sys
from pathlib import Path

from PySide6.QtCore import QDir, QDirIterator, QFile, QResource

PICTURES = ("*.webp", "*.jpg", "*.jpeg")


def main(folder: Path) -> None:
    for path in sorted(folder.rglob("*.rcc")):
        root = f"/{path.stem}"
        if not QResource.registerResource(str(path), root):
            sys.exit(f"{path} cannot be read as a resource file of Qt")
        entries = QDirIterator(f":{root}", PICTURES, QDir.Filter.Files, QDirIterator.IteratorFlag.Subdirectories)
        while entries.hasNext():
            entry = entries.next()
            target = folder / entry.removeprefix(":/")
            target.parent.mkdir(parents=True, exist_ok=True)
            if not (target.exists() or QFile.copy(entry, str(target))):
                sys.exit(f"{target} cannot be written")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
