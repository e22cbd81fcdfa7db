"""Generated pictures on disk: each gets its own name, and none overwrites another."""

import contextlib
import itertools
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from calotype.errors import CalotypeError, Message, PictureError
from calotype.files import check_folder, make_folder, readable
from calotype.outputs.names import FORMATS, ending, format_of, shortened
from calotype.outputs.sidecar import LOSSLESS, sha256_of, write_sidecar
from calotype.suffixes import SUFFIXES
from calotype.tasks.output import DrawingOutput

if TYPE_CHECKING:
    from calotype.record import Film, Record, Result

MAX_WORDS = 8  # of the prompt in a file name


class DrawingPaths:
    """File names of one run: in a folder `00012-SEED-first-words.png`, numbered from the highest existing number on.

    If a file name is given, a single picture has it; several pictures are `name-1.png` and so on, and their grid has
    the name itself.
    """

    def __init__(self, output: DrawingOutput, count: int = 1, is_many: bool = False):
        """Raises CalotypeError if a named file exists, or -o is a file and not a picture."""
        self._output, self._is_many, self._count = output, is_many, 0
        if _is_file(output):
            for target in {output.out, *(self._named(n + 1) for n in range(count))}:
                if target.exists() and not output.overwrite:
                    raise PictureError(
                        "{target} exists; give another {option:out}, or {option:overwrite}",
                        target=readable(target),
                    )
        elif not output.out.is_dir():
            self._check_folder(output.out)
        check_folder(self._folder, "out")

    @property
    def _folder(self) -> Path:
        return self._output.out.parent if _is_file(self._output) else self._output.out

    @staticmethod
    def _check_folder(out: Path) -> None:
        is_picture = out.suffix.lower() in SUFFIXES
        if is_picture or out.exists():
            format = Message("{option:out} {out} is in a format that is not supported for output", out=readable(out))
            file = Message("{option:out} {out} is a file, but not a picture", out=readable(out))
            suffixes = ", ".join({name: suffix for suffix, name in reversed(FORMATS.items())}.values())
            raise CalotypeError(
                "{fault}; give a folder, or a name that ends in one of {suffixes}",
                option="out",
                fault=format if is_picture else file,
                suffixes=suffixes,
            )

    def next(self, result: "Result") -> Iterator[Path]:
        """Names for a picture, in order of preference; the later ones are used if the earlier ones exist by now."""
        self._count += 1
        if _is_file(self._output):
            target = self._output.out if result.is_sheet else self._named(self._count)
            yield target
            yield from (target.with_stem(f"{target.stem}-{n}") for n in itertools.count(2))
        folder, options = self._output.out, result.record.options
        words = "sheet" if result.is_sheet else f"{options['seed']}-{_slug(options['prompt'])}"
        for number in itertools.count(_last_number(folder) + 1):
            yield folder / shortened(f"{number:05}-{words}".rstrip("-"), ending(Path(), self._output.format), folder)

    def save_film(self, film: "Film") -> tuple[Path, tuple[str | Message, ...]]:
        """Writes a film as GIF, and as MP4 if possible; returns the path of the MP4, or the GIF, and notes."""
        from calotype.picture import video as films

        folder = self._folder
        make_folder(folder, "out")
        name = self._output.out.stem if _is_file(self._output) else f"{_last_number(folder) + 1:05}-{film.seed}-walk"
        target = folder / f"{name}.gif"
        with contextlib.ExitStack() as stack:
            writers = [stack.enter_context(films.gif(target))]
            if films.can_mp4():
                writers.append(stack.enter_context(films.mp4(target.with_suffix(".mp4"), fade=0)))
            for frame in film.frames:
                for write_frame in writers:
                    write_frame(frame, film.seconds)
        return (target.with_suffix(".mp4"), ()) if films.can_mp4() else (target, (Message.of(films.missing()),))

    def _named(self, n: int) -> Path:
        out = self._output.out
        return out.with_stem(f"{out.stem}-{n}") if self._is_many else out


def _is_file(output: DrawingOutput) -> bool:
    return format_of(output.out) is not None and not output.out.is_dir()


def _last_number(folder: Path) -> int:
    """The highest number that a file name in the folder starts with."""
    if not folder.is_dir():
        return -1
    matches = (re.match(r"(\d{5,9})-", path.name) for path in folder.iterdir())
    return max((int(match[1]) for match in matches if match), default=-1)


def _slug(prompt: str) -> str:
    """The first words of the prompt, in any script, for a file name."""
    plain = re.sub(r"<[^<>]*>", " ", prompt)
    return "-".join(re.findall(r"\w+", plain)[:MAX_WORDS])[:80]


def save_drawing(
    result: "Result", paths: DrawingPaths, output: DrawingOutput, source: Path | None
) -> tuple[Path, str, tuple[str | Message, ...]]:
    """Writes the picture with its parameters and its record, under the first unused name.

    Args:
        source: the initial picture, which its sidecar leads to.
    Returns:
        path, sha256, and notes about what the format could not store.
    """
    from calotype.picture import save

    is_new = not (_is_file(output) and output.overwrite)
    for target in paths.next(result):
        make_folder(target.parent, "out")
        record = _with_quality(result.record, output.quality, format_of(target))
        options = {"quality": output.quality, "record": record.as_json(), "is_new": is_new}
        with contextlib.suppress(FileExistsError):
            notes = save(result.picture, target, format=format_of(target), **options)
            break
    sha256 = sha256_of(target)
    if output.sidecar:
        write_sidecar(record, source or Path("."), target, sha256)
    return target, sha256, tuple(notes)


def _with_quality(record: "Record", quality: int, format: str | None) -> "Record":
    """The record with the quality of a lossy file, where it is not the usual one."""
    if format in LOSSLESS or quality == DrawingOutput().quality:
        return record
    return replace(record, computed=record.computed | {"quality": quality})
