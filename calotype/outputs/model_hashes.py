"""Current hashes of the models in a record."""

import contextlib
import re
from pathlib import Path
from typing import TYPE_CHECKING

from calotype.errors import CalotypeError
from calotype.settings import Settings
from calotype.tasks import LATER_OF_RESTORE, TASKS

if TYPE_CHECKING:
    from calotype.checkpoints.store import Checkpoint
    from calotype.record import Record

MODEL_OPTIONS = ("model", "upscaler", "face_model", "repair_model", "inpaint_model")


class CurrentHashes:
    """Names and hashes of the installed models. Each file is read once."""

    def __init__(self, settings: Settings):
        from calotype.checkpoints.store import ModelStore

        self._store = ModelStore(settings)
        self._read: dict[Path, str] = {}

    def models(self, record: "Record") -> dict[str, str]:
        """Hashes by name of the models that the record's task would use now, if they are installed."""
        used = {model.name for model in record.models}
        hashes = {}
        for name in self._model_names(record):
            with contextlib.suppress(CalotypeError):
                checkpoint = self._store.find(name)
                if checkpoint.name in used or self._would_be_used(checkpoint.name, record):
                    hashes[checkpoint.name] = self._sha256(checkpoint, record)
        return hashes

    def recorded(self, record: "Record") -> dict[str, str]:
        """Hashes by name of the models in the record, if they are installed."""
        by_name: dict[str, str] = {}
        for model in record.models:
            hashes = []
            for name in (model.name, *_recorded_files(record, model.name)):
                with contextlib.suppress(CalotypeError):
                    hashes.append(self._sha256(self._store.find(name), record))
            if hashes:
                by_name[model.name] = model.sha256 if model.sha256 in hashes else hashes[0]
        return by_name

    def _model_names(self, record: "Record") -> list[str]:
        usual = {name: getattr(TASKS.get(record.task), name, "") for name in LATER_OF_RESTORE}  # left out of records
        given = {name: record.options.get(name) or usual.get(name) for name in MODEL_OPTIONS}
        named = {option: str(name) for option, name in given.items() if name}
        for option, name in named.items():
            if name == "auto":
                faces = option == "face_model"
                named[option] = (self._store.best_faces() if faces else automatic_upscaler(record)) or "none"
        return [name for name in named.values() if name != "none"]

    def _would_be_used(self, name: str, record: "Record") -> bool:
        """Whether a face network installed since would be used now: if any face was restored."""
        return name == self._store.best_faces() and any(face.treated for face in record.faces)

    def _sha256(self, checkpoint: "Checkpoint", record: "Record") -> str:
        """The hash as in records: of the weights; of both files if two were interpolated."""
        path = checkpoint.path
        sha256 = self._digest(path.with_suffix(".bin") if path.suffix.lower() == ".param" else path)
        mixed = checkpoint.twin and record.options.get("denoise") != 1
        return f"{sha256}+{self._digest(checkpoint.twin)}" if mixed else sha256

    def _digest(self, path: Path) -> str:
        from calotype.checkpoints.store import digest

        if path not in self._read:
            self._read[path] = digest(path)
        return self._read[path]


def automatic_upscaler(record: "Record") -> str | None:
    """The super-resolution network that auto stood for: the first model in the record."""
    option = getattr(TASKS.get(record.task), "UPSCALER_OPTION", "")
    return record.models[0].name if record.models and record.options.get(option) == "auto" else None


def _recorded_files(record: "Record", name: str) -> list[str]:
    """Existing files and folders of that name in the recorded options."""
    texts = [value for value in record.options.values() if isinstance(value, str) and value]
    chunks = [chunk for text in texts for chunk in (text, *re.split(r"[,<>]", text))]
    paths = [Path(re.sub(r"(:-?[\d.]+)+$", "", chunk.strip().removeprefix("lora:"))) for chunk in chunks]
    return [str(path) for path in dict.fromkeys(paths) if name in (path.stem, path.name) and path.exists()]
