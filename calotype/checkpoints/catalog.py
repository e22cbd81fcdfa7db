"""The catalog of known checkpoints, and the shelf: what of it, and of the person's own, is at hand.

Nothing here needs torch, except `Shelf.add`, which looks into the file.
"""

import hashlib
import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from calotype.checkpoints.embedded import in_wheel, shipped
from calotype.errors import CalotypeError
from calotype.options import nearest
from calotype.settings import Settings

KINDS = {"upscale": "enlarging", "faces": "restoring faces", "detect": "finding faces"}
BSD, APACHE, MIT = "BSD-3-Clause", "Apache-2.0", "MIT"
S_LAB = "S-Lab License 1.0 (non-commercial)"

ESRGAN = "https://github.com/xinntao/Real-ESRGAN/releases/download/"
GFPGAN = "https://github.com/TencentARC/GFPGAN/releases/download/"
CODEFORMER = "https://github.com/sczhou/CodeFormer/releases/download/"


@dataclass(frozen=True)
class Entry:
    """One known checkpoint: what it is for, its terms, and where it comes from."""

    name: str
    kind: str  # a key of KINDS
    licence: str
    about: str  # one line
    file: str = ""  # file name once fetched; for one that ships, where it lies
    url: str = ""
    size: int = 0  # bytes; 0 where not known
    sha256: str = ""  # empty where not known: then the first one fetched is written down and kept to
    commercial: bool = True  # whether the licence allows commercial use
    scale: int = 1
    twin: str = ""  # the entry it can be mixed with
    weights_sha256: str = ""  # of the .bin beside an ncnn .param
    aliases: tuple[str, ...] = ()

    @property
    def ships(self) -> bool:
        return not self.url

    def shipped_path(self) -> Path | None:
        """Where the installation keeps it; None for one that is fetched."""
        if not self.ships:
            return None
        return in_wheel(self.file) if self.file.endswith(".param") else shipped(*self.file.split("/"))


# Sizes and sha256 of fetched files are those that several public projects pin for the official release files; they were
# not measured here. `pull` refuses what differs and says what it found.
_TABLE = (
    Entry(
        "realesrgan-x4plus",
        "upscale",
        BSD,
        "Real-ESRGAN for photos: the sharpest, and slow without a GPU",
        file="REALESRGAN_X4PLUS_UP4X.param",
        size=33_541_550,
        sha256="c8a066c12541a1ef01ba90fddd90688278bdc11536847699239be29225015bc8",
        weights_sha256="713ee713b0353afaa27976f0563a64a5043bd70b9bd8936c2e26e25ebcdbcddf",
        scale=4,
        aliases=("RealESRGAN_x4plus",),
    ),
    Entry(
        "realesrgan-x4plus-anime",
        "upscale",
        BSD,
        "Real-ESRGAN for drawings and anime: four times as quick as x4plus",
        file="REALESRGAN_X4PLUSANIME_UP4X.param",
        size=8_974_060,
        sha256="d63c7e93c58ec5d0048ca1f0a995f40b2af17c2816a2e0a3b7172046d98795ec",
        weights_sha256="fe01c269cfd10cdef8e018ab66ebe750cf79c7af4d1f9c16c737e1295229bacc",
        scale=4,
        aliases=("RealESRGAN_x4plus_anime_6B",),
    ),
    Entry(
        "realesr-animevideov3",
        "upscale",
        BSD,
        "a small, quick network made for anime video; also good for a first look at any picture",
        file="REALESRGAN_ANIMAVIDEOV3_UP4X.param",
        size=1_250_487,
        sha256="157c0a10405f885d4c53ce76fe2ba731694bcd16ec90ab6b889335e384239682",
        weights_sha256="548a36f9c3f4ab8da56cd3b13badf23968bee207b396dad14d04b830e5f2ab2d",
        scale=4,
        aliases=("realesr-animevideov3-x4",),
    ),
    Entry(
        "realesr-animevideov3-x2",
        "upscale",
        BSD,
        "realesr-animevideov3 with its picture halved: twice as large as the source",
        file="REALESRGAN_ANIMAVIDEOV3_UP2X.param",
        size=1_250_584,
        sha256="1393f7c0e885f9d15a0668329a13f695ebd0ea45791f46d28145d7934824d224",
        weights_sha256="548a36f9c3f4ab8da56cd3b13badf23968bee207b396dad14d04b830e5f2ab2d",
        scale=2,
    ),
    Entry(
        "realesr-animevideov3-x3",
        "upscale",
        BSD,
        "realesr-animevideov3 with its picture brought to three quarters: three times as large as the source",
        file="REALESRGAN_ANIMAVIDEOV3_UP3X.param",
        size=1_250_584,
        sha256="584a43e429188c159ef8e42191ef5a5fd1d2e3b17398e5cee6089726dec879c7",
        weights_sha256="548a36f9c3f4ab8da56cd3b13badf23968bee207b396dad14d04b830e5f2ab2d",
        scale=3,
    ),
    Entry(
        "realesrgan-x2plus",
        "upscale",
        BSD,
        "Real-ESRGAN for photos, twice as large",
        file="RealESRGAN_x2plus.pth",
        url=ESRGAN + "v0.2.1/RealESRGAN_x2plus.pth",
        size=67_061_725,
        sha256="49fafd45f8fd7aa8d31ab2a22d14d91b536c34494a5cfe31eb5d89c2fa266abb",
        scale=2,
    ),
    Entry(
        "realesrnet-x4plus",
        "upscale",
        BSD,
        "x4plus trained without an adversary: softer, invents less",
        file="RealESRNet_x4plus.pth",
        url=ESRGAN + "v0.1.1/RealESRNet_x4plus.pth",
        size=67_040_989,
        sha256="a820b9bde89a874d7599d545567308ce6c128fc8754a53208eda016d40aa81df",
        scale=4,
    ),
    Entry(
        "realesr-general-x4v3",
        "upscale",
        BSD,
        "a small network for photos whose denoising can be set (with realesr-general-wdn-x4v3)",
        file="realesr-general-x4v3.pth",
        url=ESRGAN + "v0.2.5.0/realesr-general-x4v3.pth",
        size=4_885_111,
        sha256="8dc7edb9ac80ccdc30c3a5dca6616509367f05fbc184ad95b731f05bece96292",
        scale=4,
        twin="realesr-general-wdn-x4v3",
    ),
    Entry(
        "realesr-general-wdn-x4v3",
        "upscale",
        BSD,
        "the twin of realesr-general-x4v3 that leaves noise as it is",
        file="realesr-general-wdn-x4v3.pth",
        url=ESRGAN + "v0.2.5.0/realesr-general-wdn-x4v3.pth",
        size=4_885_111,
        sha256="1641f8c4464b9f097c9fdda5589273713f67cf59f3d909e0bd688f0cee269dca",
        scale=4,
    ),
    Entry(
        "gfpgan-1.2",
        "faces",
        APACHE,
        "GFPGAN 1.2: sharp, a little like make-up",
        file="GFPGANv1.2.pth",
        url=GFPGAN + "v1.3.0/GFPGANv1.2.pth",
        aliases=("GFPGANCleanv1-NoCE-C2",),
    ),
    Entry(
        "gfpgan-1.3",
        "faces",
        APACHE,
        "GFPGAN 1.3: more natural, not very sharp",
        file="GFPGANv1.3.pth",
        url=GFPGAN + "v1.3.0/GFPGANv1.3.pth",
        size=348_632_874,
        sha256="c953a88f2727c85c3d9ae72e2bd4846bbaf59fe6972ad94130e23e7017524a70",
    ),
    Entry(
        "gfpgan-1.4",
        "faces",
        APACHE,
        "GFPGAN 1.4: more detail and the person better kept",
        file="GFPGANv1.4.pth",
        url=GFPGAN + "v1.3.0/GFPGANv1.4.pth",
        size=348_632_874,
        sha256="e2cd4703ab14f4d01fd1383a8a8b266f9a5833dacee8e6a79d3bf21a1b6be5ad",
        aliases=("gfpgan",),
    ),
    Entry(
        "restoreformer",
        "faces",
        APACHE,
        "RestoreFormer: freer with features of the face than GFPGAN",
        file="RestoreFormer.pth",
        url=GFPGAN + "v1.3.4/RestoreFormer.pth",
        size=290_785_322,
        sha256="07404d446d62ca3d5ed38b1de09a947a1e77d46dbccec961a74d713a8f24ace0",
    ),
    Entry(
        "codeformer",
        "faces",
        S_LAB,
        "CodeFormer: strong on badly damaged faces, with --fidelity; not for commercial use",
        file="codeformer.pth",
        url=CODEFORMER + "v0.1.0/codeformer.pth",
        size=376_637_898,
        sha256="1009e537e0c2a07d4cabce6355f53cb66767cd4b4297ec7a4a64ca4b8a5684b7",
        commercial=False,
        aliases=("codeformer-v0.1.0",),
    ),
    Entry(
        "faces-v0",
        "faces",
        MIT,
        "a small face restorer of our own, 256 pixels, trained on synthetic faces",
        file="faces-v0/model.safetensors",
        size=13_010_144,
        sha256="0c80d42c1d15b1b6bba65657f58d04ca764e7f3b82fb4998ca91f06c7dc38bf2",
    ),
    Entry(
        "yunet",
        "detect",
        MIT,
        "YuNet: finds faces and five landmarks in each",
        file="yunet/face_detection_yunet_2023mar.onnx",
        size=232_589,
        sha256="8f2383e4dd3cfbb4553ea8718107fc0423210dc964f9f4280604804ed2552fa4",
    ),
)
CATALOG: dict[str, Entry] = {entry.name: entry for entry in _TABLE}
BEST_FACES = ("gfpgan-1.4", "gfpgan-1.3", "codeformer", "restoreformer", "gfpgan-1.2", "faces-v0")


@dataclass(frozen=True)
class Checkpoint:
    """A file of weights that is at hand."""

    name: str
    path: Path
    kind: str = ""  # a key of KINDS; empty for a file given by path
    entry: Entry | None = None
    sha256: str = ""  # what the file must have; empty where nothing is known
    twin: Path | None = None  # the file it can be mixed with


@dataclass(frozen=True)
class Listed:
    """A line of `calotype models list`."""

    name: str
    kind: str
    entry: Entry | None  # None: added by the person
    path: Path | None  # None: not at hand


@dataclass(frozen=True)
class Verdict:
    """What `calotype models verify` found of one file."""

    name: str
    path: Path
    sha256: str
    good: bool
    word: str


class Shelf:
    """What is at hand: shipped, fetched into `home/models`, added by the person.

    What cannot be read from the files themselves (files added from elsewhere, sha256 of files first seen) is kept in
    `home/models/shelf.json`.
    """

    def __init__(self, settings: Settings):
        self.folder = settings.home / "models"
        self._list = self.folder / "shelf.json"

    def entries(self) -> list[Listed]:
        """The catalog and what was added, each with where it lies."""
        known = [Listed(entry.name, entry.kind, entry, self._path(entry)) for entry in CATALOG.values()]
        added = [Listed(n, a["kind"], None, Path(a["path"])) for n, a in self._added().items() if n not in CATALOG]
        return known + [one if one.path.is_file() else Listed(one.name, one.kind, None, None) for one in added]

    def find(self, name: str, kind: str = "") -> Checkpoint:
        """By name in the catalog, name under which it was added, or path of a file.

        Args:
            kind: what it must be for, a key of KINDS; a file given by path is judged when it is opened.

        Raises:
            CalotypeError: unknown, not at hand (with the command that fetches it), or for another purpose.
        """
        added = self._added()
        plain = known_name(name)
        if plain in CATALOG and not _is_path(name):
            found = self._known(CATALOG[plain], added)
        elif name in added:
            found = Checkpoint(name, Path(added[name]["path"]), added[name]["kind"], None, added[name]["sha256"])
        else:
            return self._file(name, added)
        if kind and found.kind != kind:
            raise CalotypeError(f"{found.name} is for {KINDS[found.kind]}, not for {KINDS[kind]}")
        if not found.path.is_file():
            raise CalotypeError(f"{found.name} was added from {found.path}, which is gone; add it again or remove it")
        return found

    def _known(self, entry: Entry, added: dict[str, Any]) -> Checkpoint:
        if entry.name in added:
            mine = added[entry.name]
            return Checkpoint(entry.name, Path(mine["path"]), entry.kind, entry, mine["sha256"], self._twin(entry))
        path = self._path(entry)
        if path is None:
            raise CalotypeError(f"{entry.name} is not at hand; fetch it: calotype models pull {entry.name}")
        sha256 = entry.sha256 or self._seen().get(entry.file, "")
        return Checkpoint(entry.name, path, entry.kind, entry, sha256, self._twin(entry))

    def _file(self, name: str, added: dict[str, Any]) -> Checkpoint:
        path = Path(name).expanduser()
        if path.is_dir():
            raise CalotypeError(f"{name} is a folder; give the file of weights in it")
        if not path.exists():
            if _is_path(name):
                raise CalotypeError(f"there is no file {name}")
            hint = nearest(name, [*CATALOG, *added])
            raise CalotypeError(f"no model is named {name}{hint}; calotype models list shows all")
        entry = CATALOG.get(known_name(path.name))
        if entry is None or not entry.twin:
            return Checkpoint(path.stem, path)
        beside = path.with_name(CATALOG[entry.twin].file)
        return Checkpoint(entry.name, path, twin=beside if beside.is_file() else self._twin(entry))

    def _path(self, entry: Entry) -> Path | None:
        mine = self._added().get(entry.name)
        path = Path(mine["path"]) if mine else entry.shipped_path() or self.folder / entry.file
        return path if path.is_file() else None

    def _twin(self, entry: Entry) -> Path | None:
        return self._path(CATALOG[entry.twin]) if entry.twin else None

    def best_faces(self) -> str | None:
        """The name of the best network for faces that is at hand."""
        return next((name for name in BEST_FACES if self._path(CATALOG[name])), None)

    def add(self, file: str | Path, name: str | None = None) -> Checkpoint:
        """Puts a person's own file on the shelf; it is used where it lies.

        A catalog name may be given for a file that was fetched in another way.

        Raises:
            CalotypeError: the file cannot be used, or the name is taken or no name.
        """
        from calotype.checkpoints.open import load  # torch is only needed where a file is looked into

        path = Path(file).expanduser().absolute()
        name = known_name(name or path.stem)
        self._check_name(name)
        loaded = load(self._file(str(path), {}))
        if name in CATALOG and CATALOG[name].kind != loaded.kind:
            raise CalotypeError(f"{path} is for {KINDS[loaded.kind]}, and {name} is for {KINDS[CATALOG[name].kind]}")
        added = self._added() | {name: {"path": str(path), "kind": loaded.kind, "sha256": loaded.sha256}}
        self._write(added=added)
        return self.find(name)

    def _check_name(self, name: str) -> None:
        if not re.fullmatch(r"[\w][\w.+-]{0,99}", name):
            raise CalotypeError(f"{name!r} cannot be a model's name; use letters, digits, dots and dashes with --name")
        if name in self._added() or (name in CATALOG and self._path(CATALOG[name])):
            raise CalotypeError(f"{name} is already at hand; give another --name, or remove it first")

    def remove(self, name: str) -> Path:
        """Takes a model off the shelf: a fetched file is deleted, an added one stays where it lies. Returns its path.

        Raises:
            CalotypeError: unknown, shipped with the program, or not at hand.
        """
        added = self._added()
        name = name if name in added else known_name(name)
        if name in added:
            path = Path(added.pop(name)["path"])
            self._write(added=added)
            return path
        if name not in CATALOG:
            raise CalotypeError(f"no model is named {name}{nearest(name, [*CATALOG, *added])}")
        if CATALOG[name].ships:
            raise CalotypeError(f"{name} comes with the program and stays")
        path = self._known(CATALOG[name], added).path
        path.unlink()
        self._write(seen={file: sha for file, sha in self._seen().items() if file != path.name})
        return path

    def verify(self, name: str | None = None) -> Iterator[Verdict]:
        """Reads every file at hand again and compares its sha256 with the known one."""
        names = [one.name for one in self.entries() if one.path] if name is None else [name]
        for found in map(self.find, names):
            sha256 = digest(found.path)
            yield Verdict(found.name, found.path, sha256, *_judged(found, sha256))

    def saw(self, entry: Entry, sha256: str) -> None:
        """Writes down the sha256 of a file whose right one is not known, to notice a later change."""
        self._write(seen=self._seen() | {entry.file: sha256})

    def _added(self) -> dict[str, Any]:
        return self._read().get("added", {})

    def _seen(self) -> dict[str, str]:
        return self._read().get("seen", {})

    def _read(self) -> dict[str, Any]:
        try:
            data = json.loads(self._list.read_text("utf-8"))
            for one in data.get("added", {}).values():
                one["path"], one["kind"], one["sha256"]  # noqa: B018 - a KeyError tells a broken list
            return data
        except FileNotFoundError:
            return {}
        except (ValueError, KeyError, TypeError, AttributeError):
            raise CalotypeError(f"{self._list} is damaged; delete it and add your models again") from None
        except OSError as fault:
            raise CalotypeError(f"{self._list} cannot be read: {fault.strerror}") from None

    def _write(self, **changes: Any) -> None:
        text = json.dumps(self._read() | changes, indent=1, ensure_ascii=False, sort_keys=True)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            beside = self._list.with_suffix(f".{os.getpid()}.part")
            beside.write_text(text, "utf-8")
            beside.replace(self._list)
        except OSError as fault:
            raise CalotypeError(f"{self._list} cannot be written: {fault.strerror}; set another --home") from None


def known_name(name: str) -> str:
    """The catalog's name for a name people know (RealESRGAN_x4plus.pth, GFPGANv1.4), else the name as it is."""
    bare = re.sub(r"\.(pth|pt|ckpt|safetensors|param|bin|onnx)$", "", name, flags=re.I).casefold()
    for entry in CATALOG.values():
        file = Path(entry.file).stem if entry.url else ""
        if bare in (other.casefold() for other in (entry.name, file, *entry.aliases)):
            return entry.name
    return name


def digest(path: Path) -> str:
    """The sha256 of a file, in hex digits. Raises CalotypeError where it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as fault:
        raise CalotypeError(f"{path} cannot be read: {fault.strerror}") from None


def _is_path(name: str) -> bool:
    return "/" in name or "\\" in name or Path(name).is_file()


def _judged(found: Checkpoint, sha256: str) -> tuple[bool, str]:
    weights = found.path.with_suffix(".bin")
    if found.entry and found.entry.weights_sha256 and digest(weights) != found.entry.weights_sha256:
        return False, f"{weights.name} differs from the one that ships; install the weights again"
    if not found.sha256:
        return True, "no sha256 is known to compare with"
    if sha256 == found.sha256:
        return True, "as it should be"
    return False, f"sha256 should be {found.sha256}; remove it and fetch or add it again"
