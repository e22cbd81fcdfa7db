"""Downloads checkpoints of the catalog: resumable, verified before use, and only on request."""

import http.client
import re
import shutil
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Generator, Iterator
from pathlib import Path

from calotype import __version__
from calotype.checkpoints.store import Entry, ModelStore, digest
from calotype.errors import CalotypeError, Message, Remedy, reason_of
from calotype.settings import Settings
from calotype.tasks import Note, Progress, note

CHUNK_SIZE = 1 << 20  # bytes
TIMEOUT = 30  # seconds without any data
MAX_TRIES = 4  # consecutive connections without new data
MAX_SIZE = 16 << 30  # bytes, where the catalog has no size
SAFE_HOSTS = ("127.0.0.1", "localhost")  # allowed without https: the connection stays on this machine


class _ConnectionLost(Exception):
    """The connection ended too early; requesting the rest again may help."""

    def __init__(self, reason: Message | object):
        self.reason = reason if isinstance(reason, Message) else str(reason)
        super().__init__(self.reason)


def pull(entry: Entry, settings: Settings) -> Iterator[Progress | Note]:
    """Downloads one checkpoint into `home/models`; yields progress in bytes, and notes for the user.

    The data is written to a `.part` file until its size and sha256 are verified; an existing `.part` file is resumed.
    Where the catalog has no sha256, that of the first download is pinned.

    Raises:
        CalotypeError: offline, no connection, no disk space, or not the file that the catalog describes.
    """
    store = ModelStore(settings)
    target = store.folder / entry.file
    if entry.ships:
        raise CalotypeError("{entry} comes with the program; there is nothing to fetch", entry=entry.name)
    if target.is_file():
        yield note("{entry} is at hand already: {target}", entry=entry.name, target=target)
        return
    if settings.offline:
        raise CalotypeError(
            "{entry} is not fetched while offline ({option:offline}, CALOTYPE_OFFLINE); download {url} "
            "by other means and: {remedy}",
            remedy=Remedy("add_model", entry.name),
            entry=entry.name,
            url=entry.url,
        )
    if not entry.commercial:
        yield note("{entry} is under the {licence}: not for commercial use", entry=entry.name, licence=entry.licence)
    part_file = target.with_name(target.name + ".part")
    try:
        part_file.parent.mkdir(parents=True, exist_ok=True)
        yield from _download(entry, part_file)
        notes = list(_verify_download(entry, part_file, store))
        part_file.replace(target)
        yield from notes  # last, so that a caller who stops iterating does not lose the file
    except OSError as fault:
        raise CalotypeError(
            "{part} cannot be written: {reason}; make room or set {option:home}",
            part=part_file,
            reason=reason_of(fault),
        ) from None


def _download(entry: Entry, part_file: Path) -> Iterator[Progress]:
    """Reconnects for the rest when a connection breaks off, as long as each one brings new data."""
    if entry.size and _size(part_file) > entry.size:
        part_file.unlink()
    tries = 0
    while tries < MAX_TRIES:
        before = _size(part_file)
        try:
            yield from _download_once(entry, part_file)
            return
        except _ConnectionLost as fault:
            tries = 1 if _size(part_file) > before else tries + 1
            reason = fault.reason
    raise CalotypeError(
        "the download of {entry} broke off after {size} bytes ({reason}); the same command resumes it",
        entry=entry.name,
        size=_size(part_file),
        reason=reason,
    )


def _download_once(entry: Entry, part_file: Path) -> Generator[Progress, None, None]:
    """One connection: appends its data to the `.part` file."""
    have = _size(part_file)
    if entry.size and have == entry.size:
        return
    response = _open_connection(entry, have)
    if response is None:
        return
    with response:
        start, total = _content_range(response, have)
        if total:
            _check_total(entry, part_file, total, total - start)
        with part_file.open("r+b" if start else "wb") as file:
            file.seek(start)
            file.truncate()
            yield Progress(start, total, "bytes")
            for chunk in _chunks(response):
                start += len(chunk)
                if start > (entry.size or MAX_SIZE):
                    raise CalotypeError(
                        "{url} is larger than the {size} bytes of {entry}; refused",
                        url=entry.url,
                        size=entry.size,
                        entry=entry.name,
                    )
                file.write(chunk)
                yield Progress(start, total, "bytes")
    if total and start < total:
        raise _ConnectionLost(Message("{count} of {total} bytes came", count=start, total=total))


def _open_connection(entry: Entry, have: int) -> http.client.HTTPResponse | None:
    """Opens the connection, requesting the missing bytes; None where none are missing."""
    _check_address(entry.url)
    headers = {"User-Agent": f"calotype/{__version__}", "Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
    request = urllib.request.Request(entry.url, headers=headers)
    try:
        return urllib.request.build_opener(_SafeRedirects).open(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as fault:
        fault.close()
        if fault.code == 416 and fault.headers.get("Content-Range") == f"bytes */{have}":
            return None
        if fault.code >= 500:
            raise _ConnectionLost(Message("HTTP {code}", code=fault.code)) from None
        raise CalotypeError(
            "{url} returned {code} {reason}; download {file} by other means and: {remedy}",
            remedy=Remedy("add_model", entry.name),
            url=entry.url,
            code=fault.code,
            reason=fault.reason,
            file=entry.file,
        ) from None
    except urllib.error.URLError as fault:
        raise _ConnectionLost(fault.reason) from None
    except (OSError, http.client.HTTPException) as fault:
        raise _ConnectionLost(fault) from None


def _chunks(response: http.client.HTTPResponse) -> Iterator[bytes]:
    while True:
        try:
            chunk = response.read(CHUNK_SIZE)
        except http.client.IncompleteRead as fault:
            chunk = fault.partial
        except (OSError, http.client.HTTPException) as fault:
            raise _ConnectionLost(fault) from None
        if not chunk:
            return
        yield chunk


def _content_range(response: http.client.HTTPResponse, have: int) -> tuple[int, int]:
    """Offset of the response in the file, and the total length (0 if unknown)."""
    if response.status == 206:
        content_range = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", response.headers.get("Content-Range", ""))
        if content_range and int(content_range[1]) == have:
            return have, int(content_range[2])
        raise _ConnectionLost(Message("the server sent a different range than was requested"))
    return 0, int(response.headers.get("Content-Length") or 0)


def _check_total(entry: Entry, part_file: Path, total: int, missing: int) -> None:
    if (entry.size and total != entry.size) or total > MAX_SIZE:
        part_file.unlink(missing_ok=True)
        raise CalotypeError(
            "{url} offers {total} bytes where {entry} has {size}; nothing was kept",
            url=entry.url,
            total=total,
            entry=entry.name,
            size=entry.size or MAX_SIZE,
        )
    free = shutil.disk_usage(part_file.parent).free
    if free < missing:
        raise CalotypeError(
            "{folder} has {free} bytes left and {entry} needs {missing}; make room",
            folder=part_file.parent,
            free=free,
            entry=entry.name,
            missing=missing,
        )


def _verify_download(entry: Entry, part_file: Path, store: ModelStore) -> Iterator[Note]:
    """Compares size and sha256; a file that does not match is deleted."""
    expected, sha256 = entry.sha256 or store.pinned_hash(entry), digest(part_file)
    if entry.size and (size := _size(part_file)) != entry.size:
        part_file.unlink()
        raise CalotypeError(
            "{url} did not send {entry}: it has {size} bytes where {expected} belong; nothing was kept",
            url=entry.url,
            entry=entry.name,
            size=size,
            expected=entry.size,
        )
    if not expected:
        store.pin_hash(entry, sha256)
        yield note(
            "{entry}: no sha256 is known to compare with; the sha256 of this file is recorded: {found}",
            entry=entry.name,
            found=sha256,
        )
        return
    if sha256 == expected:
        return
    part_file.unlink()
    raise CalotypeError(
        "{url} did not send {entry}: sha256 should be {expected} and is {found}; nothing was kept",
        url=entry.url,
        entry=entry.name,
        expected=expected,
        found=sha256,
    )


class _SafeRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, request, response, code, message, headers, url):
        _check_address(url)
        return super().redirect_request(request, response, code, message, headers, url)


def _check_address(url: str) -> None:
    address = urllib.parse.urlsplit(url)
    if address.scheme != "https" and not (address.scheme == "http" and address.hostname in SAFE_HOSTS):
        raise CalotypeError("{url} is no https address, so nothing is fetched from there", url=url)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
