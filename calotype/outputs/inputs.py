"""From files, folders and patterns to a list of pictures with the paths of their results."""

import glob
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from calotype.errors import CalotypeError, Message, listed, plural, reason_of
from calotype.files import readable, walk
from calotype.outputs.names import (
    Beside,
    comparison_of,
    ending,
    format_of,
    key,
    mask_of,
    natural,
    shortened,
    uncertainty_of,
)
from calotype.suffixes import DOCUMENTS, SUFFIXES
from calotype.tasks.output import Album, chosen_pages, missing_pages

SHOWN = 3  # file names listed in a note about many files


@dataclass(frozen=True)
class Item:
    """One picture to process. `fault`: why it cannot be processed."""

    source: Path
    target: Path
    fault: Message | None = None
    page: int = 0  # of the source, from 1; 0: its main picture
    mark: str = ""  # of this page in the name of the result: -p02
    folder: Path = Path()  # relative to the folder that was given
    mask: Path | None = None  # of its damage, where a folder of masks has one

    def task_of(self, task: Any, page: int) -> Any:
        """The task of a run for this picture."""
        own = {"mask": self.mask} if getattr(task, "mask", None) and task.mask.is_dir() else {}
        return replace(task, source=self.source, page=page, **own)


@dataclass(frozen=True)
class AlbumPlan:
    """The pictures to process, and notes about skipped files."""

    items: tuple[Item, ...]
    notes: tuple[Message, ...] = ()


@dataclass(frozen=True)
class _Input:
    source: Path
    folder: Path  # of the result, relative to the output folder
    fault: Message | None = None
    page: int = 0
    mark: str = ""


def plan(
    inputs: Sequence[str | Path],
    album: Album,
    format: str = "auto",
    max_pixels: int = 250_000_000,
    beside: Beside = (),
) -> AlbumPlan:
    """Files, folders and patterns -> pictures in natural order, without duplicates, each with its own result name.

    Args:
        format: of the results, one of tasks.FORMATS.
        max_pixels: of a picture, where the pictures in a file are counted.
        beside: the pictures that are written beside each result.

    Raises:
        CalotypeError: there are no pictures, or the output path is invalid.
    """
    if "/" in album.suffix or "\\" in album.suffix or not album.suffix.isprintable():
        raise CalotypeError(
            "{option:suffix} is a part of a file name, so it can't be {suffix!r}; leave / out",
            suffix=readable(album.suffix),
        )
    if album.report and album.report.suffix.lower() not in (".html", ".htm"):
        raise CalotypeError(
            "{option:report} takes the name of an HTML file, such as album.html, not {report}",
            report=readable(album.report),
        )
    skipped: list[Path] = []  # files that are not pictures
    shorter: list[tuple[Path, int, str]] = []  # files, how many pictures they hold, and the chosen ones they don't
    entries = _without_duplicates(_scan(inputs, album, skipped))
    if album.pages:
        entries = [page for entry in entries for page in _pages(entry, album, max_pixels, shorter)]
    if not any(entry.fault is None for entry in entries):
        raise CalotypeError(entries[0].fault if entries else _nothing_found(inputs, skipped))
    if _is_file_name(album.out):
        items = [_single(entries, album, format, beside)]
    else:
        _make_folder(album.out)
        items = _named(_without_earlier_results(entries, album, format), album, format, beside)
    notes = (*_skipped_notes(skipped), *([_shorter_note(shorter)] if shorter else []))
    return AlbumPlan(tuple(items), notes)


def pictures_in(inputs: Sequence[str | Path], album: Album, max_pixels: int) -> AlbumPlan:
    """As `plan`, of pictures that are only read: their targets are themselves, and no folder is made.

    Raises:
        CalotypeError: there are no pictures.
    """
    skipped: list[Path] = []
    entries = _without_duplicates(_scan(inputs, album, skipped))
    if album.pages:
        entries = [page for entry in entries for page in _pages(entry, album, max_pixels, [])]
    if not any(entry.fault is None for entry in entries):
        raise CalotypeError(entries[0].fault if entries else _nothing_found(inputs, skipped))
    items = tuple(
        Item(entry.source, entry.source, entry.fault, entry.page, entry.mark, entry.folder) for entry in entries
    )
    return AlbumPlan(items, tuple(_skipped_notes(skipped)))


def _pages(entry: _Input, album: Album, max_pixels: int, shorter: list[tuple[Path, int, str]]) -> Iterator[_Input]:
    """The chosen pictures of a file; a file with a single one as it is, if that is chosen."""
    from calotype.picture import pages_of

    if entry.fault:
        yield entry
        return
    try:
        count = pages_of(entry.source, max_pixels)
    except CalotypeError:  # said when the picture is opened
        yield entry
        return
    chosen = chosen_pages(album.pages, count)
    if not chosen:
        text = plural(
            count,
            "{path} holds 1 picture, so it has no picture {pages}; give other {option:pages}",
            "{path} holds {count} pictures, and none of {pages}; give other {option:pages}",
            path=readable(entry.source),
            pages=album.pages,
        )
        yield replace(entry, fault=text)
    elif missing := missing_pages(album.pages, count):
        shorter.append((entry.source, count, missing))
    digits = max(2, len(str(count)))
    for page in chosen:
        yield replace(entry, page=page, mark=f"-p{page:0{digits}d}") if count > 1 else entry


def _scan(inputs: Sequence[str | Path], album: Album, skipped: list[Path]) -> Iterator[_Input]:
    for name in inputs:
        path = Path(name).expanduser()
        if path.is_dir():
            yield from _folder(path, album, skipped)
        elif os.path.lexists(path):
            yield _Input(path, Path(), None if path.is_file() else _unreadable(path))
        else:
            yield from _pattern(path, album, skipped)


def _pattern(path: Path, album: Album, skipped: list[Path]) -> Iterator[_Input]:
    """Expands a pattern, which Windows shells leave to programs; existing files with brackets are handled before."""
    matches = sorted(glob.glob(str(path), recursive=True), key=natural) if glob.has_magic(str(path)) else []
    if not matches:
        yield _Input(path, Path(), Message("{path} doesn't exist; check the name", path=readable(path)))
    for match in map(Path, matches):
        if match.is_dir():
            continue
        if match.suffix.lower() in SUFFIXES.keys() | DOCUMENTS.keys():
            yield _Input(match, Path())
        else:
            skipped.append(match)


def _folder(root: Path, album: Album, skipped: list[Path]) -> Iterator[_Input]:
    out = os.path.realpath(album.out)
    taken = SUFFIXES.keys() | (DOCUMENTS.keys() if album.pages else ())
    for folder, names in walk(root, lambda folder: _is_scanned(folder, out, album), natural):
        for name in sorted(names, key=natural):
            path = Path(folder, name)
            if not name.startswith(".") and path.suffix.lower() in taken:
                yield _Input(path, Path(folder).relative_to(root))
            elif not _is_ours(path, album):
                skipped.append(path)


def _is_scanned(folder: Path, out: str, album: Album) -> bool:
    return album.recursive and not folder.name.startswith(".") and os.path.realpath(folder) != out


def _is_ours(path: Path, album: Album) -> bool:
    """Whether it is a sidecar or report of an earlier run, which need no note."""
    is_report = album.report is not None and _same(path, album.report)
    return is_report or (path.suffix == ".json" and path.with_suffix("").exists())


def _unreadable(path: Path) -> Message:
    return Message("{path} is not a readable file", path=readable(path))


def _without_duplicates(entries: Iterable[_Input]) -> list[_Input]:
    by_path: dict[str, _Input] = {}
    for entry in entries:
        by_path.setdefault(os.path.realpath(entry.source), entry)
    return list(by_path.values())


def _nothing_found(inputs: Sequence[str | Path], skipped: list[Path]) -> Message:
    names = listed(map(readable, inputs), " and ") if inputs else Message("the command")
    if skipped:
        reasons = listed(_skipped_notes(skipped), "; ")
        return Message("there is no picture in {names} ({reasons})", names=names, reasons=reasons)
    return Message("there is no picture in {names}; to read subfolders give {option:recursive}", names=names)


def _skipped_notes(paths: list[Path]) -> list[Message]:
    documents = [path for path in paths if path.suffix.lower() in DOCUMENTS]
    non_images = [path for path in paths if path.suffix.lower() not in DOCUMENTS]
    notes = []
    if documents:
        text = plural(
            len(documents),
            "1 document in a folder was skipped: {names}; name the file, or give {option:pages} all for its pages",
            "{count} documents in folders were skipped: {names}; name them, or give {option:pages} all for their pages",
            names=_first_names(documents),
        )
        notes.append(text)
    if non_images:
        text = plural(
            len(non_images),
            "1 file is not a picture and was skipped: {names}",
            "{count} files are not pictures and were skipped: {names}",
            names=_first_names(non_images),
        )
        notes.append(text)
    return notes


def _first_names(paths: list[Path]) -> str:
    return ", ".join(readable(path.name) for path in paths[:SHOWN]) + (", ..." if len(paths) > SHOWN else "")


def _shorter_note(files: list[tuple[Path, int, str]]) -> Message:
    """Files that hold some of the chosen pictures, but not all."""
    if len(files) == 1:
        path, count, missing = files[0]
        text = "{path} holds {count} pictures, so {missing} of {option:pages} was left out"
        single = "{path} holds 1 picture, so {missing} of {option:pages} was left out"
        return plural(count, single, text, path=readable(path), missing=missing)
    parts: list[Message | str] = [
        plural(
            count,
            "{name} holds 1 picture and not {missing}",
            "{name} holds {count} pictures and not {missing}",
            name=readable(path.name),
            missing=missing,
        )
        for path, count, missing in files[:SHOWN]
    ]
    return Message(
        "{count} files hold fewer pictures than {option:pages} names: {files}",
        count=len(files),
        files=listed(parts + ["..."] * (len(files) > SHOWN), "; "),
    )


def _is_file_name(out: Path) -> bool:
    return format_of(out) is not None and not out.is_dir()


def _single(entries: list[_Input], album: Album, format: str, beside: Beside) -> Item:
    out = album.out
    if len(entries) > 1:
        raise CalotypeError(
            "{option:out} {out} names one file, but there are {count} pictures; give a folder",
            out=readable(out),
            count=len(entries),
        )
    if format not in ("auto", format_of(out)):
        raise CalotypeError(
            "{option:out} {out} and {option:format} {format} disagree about the format; leave {option:format} out",
            out=readable(out),
            format=format,
        )
    _make_folder(out.parent)
    overwrites_source = any(_same(entries[0].source, path) for path in _written_paths(out, beside))
    template = "{out}: the result would overwrite its source; give another name with {option:out}"
    fault = Message(template, out=readable(out)) if overwrites_source else None
    return Item(entries[0].source, out, entries[0].fault or fault, entries[0].page, entries[0].mark, entries[0].folder)


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise CalotypeError(
            "{folder} is a file, not a folder; give another with {option:out}", folder=readable(folder)
        ) from None
    except OSError as fault:
        raise CalotypeError(
            "can't create the folder {folder} ({reason}); give another with {option:out}",
            folder=readable(folder),
            reason=reason_of(fault),
        ) from None
    if not os.access(folder, os.W_OK):
        raise CalotypeError(
            "no permission to write into the folder {folder}; give another with {option:out}", folder=readable(folder)
        )


def _plain_target(entry: _Input, album: Album, format: str, mark: str = "") -> Path:
    folder = album.out / entry.folder
    stem = entry.source.stem + entry.mark + mark + album.suffix
    return folder / shortened(stem, ending(entry.source, format), folder)


def _without_earlier_results(entries: list[_Input], album: Album, format: str) -> list[_Input]:
    """Drops the results of earlier runs, if the output folder is also an input."""
    from calotype.outputs.sidecar import is_result

    results: dict[str, Path] = {}  # a path that the run writes: the result it belongs to
    for entry in entries:
        target = _plain_target(entry, album, format)
        if key(target) != key(entry.source):
            written = target, comparison_of(target), mask_of(target), uncertainty_of(target)
            results |= {key(path): target for path in written}
    entries = [
        entry for entry in entries if key(entry.source) not in results or not is_result(results[key(entry.source)])
    ]
    return [entry for entry in entries if not _is_result_of_scan(entry, entries, album)]


def _is_result_of_scan(entry: _Input, entries: list[_Input], album: Album) -> bool:
    """Whether a picture in the output folder is the result, under any name, of another input."""
    from calotype.outputs.sidecar import is_result, read_stored

    if not _same_folder(entry.source.parent, album.out / entry.folder) or not is_result(entry.source):
        return False
    try:
        source_name = read_stored(entry.source).record.source_name
    except CalotypeError:
        return False
    return any(candidate is not entry and candidate.source.name == source_name for candidate in entries)


def _same_folder(a: Path, b: Path) -> bool:
    return os.path.realpath(a) == os.path.realpath(b)


def _named(entries: list[_Input], album: Album, format: str, beside: Beside) -> list[Item]:
    owners = {key(entry.source): entry for entry in entries}
    items = []
    for entry in entries:
        candidates = _candidates(entry, album, format)
        target = next(
            t for t in candidates if all(owners.get(key(p), entry) is entry for p in _written_paths(t, beside))
        )
        owners |= {key(path): entry for path in _written_paths(target, beside)}
        fault = entry.fault
        if fault is None and any(_same(entry.source, path) for path in _written_paths(target, beside)):
            template = (
                "the result of {source} would overwrite it; give another folder with {option:out}, or {option:suffix}"
            )
            fault = Message(template, source=readable(entry.source))
        items.append(Item(entry.source, target, fault, entry.page, entry.mark, entry.folder))
    return items


def in_another_format(item: Item, items: Sequence[Item], album: Album, format: str, beside: Beside) -> Item:
    """The item with a result in this format, under a name that no other item uses."""
    entry = _Input(item.source, item.target.parent.relative_to(album.out), page=item.page, mark=item.mark)
    remaining = [own for own in items if own is not item]
    taken = {key(path) for own in remaining for path in (own.source, *_written_paths(own.target, beside))}
    candidates = _candidates(entry, album, format)
    target = next(t for t in candidates if not taken & {key(path) for path in _written_paths(t, beside)})
    return replace(item, target=target)


def _written_paths(target: Path, beside: Beside) -> list[Path]:
    """The pictures that a run writes for one target."""
    return [target, *(path_of(target) for path_of in beside)]


def _candidates(entry: _Input, album: Album, format: str) -> Iterator[Path]:
    """photo.jpg, photo-png.jpg, photo-png-summer.jpg, photo-png-2.jpg, ..."""
    yield _plain_target(entry, album, format)
    mark = "-" + entry.source.suffix.lower().lstrip(".") if entry.source.suffix.lower() else ""
    yield _plain_target(entry, album, format, mark)
    yield _plain_target(entry, album, format, f"{mark}-{entry.source.absolute().parent.name}")
    number = 2
    while True:
        yield _plain_target(entry, album, format, f"{mark}-{number}")
        number += 1


def _same(source: Path, target: Path) -> bool:
    """Whether writing the target would overwrite the source, also through links."""
    try:
        return key(source) == key(target) or os.path.samefile(source, target)
    except OSError:
        return False
