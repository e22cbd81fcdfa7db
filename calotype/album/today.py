"""What the models of a record would be if its work were done today."""

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from calotype.errors import CalotypeError
from calotype.settings import Settings

if TYPE_CHECKING:
    from calotype.record import Record

ASKED = ("model", "upscaler", "face_model")  # the options that name models


class Today:
    """Names and checksums of models as they are now. Each file is read once."""

    def __init__(self, settings: Settings):
        from calotype.checkpoints.catalog import Shelf

        self._shelf = Shelf(settings)
        self._read: dict[Path, str] = {}

    def models(self, record: "Record") -> dict[str, str]:
        """Checksums by name; what is not at hand is left out, and so is what the record's work made no use of."""
        used = {model.name for model in record.models}
        found = {}
        for asked in self._asked(record):
            with contextlib.suppress(CalotypeError):
                checkpoint = self._shelf.find(asked)
                if checkpoint.name in used or self._matters(checkpoint.name, record):
                    found[checkpoint.name] = self._sha256(checkpoint)
        return found

    def _asked(self, record: "Record") -> list[str]:
        names = [str(record.options.get(option)) for option in ASKED if record.options.get(option)]
        best = self._shelf.best_faces()
        return [best if name == "auto" else name for name in names if name != "none" and (best or name != "auto")]

    def _matters(self, name: str, record: "Record") -> bool:
        """A face network that came since would be used now, if any face was restored."""
        return name == self._shelf.best_faces() and any(face.treated for face in record.faces)

    def _sha256(self, checkpoint: Any) -> str:
        from calotype.checkpoints.catalog import digest

        if checkpoint.path not in self._read:
            self._read[checkpoint.path] = digest(checkpoint.path)
        return self._read[checkpoint.path]
