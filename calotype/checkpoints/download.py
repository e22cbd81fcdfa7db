"""Fetches checkpoints of the catalog: resumable, checked before they count, and only when asked to."""

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
from calotype.errors import CalotypeError, Message, Remedy
from calotype.settings import Settings
from calotype.tasks import Note, Progress, note

CHUNK = 1 << 20  # bytes
PATIENCE = 30  # seconds without a byte
TRIES = 4  # connections that bring nothing new, in a row
LARGEST = 16 << 30  # bytes, where the catalog does not know the size
SAFE_HOSTS = ("127.0.0.1", "localhost")  # may be asked without https: nobody is in between


class _Broken(Exception):
    """The connection ended too early; asking again for the rest may help."""

    def __init__(self, reason: Message | object):
        self.reason = reason if isinstance(reason, Message) else str(reason)
        super().__init__(self.reason)


def pull(entry: Entry, settings: Settings) -> Iterator[Progress | Note]:
    """Fetches one checkpoint into `home/models`; yields bytes, and sentences for the person.

    What arrives lies in a `.part` file until its size and sha256 are right; a `.part` that is there already is gone on
    with. Where the catalog knows no sha256, the first file fetched sets it.

    Raises:
        CalotypeError: offline, no connection, no room, or not the file that the catalog means.
    """
    shelf = ModelStore(settings)
    target = shelf.folder / entry.file
    if entry.ships:
        raise CalotypeError("{entry} comes with the program; there is nothing to fetch", entry=entry.name)
    if target.is_file():
        yield note("{entry} is at hand already: {target}", entry=entry.name, target=target)
        return
    if settings.offline:
        raise CalotypeError(
            "{entry} is not fetched while offline ({option:offline}, CALOTYPE_OFFLINE); fetch {url} in "
            "another way and: {remedy}",
            remedy=Remedy("add_model", entry.name),
            entry=entry.name,
            url=entry.url,
        )
    if not entry.commercial:
        yield note("{entry} is under the {licence}: not for commercial use", entry=entry.name, licence=entry.licence)
    part = target.with_name(target.name + ".part")
    try:
        part.parent.mkdir(parents=True, exist_ok=True)
        yield from _until_whole(entry, part)
        said = list(_checked(entry, part, shelf))
        part.replace(target)
        yield from said  # last, so that nobody who stops listening loses the file
    except OSError as fault:
        raise CalotypeError(
            "{part} cannot be written: {reason}; make room or set {option:home}",
            part=part,
            reason=fault.strerror or fault,
        ) from None


def _until_whole(entry: Entry, part: Path) -> Iterator[Progress]:
    """Asks again for the rest when a connection breaks off, as long as each brings something."""
    if entry.size and _size(part) > entry.size:
        part.unlink()
    tries = 0
    while tries < TRIES:
        before = _size(part)
        try:
            yield from _connection(entry, part)
            return
        except _Broken as fault:
            tries = 1 if _size(part) > before else tries + 1
            reason = fault.reason
    raise CalotypeError(
        "{entry} broke off after {size} bytes ({reason}); the same command goes on from there",
        entry=entry.name,
        size=_size(part),
        reason=reason,
    )


def _connection(entry: Entry, part: Path) -> Generator[Progress, None, None]:
    """One connection: appends what it brings to the part."""
    have = _size(part)
    if entry.size and have == entry.size:
        return
    answer = _asked(entry, have)
    if answer is None:
        return
    with answer:
        start, total = _range(answer, have)
        if total:
            _check_total(entry, part, total, total - start)
        with part.open("r+b" if start else "wb") as file:
            file.seek(start)
            file.truncate()
            yield Progress(start, total, "bytes")
            for chunk in _chunks(answer):
                start += len(chunk)
                if start > (entry.size or LARGEST):
                    raise CalotypeError(
                        "{url} is larger than the {size} bytes of {entry}; refused",
                        url=entry.url,
                        size=entry.size,
                        entry=entry.name,
                    )
                file.write(chunk)
                yield Progress(start, total, "bytes")
    if total and start < total:
        raise _Broken(Message("{count} of {total} bytes came", count=start, total=total))


def _asked(entry: Entry, have: int) -> http.client.HTTPResponse | None:
    """Opens the connection, asking for what is missing; None where nothing is."""
    _check_address(entry.url)
    headers = {"User-Agent": f"calotype/{__version__}", "Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
    request = urllib.request.Request(entry.url, headers=headers)
    try:
        return urllib.request.build_opener(_SafeRedirects).open(request, timeout=PATIENCE)
    except urllib.error.HTTPError as fault:
        fault.close()
        if fault.code == 416 and fault.headers.get("Content-Range") == f"bytes */{have}":
            return None
        if fault.code >= 500:
            raise _Broken(Message("HTTP {code}", code=fault.code)) from None
        raise CalotypeError(
            "{url} answers {code} {reason}; fetch {file} in another way and: {remedy}",
            remedy=Remedy("add_model", entry.name),
            url=entry.url,
            code=fault.code,
            reason=fault.reason,
            file=entry.file,
        ) from None
    except urllib.error.URLError as fault:
        raise _Broken(fault.reason) from None
    except (OSError, http.client.HTTPException) as fault:
        raise _Broken(fault) from None


def _chunks(answer: http.client.HTTPResponse) -> Iterator[bytes]:
    while True:
        try:
            chunk = answer.read(CHUNK)
        except http.client.IncompleteRead as fault:
            chunk = fault.partial
        except (OSError, http.client.HTTPException) as fault:
            raise _Broken(fault) from None
        if not chunk:
            return
        yield chunk


def _range(answer: http.client.HTTPResponse, have: int) -> tuple[int, int]:
    """Where the answer starts in the file, and how long the whole is (0: not told)."""
    if answer.status == 206:
        told = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", answer.headers.get("Content-Range", ""))
        if told and int(told[1]) == have:
            return have, int(told[2])
        raise _Broken(Message("the server sent another part than was asked for"))
    return 0, int(answer.headers.get("Content-Length") or 0)


def _check_total(entry: Entry, part: Path, total: int, missing: int) -> None:
    if (entry.size and total != entry.size) or total > LARGEST:
        part.unlink(missing_ok=True)
        raise CalotypeError(
            "{url} offers {total} bytes where {entry} has {size}; nothing was kept",
            url=entry.url,
            total=total,
            entry=entry.name,
            size=entry.size or LARGEST,
        )
    free = shutil.disk_usage(part.parent).free
    if free < missing:
        raise CalotypeError(
            "{folder} has {free} bytes left and {entry} needs {missing}; make room",
            folder=part.parent,
            free=free,
            entry=entry.name,
            missing=missing,
        )


def _checked(entry: Entry, part: Path, shelf: ModelStore) -> Iterator[Note]:
    """Compares size and sha256; a wrong file is deleted."""
    expected, found = entry.sha256 or shelf.seen(entry), digest(part)
    if entry.size and (size := _size(part)) != entry.size:
        part.unlink()
        raise CalotypeError(
            "{url} did not send {entry}: it has {size} bytes where {expected} belong; nothing was kept",
            url=entry.url,
            entry=entry.name,
            size=size,
            expected=entry.size,
        )
    if not expected:
        shelf.saw(entry, found)
        yield note(
            "{entry}: no sha256 is known to compare with; found and kept for later: {found}",
            entry=entry.name,
            found=found,
        )
        return
    if found == expected:
        return
    part.unlink()
    raise CalotypeError(
        "{url} did not send {entry}: sha256 should be {expected} and is {found}; nothing was kept",
        url=entry.url,
        entry=entry.name,
        expected=expected,
        found=found,
    )


class _SafeRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, request, answer, code, message, headers, url):
        _check_address(url)
        return super().redirect_request(request, answer, code, message, headers, url)


def _check_address(url: str) -> None:
    address = urllib.parse.urlsplit(url)
    if address.scheme != "https" and not (address.scheme == "http" and address.hostname in SAFE_HOSTS):
        raise CalotypeError("{url} is no https address, so nothing is fetched from there", url=url)


def _size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0
