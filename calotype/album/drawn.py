"""Drawn pictures on disk: each gets a name of its own, and none takes the place of another."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from calotype.album.names import ending, format_of, readable, shortened
from calotype.album.sidecar import sha256_of, write_sidecar
from calotype.errors import CalotypeError
from calotype.options import option

if TYPE_CHECKING:
    from calotype.record import Result

WORDS = 8  # of the prompt in a name


@dataclass(frozen=True, kw_only=True)
class Output:
    """Where drawn pictures go."""

    out: Path = option(Path("out"), "folder for the pictures, or the name of the one picture", is_path=True)
    format: str = option("png", "file format, where -o is a folder", choices=("png", "jpeg", "webp", "avif", "tiff"))
    quality: int = option(95, "quality of JPEG, WebP and AVIF", least=1, most=100)
    overwrite: bool = option(False, "replace a file that lies at the name given with -o")
    sidecar: bool = option(False, "also write the record as a JSON file beside each picture")

    @property
    def is_file(self) -> bool:
        return format_of(self.out) is not None and not self.out.is_dir()


class Places:
    """Names for one run: in a folder `00012-SEED-first-words.png`, counted on from what lies there.

    With a name given, that is the picture; of several pictures they are `name-1.png` and so on, and a sheet of them has
    the name itself.
    """

    def __init__(self, output: Output, is_many: bool):
        """Raises CalotypeError where a named file is there already."""
        self._output, self._is_many, self._given = output, is_many, 0
        if output.is_file:
            self._check(output.out)
            self._check(self._named(1))

    def next(self, result: "Result") -> Path:
        self._given += 1
        if self._output.is_file:
            target = self._output.out if result.is_sheet else self._named(self._given)
            self._check(target)
            return target
        folder, options = self._output.out, result.record.options
        number = _last(folder) + 1
        words = "sheet" if result.is_sheet else f"{options['seed']}-{_slug(options['prompt'])}"
        return folder / shortened(f"{number:05}-{words}".rstrip("-"), ending(Path(), self._output.format), folder)

    def _named(self, n: int) -> Path:
        out = self._output.out
        return out.with_stem(f"{out.stem}-{n}") if self._is_many else out

    def _check(self, target: Path) -> None:
        if target.exists() and not self._output.overwrite:
            raise CalotypeError(f"{readable(target)} is there already; give another -o, or --overwrite")


def _last(folder: Path) -> int:
    """The highest number that a name in the folder begins with."""
    if not folder.is_dir():
        return -1
    found = (re.match(r"(\d{5,9})-", path.name) for path in folder.iterdir())
    return max((int(match[1]) for match in found if match), default=-1)


def _slug(prompt: str) -> str:
    """The first words, in any script, as a file may be called."""
    plain = re.sub(r"<[^<>]*>", " ", prompt)
    return "-".join(re.findall(r"\w+", plain)[:WORDS])[:80]


def write(result: "Result", target: Path, output: Output) -> tuple[str, tuple[str, ...]]:
    """The picture with its parameters and its record in it. Returns its sha256, and what the format could not keep."""
    from calotype.picture import save

    target.parent.mkdir(parents=True, exist_ok=True)
    record = result.record.as_json().encode("utf-8", "backslashreplace").decode()
    said = save(result.picture, target, format=format_of(target), quality=output.quality, record=record)
    sha256 = sha256_of(target)
    if output.sidecar:
        write_sidecar(result.record, Path(result.record.source_name or "."), target, sha256)
    return sha256, tuple(said)
