"""Fetching from a server on this machine that misbehaves in the ways that servers do."""

import contextlib
import dataclasses
import hashlib
import http.server
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pytest

from calotype.checkpoints.download import pull
from calotype.checkpoints.store import CATALOG, Entry, ModelStore
from calotype.cli import main
from calotype.cli.wording import WORDING
from calotype.errors import CalotypeError, Remedy
from calotype.settings import Settings
from calotype.tasks import Note, Progress

DATA = np.random.default_rng(0).bytes(3_000_000)
SHA256 = hashlib.sha256(DATA).hexdigest()


@dataclass
class Server:
    """What the server is to do, and what it was asked."""

    data: bytes = DATA
    breaks_after: list[int] = field(default_factory=list)  # bytes sent before each of the first connections breaks
    ranges: bool = True
    status: int = 200
    moved_to: str = ""
    asked: list[str] = field(default_factory=list)
    address: str = ""


@pytest.fixture
def server() -> Iterator[Server]:
    plan = Server()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked = self.headers.get("Range", "")
            plan.asked.append(asked)
            if plan.moved_to:
                self.send_response(302)
                self.send_header("Location", plan.moved_to)
                self.end_headers()
                return
            if plan.status != 200:
                self.send_error(plan.status)
                return
            start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and plan.ranges else 0
            size = len(plan.data)
            if start >= size:
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{size}")
                self.end_headers()
                return
            self.send_response(206 if start else 200)
            if start:
                self.send_header("Content-Range", f"bytes {start}-{size - 1}/{size}")
            self.send_header("Content-Length", str(size - start))
            self.end_headers()
            least = plan.breaks_after.pop(0) if plan.breaks_after else size
            with contextlib.suppress(ConnectionError):  # the other side may go away
                self.wfile.write(plan.data[start : start + least])

        def log_message(self, *given):
            pass

    listener = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    plan.address = f"http://127.0.0.1:{listener.server_port}/x.pth"
    thread = threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield plan
    listener.shutdown()
    listener.server_close()
    thread.join()


@pytest.fixture
def settings(tmp_path) -> Settings:
    return Settings(home=tmp_path / "home")


def entry(server: Server, **more) -> Entry:
    given = {"licence": "MIT", "file": "x.pth", "url": server.address, "size": len(DATA), "sha256": SHA256}
    return Entry(name="x", kind="upscale", about="", **{**given, **more})


def kept(settings: Settings) -> dict[str, bytes]:
    folder = settings.home / "models"
    return {p.name: p.read_bytes() for p in folder.iterdir()} if folder.exists() else {}


def test_a_whole_file_is_kept_and_progress_told(server, settings):
    told = list(pull(entry(server), settings))
    assert kept(settings) == {"x.pth": DATA}
    assert all(isinstance(step, Progress) for step in told)
    assert (told[0].done, told[-1].done, told[-1].total) == (0, len(DATA), len(DATA))
    assert [step.done for step in told] == sorted(step.done for step in told)


def test_it_goes_on_where_it_broke_off(server, settings):
    server.breaks_after = [1_000_000, 500_000]
    list(pull(entry(server), settings))
    assert kept(settings) == {"x.pth": DATA}
    assert server.asked == ["", "bytes=1000000-", "bytes=1500000-"]


def test_the_next_run_goes_on_where_the_last_one_ended(server, settings):
    for step in pull(entry(server), settings):
        if step.done >= 1_000_000:
            break  # Ctrl-C
    (name, first), *others = kept(settings).items()
    assert name == "x.pth.part" and not others and 0 < len(first) < len(DATA)
    list(pull(entry(server), settings))
    assert kept(settings) == {"x.pth": DATA}
    assert server.asked[-1] == f"bytes={len(first)}-"


def test_a_server_without_ranges_is_read_from_the_start(server, settings):
    server.ranges, server.breaks_after = False, [1_000_000]
    list(pull(entry(server), settings))
    assert kept(settings) == {"x.pth": DATA}


def test_a_server_that_only_breaks_off_is_given_up(server, settings):
    server.breaks_after = [100_000, 0, 0, 0, 0, 0, 0]
    with pytest.raises(CalotypeError, match=r"broke off after 100000 bytes .* resumes it"):
        list(pull(entry(server), settings))
    assert kept(settings) == {"x.pth.part": DATA[:100_000]}


def test_nobody_there_is_said(server, settings):
    nobody = entry(server, url="http://127.0.0.1:9/x.pth")
    with pytest.raises(CalotypeError, match="x broke off after 0 bytes"):
        list(pull(nobody, settings))


@pytest.mark.parametrize("status", [403, 404])
def test_a_refusal_is_said_with_another_way(server, settings, status):
    server.status = status
    with pytest.raises(CalotypeError, match=f"returned {status}.* by other means and: add the file as x") as told:
        list(pull(entry(server), settings))
    assert told.value.remedy == Remedy("add_model", "x")
    assert WORDING.fill(told.value).endswith("by other means and: calotype models add FILE --name x")


def test_another_file_of_the_same_size_leaves_nothing(server, settings):
    server.data = DATA[:-1] + b"?"
    with pytest.raises(CalotypeError) as refused:
        list(pull(entry(server), settings))
    assert SHA256 in str(refused.value) and hashlib.sha256(server.data).hexdigest() in str(refused.value)
    assert kept(settings) == {}


def test_another_size_is_refused_before_it_is_fetched(server, settings):
    server.data = DATA + b"more"
    with pytest.raises(CalotypeError, match=f"offers {len(DATA) + 4} bytes where x has {len(DATA)}"):
        list(pull(entry(server), settings))
    assert kept(settings) == {}


def test_a_part_of_something_else_is_found_out(server, settings):
    part = settings.home / "models" / "x.pth.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(bytes(1000))
    with pytest.raises(CalotypeError, match="nothing was kept"):
        list(pull(entry(server), settings))
    list(pull(entry(server), settings))
    assert kept(settings) == {"x.pth": DATA}


def test_a_part_that_is_too_long_is_begun_again(server, settings):
    part = settings.home / "models" / "x.pth.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(DATA + b"x")
    list(pull(entry(server), settings))
    assert kept(settings) == {"x.pth": DATA}


def test_the_first_sha256_is_kept_to_where_none_is_known(server, settings):
    unknown = entry(server, size=0, sha256="")
    *_, told = pull(unknown, settings)
    assert isinstance(told, Note) and SHA256 in told.text
    (settings.home / "models" / "x.pth").unlink()
    server.data = DATA[::-1]
    with pytest.raises(CalotypeError, match=f"should be {SHA256}"):
        list(pull(unknown, settings))


def test_a_whole_part_of_unknown_size_is_recognised(server, settings):
    part = settings.home / "models" / "x.pth.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(DATA)
    list(pull(entry(server, size=0), settings))
    assert kept(settings) == {"x.pth": DATA}


def test_offline_nothing_is_asked(server, settings):
    offline = dataclasses.replace(settings, offline=True)
    with pytest.raises(CalotypeError, match="offline"):
        list(pull(entry(server), offline))
    assert server.asked == [] and kept(settings) == {}


def test_what_is_at_hand_is_not_fetched(server, settings):
    list(pull(entry(server), settings))
    (told,) = pull(entry(server), settings)
    assert "at hand already" in told.text and len(server.asked) == 1
    with pytest.raises(CalotypeError, match="comes with the program"):
        list(pull(CATALOG["yunet"], settings))


def test_a_licence_that_is_not_commercial_is_said_first(server, settings):
    told = next(iter(pull(entry(server, commercial=False, licence="S-Lab"), settings)))
    assert told.text == "x is under the S-Lab: not for commercial use"
    assert server.asked == []


@pytest.mark.parametrize("address", ["http://example.org/x.pth", "file:///etc/passwd", "ftp://example.org/x"])
def test_only_https_is_asked(server, settings, address):
    with pytest.raises(CalotypeError, match="no https address"):
        list(pull(entry(server, url=address), settings))
    server.moved_to = address
    with pytest.raises(CalotypeError, match=r"no https address|is not allowed"):
        list(pull(entry(server), settings))


def test_a_home_that_cannot_be_written_is_said(server, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CalotypeError, match="cannot be written"):
        list(pull(entry(server), Settings(home=tmp_path / "file")))


def test_what_was_fetched_is_on_the_shelf(server, settings, monkeypatch):
    known = entry(server)
    monkeypatch.setitem(CATALOG, "x", known)
    shelf = ModelStore(settings)
    with pytest.raises(CalotypeError, match="x is not at hand") as told:
        shelf.find("x")
    assert told.value.remedy == Remedy("pull_model", "x")
    list(pull(known, settings))
    assert shelf.find("x").sha256 == SHA256
    assert [verdict.is_good for verdict in shelf.verify("x")] == [True]


@pytest.mark.parametrize("as_json", [False, True])
def test_the_command_fetches_what_has_something_to_say(server, tmp_path, monkeypatch, capsys, as_json):
    """Not for commercial use, no sha256 known: both are said, and the file is kept."""
    spoken = dataclasses.replace(entry(server, licence="CC-BY-NC", sha256=""), commercial=False)
    monkeypatch.setitem(CATALOG, "x", spoken)
    status = main(["models", "pull", "x", "--home", str(tmp_path / "home"), *["--json"] * as_json])
    out, err = capsys.readouterr()
    assert status == 0, err
    words = out if as_json else err
    assert "CC-BY-NC" in words and SHA256 in words
    assert (tmp_path / "home" / "models" / "x.pth").read_bytes() == DATA
    assert not list((tmp_path / "home").rglob("*.part"))
