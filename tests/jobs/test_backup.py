"""A copy of the queue and its files, made while jobs come and go, and put back."""

import hashlib
import io
import tarfile
import threading

import pytest

pytest.importorskip("sqlalchemy", reason="the extra serve is not installed")

from calotype.cli import main
from calotype.errors import CalotypeError
from calotype.jobs import backup as backups
from calotype.jobs.backup import back_up, restore
from calotype.jobs.jobs import NewResult
from calotype.jobs.store import JobStore
from calotype.jobs.users import Accounts


@pytest.fixture
def store(tmp_path):
    opened = JobStore("", tmp_path / "home" / "service")
    yield opened
    opened.close()


def put(store, content):
    """A new job with an upload of this content."""
    upload = store.upload("ann", io.BytesIO(content))
    return store.submit("ann", "upscale", {"content": content.decode()}, files={"source": f"{upload.id}/a.png"})


def work(store, worker="w"):
    """Does the next job: its result is the content twice."""
    claim = store.claim(worker)
    path = store.files.work(claim.job.id) / "a.png"
    path.parent.mkdir(parents=True)
    path.write_bytes(claim.job.task["content"].encode() * 2)
    return store.finish(claim, [NewResult(path, "a.png", "image/png")], 1.0)


def opened(folder):
    return JobStore("", folder)


def check(store):
    """Every job has its files. Returns the numbers of jobs by their state."""
    for job in store.find(limit=1000):
        content = job.task["content"].encode()
        upload = job.files["source"].partition("/")[0]
        assert store.files.upload(upload).read_bytes() == content
        assert [store.files.result(result.id).read_bytes() for result in job.results] == [content * 2] * (
            job.state == "done"
        )
    return store.counts()


def test_a_backup_has_everything_and_running_jobs_begin_anew(store, tmp_path):
    accounts = Accounts(store.database)
    accounts.add("ann")
    token = accounts.add_token("ann")
    for number in range(4):
        put(store, b"photo %d" % number)
    done, _ = work(store), store.claim("gone", lease=-1.0)
    assert back_up(store, tmp_path / "b.tar") == 5
    work(store)
    put(store, b"later")
    before = {path: path.read_bytes() for path in (tmp_path / "b.tar", store.files.result(done.results[0].id))}

    assert restore(tmp_path / "b.tar", tmp_path / "new" / "service") == 5
    copy = opened(tmp_path / "new" / "service")
    assert check(copy) == {"done": 1, "running": 1, "queued": 2}
    assert copy.get(done.id) == done and copy.spent("ann") == 1.0
    assert Accounts(copy.database).verify(token).name == "ann"
    copy.sweep()
    while copy.counts().get("queued"):
        work(copy)
    assert check(copy) == {"done": 4}
    copy.close()
    assert all(path.read_bytes() == content for path, content in before.items())  # nothing was moved
    assert not list(store.folder.glob("backup-*"))


def test_backups_are_whole_while_jobs_come_and_go(store, tmp_path):
    stopping = threading.Event()

    def serve():
        number = 0
        while not stopping.is_set():
            put(store, b"photo %d" % number)
            job = work(store)
            if number % 2:
                store.delete(job.id)
            number += 1

    serving = threading.Thread(target=serve)
    serving.start()
    try:
        for number in range(3):
            back_up(store, tmp_path / f"{number}.tar")
    finally:
        stopping.set()
        serving.join()
    for number in range(3):
        restore(tmp_path / f"{number}.tar", tmp_path / str(number))
        copy = opened(tmp_path / str(number))
        check(copy)
        copy.close()


def test_a_job_deleted_during_the_backup_is_not_in_it(store, tmp_path, monkeypatch):
    put(store, b"kept")
    put(store, b"deleted")
    kept, deleted = work(store), work(store)
    link = backups._link

    def linked(source, target):
        store.delete(deleted.id) if store.counts() == {"done": 2} else None
        link(source, target)

    monkeypatch.setattr(backups, "_link", linked)
    back_up(store, tmp_path / "b.tar")
    restore(tmp_path / "b.tar", tmp_path / "new")
    copy = opened(tmp_path / "new")
    assert [job.id for job in copy.find()] == [kept.id] and check(copy) == {"done": 1}
    copy.close()


def test_damaged_files_are_named_and_left_out(store, tmp_path, capsys):
    for content in (b"whole", b"changed", b"missing", b"folder"):
        put(store, content)
    jobs = {job.task["content"]: job for job in [work(store) for _ in range(4)]}
    files = {name: store.files.result(job.results[0].id) for name, job in jobs.items()}
    files["changed"].write_bytes(b"x" * len(b"changed" * 2))
    files["missing"].unlink()
    files["folder"].unlink(), files["folder"].mkdir()
    upload = store.files.upload(hashlib.sha256(b"changed").hexdigest())
    upload.write_bytes(b"")
    assert main(["serve", "--home", str(tmp_path / "home"), "--backup", str(tmp_path / "b.tar")]) == 1
    out, errors = capsys.readouterr()
    assert "4 files and the queue" in out, "the other three uploads, and one result"
    lines = sorted(errors.splitlines())
    assert len(lines) == 4 and all(line.endswith(", so it is not in the backup") for line in lines)
    for name, reason in (("changed", "has changed on"), ("missing", "is missing on"), ("folder", "cannot be read (")):
        assert any(f"the result a.png of job {jobs[name].id} {reason}" in line for line in lines)
    assert any(f"the upload {upload.name} has changed on the disk" in line for line in lines)
    restore(tmp_path / "b.tar", tmp_path / "new")
    copy = opened(tmp_path / "new")
    assert {job.task["content"]: len(job.results) for job in copy.find()} == dict.fromkeys(jobs, 0) | {"whole": 1}
    assert store.files.result(store.get(jobs["whole"].id).results[0].id).read_bytes() == b"wholewhole"
    copy.close()


def changed(path, change):
    """The archive with members changed: a function of name and content gives their new name and content, or None."""
    target = path.with_name("changed.tar")
    with tarfile.open(path) as source, tarfile.open(target, "w") as archive:
        for member in source:
            if (new := change(member.name, source.extractfile(member).read())) is not None:
                info = tarfile.TarInfo(new[0])
                info.size = len(new[1])
                archive.addfile(info, io.BytesIO(new[1]))
    return target


@pytest.mark.parametrize("change, words", [
    (lambda name, content: (name, content + b"x") if "results" in name else (name, content), "results has changed"),
    (lambda name, content: (name, b"x") if "uploads" in name else (name, content), "uploads has changed"),
    (lambda name, content: None if "results" in name else (name, content), "results is missing"),
    (lambda name, content: None if "sqlite" in name else (name, content), "the queue is missing"),
    (lambda name, content: (f"../{name}", content), "does not belong there"),
    (lambda name, content: (f"/tmp/{name}", content), "does not belong there"),
    (lambda name, content: (name, b"no database") if "sqlite" in name else (name, content), "damaged|not valid"),
])  # fmt: skip
def test_a_backup_that_is_not_whole_is_refused_and_nothing_is_written(store, tmp_path, change, words):
    put(store, b"photo")
    work(store)
    back_up(store, tmp_path / "b.tar")
    with pytest.raises(CalotypeError, match=words):
        restore(changed(tmp_path / "b.tar", change), tmp_path / "new")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("content", [b"", b"no tar", None])
def test_a_file_that_is_no_backup_is_refused(tmp_path, content):
    if content is not None:
        (tmp_path / "b.tar").write_bytes(content)
    with pytest.raises(CalotypeError, match=r"no whole backup|cannot be read"):
        restore(tmp_path / "b.tar", tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_the_command_makes_a_backup_and_puts_it_back(store, tmp_path, capsys):
    put(store, b"photo")
    digest = hashlib.sha256(b"photo").hexdigest()
    home, new, tar = str(tmp_path / "home"), str(tmp_path / "new"), str(tmp_path / "b.tar")
    assert main(["serve", "--home", home, "--backup", tar]) == 0
    assert main(["serve", "--home", home, "--backup", tar]) == 2  # never over another file
    assert main(["serve", "--home", home, "--restore", tar]) == 2  # nor over a queue
    assert "there is a queue in" in capsys.readouterr().err
    assert main(["serve", "--home", new, "--restore", tar]) == 0
    assert (tmp_path / "new" / "service" / "uploads" / digest[:2] / digest).read_bytes() == b"photo"
    assert main(["serve", "--home", new, "--restore", tar, "--backup", tar]) == 2
