"""What the models of a record would be if its work were done today."""

import contextlib
import re
from pathlib import Path
from typing import TYPE_CHECKING

from calotype.errors import CalotypeError
from calotype.settings import Settings

if TYPE_CHECKING:
    from calotype.checkpoints.store import Checkpoint
    from calotype.record import Record

ASKED = {"model": "upscale", "upscaler": "upscale", "face_model": "faces"}  # options that name models, and what for


class CurrentHashes:
    """Names and checksums of models as they are now. Each file is read once."""

    def __init__(self, settings: Settings):
        from calotype.checkpoints.store import ModelStore

        self._shelf = ModelStore(settings)
        self._read: dict[Path, str] = {}

    def models(self, record: "Record") -> dict[str, str]:
        """Checksums by name; what is not at hand is left out, and so is what the record's work made no use of."""
        used = {model.name for model in record.models}
        found = {}
        for asked in self._asked(record):
            with contextlib.suppress(CalotypeError):
                checkpoint = self._shelf.find(asked)
                if checkpoint.name in used or self._matters(checkpoint.name, record):
                    found[checkpoint.name] = self._sha256(checkpoint, record)
        return found

    def recorded(self, record: "Record") -> dict[str, str]:
        """Checksums of just the models that the record names, as far as they are at hand."""
        found: dict[str, str] = {}
        for model in record.models:
            hashes = []
            for asked in (model.name, *_files_told(record, model.name)):
                with contextlib.suppress(CalotypeError):
                    hashes.append(self._sha256(self._shelf.find(asked), record))
            if hashes:
                found[model.name] = model.sha256 if model.sha256 in hashes else hashes[0]
        return found

    def _asked(self, record: "Record") -> list[str]:
        names = [str(record.options.get(option)) for option in ASKED if record.options.get(option)]
        best = self._shelf.best_faces()
        return [best if name == "auto" else name for name in names if name != "none" and (best or name != "auto")]

    def _matters(self, name: str, record: "Record") -> bool:
        """A face network that came since would be used now, if any face was restored."""
        return name == self._shelf.best_faces() and any(face.treated for face in record.faces)

    def _sha256(self, checkpoint: "Checkpoint", record: "Record") -> str:
        """As it is recorded: of the weights; of both files where two were mixed."""
        path = checkpoint.path
        sha256 = self._digest(path.with_suffix(".bin") if path.suffix.lower() == ".param" else path)
        mixed = checkpoint.twin and record.options.get("denoise") != 1
        return f"{sha256}+{self._digest(checkpoint.twin)}" if mixed else sha256

    def _digest(self, path: Path) -> str:
        from calotype.checkpoints.store import digest

        if path not in self._read:
            self._read[path] = digest(path)
        return self._read[path]


def _files_told(record: "Record", name: str) -> list[str]:
    """Files and folders in the recorded options that are called so, wherever they lie."""
    texts = [value for value in record.options.values() if isinstance(value, str) and value]
    parts = [part for text in texts for part in (text, *re.split(r"[,<>]", text))]
    paths = [Path(re.sub(r"(:-?[\d.]+)+$", "", part.strip().removeprefix("lora:"))) for part in parts]
    return [str(path) for path in dict.fromkeys(paths) if name in (path.stem, path.name) and path.exists()]
