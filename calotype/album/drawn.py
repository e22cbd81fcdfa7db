"""Drawn pictures on disk: each gets a name of its own, and none takes the place of another."""

import contextlib
import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from calotype.album.names import FORMATS, ending, format_of, readable, shortened
from calotype.album.sidecar import sha256_of, write_sidecar
from calotype.errors import CalotypeError
from calotype.options import option

if TYPE_CHECKING:
    from calotype.record import Film, Result

WORDS = 8  # of the prompt in a name


@dataclass(frozen=True, kw_only=True)
class Output:
    """Where drawn pictures go."""

    out: Path = option(Path("out"), "folder for the pictures, or the name of the one picture", is_path=True)
    format: str = option(
        "png", "file format, where {option:out} is a folder", choices=("png", "jpeg", "webp", "avif", "tiff")
    )
    quality: int = option(95, "quality of JPEG, WebP and AVIF", least=1, most=100)
    overwrite: bool = option(False, "replace a file that lies at the name given with {option:out}")
    sidecar: bool = option(False, "also write the record as a JSON file beside each picture")

    @property
    def is_file(self) -> bool:
        return format_of(self.out) is not None and not self.out.is_dir()


class Places:
    """Names for one run: in a folder `00012-SEED-first-words.png`, counted on from what lies there.

    With a name given, that is the picture; of several pictures they are `name-1.png` and so on, and a sheet of them has
    the name itself.
    """

    def __init__(self, output: Output, count: int = 1, is_many: bool = False):
        """Raises CalotypeError where a named file is there already, or -o is a file that is no picture."""
        self._output, self._is_many, self._given = output, is_many, 0
        if output.is_file:
            for target in {output.out, *(self._named(n + 1) for n in range(count))}:
                if target.exists() and not output.overwrite:
                    raise CalotypeError(
                        "{target} is there already; give another {option:out}, or {option:overwrite}",
                        target=readable(target),
                    )
        elif not output.out.is_dir():
            self._check_folder(output.out)

    @staticmethod
    def _check_folder(out: Path) -> None:
        from calotype.picture.formats import SUFFIXES

        is_picture = out.suffix.lower() in SUFFIXES
        if is_picture or out.exists():
            what = "a format that drawings are not written in" if is_picture else "a file, and no picture"
            able = ", ".join({name: suffix for suffix, name in reversed(FORMATS.items())}.values())
            raise CalotypeError(
                "{option:out} {out} is {what}; give a folder, or a name that ends in one of {able}",
                out=readable(out),
                what=what,
                able=able,
            )

    def next(self, result: "Result") -> Iterator[Path]:
        """Names for a picture, the best first; the others are for where another one has come there meanwhile."""
        self._given += 1
        if self._output.is_file:
            target = self._output.out if result.is_sheet else self._named(self._given)
            yield target
            yield from (target.with_stem(f"{target.stem}-{n}") for n in itertools.count(2))
        folder, options = self._output.out, result.record.options
        words = "sheet" if result.is_sheet else f"{options['seed']}-{_slug(options['prompt'])}"
        for number in itertools.count(_last(folder) + 1):
            yield folder / shortened(f"{number:05}-{words}".rstrip("-"), ending(Path(), self._output.format), folder)

    def filmed(self, film: "Film") -> tuple[Path, tuple[str, ...]]:
        """A film as GIF, and as MP4 beside it where that can be made; the MP4's name, or the GIF's, and what to say."""
        from calotype.picture import film as films

        folder = self._output.out.parent if self._output.is_file else self._output.out
        folder.mkdir(parents=True, exist_ok=True)
        name = self._output.out.stem if self._output.is_file else f"{_last(folder) + 1:05}-{film.seed}-walk"
        target = folder / f"{name}.gif"
        with contextlib.ExitStack() as both:
            shown = [both.enter_context(films.gif(target))]
            if films.can_mp4():
                shown.append(both.enter_context(films.mp4(target.with_suffix(".mp4"), fade=0)))
            for frame in film.frames:
                for show in shown:
                    show(frame, film.seconds)
        return (target.with_suffix(".mp4"), ()) if films.can_mp4() else (target, (films.MISSING,))

    def _named(self, n: int) -> Path:
        out = self._output.out
        return out.with_stem(f"{out.stem}-{n}") if self._is_many else out


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


def write(result: "Result", places: Places, output: Output) -> tuple[Path, str, tuple[str, ...]]:
    """The picture with its parameters and its record in it, under the first name that nobody has.

    Returns:
        where it lies, its sha256, and what the format could not keep.
    """
    from calotype.picture import save

    is_new = not (output.is_file and output.overwrite)
    for target in places.next(result):
        target.parent.mkdir(parents=True, exist_ok=True)
        how = {"quality": output.quality, "record": result.record.as_json(), "is_new": is_new}
        with contextlib.suppress(FileExistsError):
            said = save(result.picture, target, format=format_of(target), **how)
            break
    sha256 = sha256_of(target)
    if output.sidecar:
        write_sidecar(result.record, Path(result.record.source_name or "."), target, sha256)
    return target, sha256, tuple(said)
