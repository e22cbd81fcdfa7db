"""Putting a person's own file on the shelf."""

from pathlib import Path

from calotype.checkpoints.catalog import CATALOG, KINDS, Checkpoint, Shelf, known_name
from calotype.checkpoints.open import load
from calotype.errors import CalotypeError


def add(shelf: Shelf, file: str | Path, name: str | None = None) -> Checkpoint:
    """Opens the file to see what it is for, then gives it a name; it is used where it lies.

    A catalog name may be given for a file that was fetched in another way.

    Raises:
        CalotypeError: the file cannot be used, or the name is taken or no name.
    """
    path = Path(file).expanduser().absolute()
    name = known_name(name or path.stem)
    shelf.check_name(name)
    loaded = load(Checkpoint(name, path))
    if name in CATALOG and CATALOG[name].kind != loaded.kind:
        raise CalotypeError(f"{path} is for {KINDS[loaded.kind]}, and {name} is for {KINDS[CATALOG[name].kind]}")
    return shelf.put(name, path, loaded.kind)
