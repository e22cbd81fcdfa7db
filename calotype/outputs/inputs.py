"""From files, folders and patterns to a list of pictures, each with the place of its result."""

import glob
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from calotype.errors import CalotypeError, Message
from calotype.files import readable
from calotype.outputs.names import beside, ending, format_of, key, natural, shortened
from calotype.suffixes import SUFFIXES
from calotype.tasks.output import Album

SHOWN = 3  # names given where many files are meant


@dataclass(frozen=True)
class Item:
    """One picture to work on. `fault` says in a sentence why there is nothing to work on."""

    source: Path
    target: Path
    fault: Message | None = None


@dataclass(frozen=True)
class AlbumPlan:
    """What is to be done, and sentences about what was left out."""

    items: tuple[Item, ...]
    notes: tuple[Message, ...] = ()


@dataclass(frozen=True)
class _Found:
    source: Path
    folder: Path  # below the place of the results, where the tree is kept
    fault: Message | None = None


def plan(inputs: Sequence[str | Path], album: Album, format: str = "auto") -> AlbumPlan:
    """Files, folders and patterns -> pictures in natural order, each once, each with a name of its own.

    Args:
        format: of the results, one of tasks.FORMATS.

    Raises:
        CalotypeError: there is nothing to work on, or no place for the results.
    """
    if "/" in album.suffix or "\\" in album.suffix or not album.suffix.isprintable():
        raise CalotypeError(
            "{option:suffix} is a part of a file's name, so it can't be {suffix!r}; leave / out",
            suffix=readable(album.suffix),
        )
    if album.report and album.report.suffix.lower() not in (".html", ".htm"):
        raise CalotypeError(
            "{option:report} takes the name of a page, such as album.html, not {report}", report=readable(album.report)
        )
    strangers: list[Path] = []
    found = _once(_scan(inputs, album, strangers))
    if not any(f.fault is None for f in found):
        raise CalotypeError(found[0].fault if found else _nothing(inputs, strangers))
    if _is_file_name(album.out):
        items = [_single(found, album, format)]
    else:
        _make_folder(album.out)
        items = _named(_without_results(found, album, format), album, format)
    notes = (_strangers(strangers),) if strangers else ()
    return AlbumPlan(tuple(items), notes)


def _scan(inputs: Sequence[str | Path], album: Album, strangers: list[Path]) -> Iterator[_Found]:
    for given in inputs:
        path = Path(given).expanduser()
        if path.is_dir():
            yield from _folder(path, album, strangers)
        elif os.path.lexists(path):
            yield _Found(path, Path(), None if path.is_file() else _unreadable(path))
        else:
            yield from _pattern(path, album, strangers)


def _pattern(path: Path, album: Album, strangers: list[Path]) -> Iterator[_Found]:
    """Windows shells leave patterns to the program; a name that exists never comes here, whatever its brackets."""
    matches = sorted(glob.glob(str(path), recursive=True), key=natural) if glob.has_magic(str(path)) else []
    if not matches:
        yield _Found(path, Path(), Message("{path} isn't there; check the name", path=readable(path)))
    for match in map(Path, matches):
        if match.is_dir():
            continue
        if match.suffix.lower() in SUFFIXES:
            yield _Found(match, Path())
        else:
            strangers.append(match)


def _folder(root: Path, album: Album, strangers: list[Path]) -> Iterator[_Found]:
    out = os.path.realpath(album.out)
    for folder, below, names in os.walk(root):
        below[:] = sorted((n for n in below if _enters(Path(folder, n), out, album)), key=natural)
        for name in sorted(names, key=natural):
            path = Path(folder, name)
            if not name.startswith(".") and path.suffix.lower() in SUFFIXES:
                yield _Found(path, Path(folder).relative_to(root))
            elif not _is_ours(path, album):
                strangers.append(path)


def _enters(folder: Path, out: str, album: Album) -> bool:
    return album.recursive and not folder.name.startswith(".") and os.path.realpath(folder) != out


def _is_ours(path: Path, album: Album) -> bool:
    """Sidecars and the report of earlier runs are no news."""
    is_report = album.report is not None and _same(path, album.report)
    return is_report or (path.suffix == ".json" and path.with_suffix("").exists())


def _unreadable(path: Path) -> Message:
    return Message("{path} is no file that can be read", path=readable(path))


def _once(found: Iterable[_Found]) -> list[_Found]:
    kept: dict[str, _Found] = {}
    for one in found:
        kept.setdefault(os.path.realpath(one.source), one)
    return list(kept.values())


def _nothing(inputs: Sequence[str | Path], strangers: list[Path]) -> Message:
    names = " and ".join(readable(name) for name in inputs) or "the command"
    if strangers:
        return Message("there is no picture in {names} ({left_out})", names=names, left_out=_strangers(strangers))
    return Message("there is no picture in {names}; for folders within it give {option:recursive}", names=names)


def _strangers(paths: list[Path]) -> Message:
    names = ", ".join(readable(path.name) for path in paths[:SHOWN]) + (", ..." if len(paths) > SHOWN else "")
    if len(paths) == 1:
        return Message("1 file is no picture and left out: {names}", names=names)
    return Message("{count} files are no pictures and left out: {names}", count=len(paths), names=names)


def _is_file_name(out: Path) -> bool:
    return format_of(out) is not None and not out.is_dir()


def _single(found: list[_Found], album: Album, format: str) -> Item:
    out = album.out
    if len(found) > 1:
        raise CalotypeError(
            "{option:out} {out} names one file, but there are {count} pictures; give a folder",
            out=readable(out),
            count=len(found),
        )
    if format not in ("auto", format_of(out)):
        raise CalotypeError(
            "{option:out} {out} and {option:format} {format} ask for two formats; leave {option:format} out",
            out=readable(out),
            format=format,
        )
    _make_folder(out.parent)
    is_own_place = any(_same(found[0].source, place) for place in _places(out, album))
    own = "{out}: its result would take its own place; give another name with {option:out}"
    return Item(found[0].source, out, Message(own, out=readable(out)) if is_own_place else None)


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise CalotypeError(
            "{folder} is a file, so no folder for results; give another with {option:out}", folder=readable(folder)
        ) from None
    except OSError as fault:
        raise CalotypeError(
            "can't make the folder {folder} ({reason}); give another with {option:out}",
            folder=readable(folder),
            reason=fault.strerror,
        ) from None
    if not os.access(folder, os.W_OK):
        raise CalotypeError(
            "may not write into the folder {folder}; give another with {option:out}", folder=readable(folder)
        )


def _plain_target(found: _Found, album: Album, format: str, mark: str = "") -> Path:
    folder = album.out / found.folder
    stem = found.source.stem + mark + album.suffix
    return folder / shortened(stem, ending(found.source, format), folder)


def _without_results(found: list[_Found], album: Album, format: str) -> list[_Found]:
    """A folder that also takes the results holds those of earlier runs: they are no sources."""
    from calotype.outputs.sidecar import is_result

    made: dict[str, Path] = {}  # what stands where a run writes: the result that it belongs to
    for one in found:
        target = _plain_target(one, album, format)
        if key(target) != key(one.source):
            made |= {key(target): target, key(beside(target, "-compare", ".jpg")): target}
    found = [one for one in found if key(one.source) not in made or not is_result(made[key(one.source)])]
    return [one for one in found if not _made_here(one, found, album)]


def _made_here(one: _Found, found: list[_Found], album: Album) -> bool:
    """Whether a picture in the folder of the results was made, under whatever name, from another one of the scan."""
    from calotype.outputs.sidecar import is_result, read_stored

    if not _same_folder(one.source.parent, album.out / one.folder) or not is_result(one.source):
        return False
    try:
        made_from = read_stored(one.source).record.source_name
    except CalotypeError:
        return False
    return any(other is not one and other.source.name == made_from for other in found)


def _same_folder(one: Path, other: Path) -> bool:
    return os.path.realpath(one) == os.path.realpath(other)


def _named(found: list[_Found], album: Album, format: str) -> list[Item]:
    taken = {key(one.source): one for one in found}
    items = []
    for one in found:
        candidates = _candidates(one, album, format)
        target = next(t for t in candidates if all(taken.get(key(p), one) is one for p in _places(t, album)))
        taken |= {key(place): one for place in _places(target, album)}
        fault = one.fault
        if fault is None and any(_same(one.source, place) for place in _places(target, album)):
            own = (
                "the result of {source} would take its own place; give {option:out} another folder, or {option:suffix}"
            )
            fault = Message(own, source=readable(one.source))
        items.append(Item(one.source, target, fault))
    return items


def _places(target: Path, album: Album) -> list[Path]:
    """All pictures that a run writes for one target."""
    return [target, beside(target, "-compare", ".jpg")] if album.compare else [target]


def _candidates(one: _Found, album: Album, format: str) -> Iterator[Path]:
    """photo.jpg, photo-png.jpg, photo-png-summer.jpg, photo-png-2.jpg, ..."""
    yield _plain_target(one, album, format)
    mark = "-" + one.source.suffix.lower().lstrip(".") if one.source.suffix.lower() else ""
    yield _plain_target(one, album, format, mark)
    yield _plain_target(one, album, format, f"{mark}-{one.source.absolute().parent.name}")
    number = 2
    while True:
        yield _plain_target(one, album, format, f"{mark}-{number}")
        number += 1


def _same(source: Path, target: Path) -> bool:
    """Whether writing the target would touch the source, also through links."""
    try:
        return key(source) == key(target) or os.path.samefile(source, target)
    except OSError:
        return False
