"""Whole files or none, one run at a time, interrupts, text: what every door leans on when a disk or a process fails."""

import contextlib
import errno
import os
import random
import shutil
import signal
import stat
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from calotype import files
from calotype.errors import CalotypeError, Message
from calotype.files import (
    atomic_file,
    atomic_folder,
    atomic_path,
    check_folder,
    make_folder,
    read_text,
    readable,
    run_lock,
    sync_path,
    terminable,
    uninterrupted,
    write_atomic,
)

posix = pytest.mark.skipif(sys.platform == "win32", reason="signals, limits and rights of POSIX")


@pytest.fixture
def start():
    """Starts Python on a script and waits for its first line; what still runs at the end is killed."""
    running = []

    def start(script: str) -> subprocess.Popen:
        process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(script)], stdout=subprocess.PIPE, text=True)
        running.append(process)
        process.stdout.readline()
        return process

    yield start
    for process in running:
        process.kill()
        process.wait()
        process.stdout.close()


def run(script: str) -> str:
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# Whole files


@pytest.mark.parametrize("fault", [KeyboardInterrupt, RuntimeError, GeneratorExit])
def test_what_fails_leaves_the_old_file_and_nothing_else(tmp_path, fault):
    path = tmp_path / "字.json"
    path.write_bytes(b"old")
    with pytest.raises(fault), atomic_file(path) as file:
        file.write(b"half" * 100_000)
        raise fault
    with pytest.raises(fault), atomic_path(path) as part:
        part.write_bytes(b"half")
        raise fault
    assert path.read_bytes() == b"old" and names(tmp_path) == ["字.json"]
    write_atomic(path, b"new")
    assert path.read_bytes() == b"new" and names(tmp_path) == ["字.json"]


@pytest.mark.parametrize("has_links", [True, False], ids=["links", "FAT"])
def test_a_new_file_replaces_none(tmp_path, monkeypatch, has_links):
    def refuse(*_):
        raise OSError(errno.EPERM, "Operation not permitted")

    if not has_links:
        monkeypatch.setattr(os, "link", refuse)
    with atomic_file(tmp_path / "a", is_new=True) as file:
        file.write(b"first")
    with pytest.raises(FileExistsError), atomic_file(tmp_path / "a", is_new=True):
        pytest.fail("it is known before the work")
    with pytest.raises(FileExistsError), atomic_file(tmp_path / "b", is_new=True) as file:
        (tmp_path / "b").write_bytes(b"of another program")
    assert (tmp_path / "a").read_bytes() == b"first" and (tmp_path / "b").read_bytes() == b"of another program"
    if not has_links:
        monkeypatch.setattr(os, "replace", refuse)
        with pytest.raises(CalotypeError, match="closed to you"), atomic_file(tmp_path / "c", is_new=True):
            pass
    assert names(tmp_path) == ["a", "b"]


@posix
def test_a_file_of_a_killed_process_is_a_whole_one(tmp_path, start):
    path, rng = tmp_path / "a", random.Random(1)
    for _ in range(6):
        process = start(f"""
            from pathlib import Path
            from calotype.files import write_atomic
            print(flush=True)
            for n in range(10 ** 9):
                write_atomic(Path({str(path)!r}), bytes([n % 251]) * 300_000)
        """)
        time.sleep(rng.uniform(0, 0.2))
        process.kill()
        process.wait()
        if path.exists():
            data = path.read_bytes()
            assert len(data) == 300_000 and len(set(data)) == 1
    assert path.exists()


@posix
@pytest.mark.parametrize("kind", ["atomic_file", "atomic_path", "atomic_folder"])
def test_what_a_killed_process_left_is_deleted_after_a_day(tmp_path, start, kind):
    process = start(f"""
        import time
        from pathlib import Path
        from calotype.files import {kind}
        with {kind}(Path({str(tmp_path / "a")!r})) as part:
            if isinstance(part, Path) and part.is_dir():
                (part / "half").write_text("half")
            print(flush=True)
            time.sleep(60)
    """)

    def write() -> list[str]:
        run(f"""
            from pathlib import Path
            from calotype.files import write_atomic
            write_atomic(Path({str(tmp_path / "b")!r}), b"")
        """)
        return names(tmp_path)

    (part,) = tmp_path.iterdir()
    assert files.TEMPORARY_NAME.fullmatch(part.name)
    long_ago = time.time() - files.LEFTOVER_AGE - 60
    os.utime(part, (long_ago, long_ago))
    assert write() == [part.name, "b"], "its process is at work on it"
    process.kill()
    process.wait()
    os.utime(part)
    assert write() == [part.name, "b"], "too young"
    os.utime(part, (long_ago, long_ago))
    for name in (".calotype-mine.part", ".calotype-0123456789ab.part.txt", "0123456789ab.part"):
        (tmp_path / name).write_text("mine")
        os.utime(tmp_path / name, (long_ago, long_ago))
    (tmp_path / ".calotype-0123456789ab.part").symlink_to(tmp_path / "b")
    os.utime(tmp_path / ".calotype-0123456789ab.part", (long_ago, long_ago), follow_symlinks=False)
    assert part.name not in write() and len(names(tmp_path)) == 5


@posix
@pytest.mark.parametrize("kind", ["atomic_file", "atomic_path", "atomic_folder"])
def test_a_full_disk_is_a_sentence_and_leaves_nothing(tmp_path, kind):
    told = run(f"""
        import resource
        from pathlib import Path
        from calotype.errors import CalotypeError
        from calotype.files import {kind}
        resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))
        try:
            with {kind}(Path({str(tmp_path / "a")!r}), option="out") as part:
                if isinstance(part, Path):
                    part = part / "b" if part.is_dir() else part
                    part.write_bytes(bytes(9000))
                else:
                    part.write(bytes(9000))
        except CalotypeError as fault:
            print(fault.option, fault)
    """)
    assert told == f"out {tmp_path / 'a'} cannot be written: File too large; give another out"
    assert names(tmp_path) == []


def failing(number: int):
    def fail(*_, **__):
        raise OSError(number, os.strerror(number))

    return fail


@pytest.mark.parametrize("kind", [atomic_file, atomic_path, atomic_folder])
def test_a_disk_that_is_full_at_the_last_moment_keeps_the_old_file(tmp_path, monkeypatch, kind):
    if kind is not atomic_folder:
        (tmp_path / "a").write_bytes(b"old")
    before = names(tmp_path)
    monkeypatch.setattr(os, "fsync", failing(errno.ENOSPC))
    with pytest.raises(CalotypeError, match=r"the disk is full|No space left"), kind(tmp_path / "a") as part:
        if kind is atomic_folder:
            (part / "b").write_bytes(b"new")
    assert names(tmp_path) == before and all((tmp_path / name).read_bytes() == b"old" for name in before)


@posix
def test_a_file_and_a_folder_are_synced(tmp_path, monkeypatch):
    (tmp_path / "a").write_bytes(b"new")
    synced = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(os.fstat(descriptor).st_ino))
    for path in (tmp_path / "a", tmp_path):
        sync_path(path)
    assert synced == [(tmp_path / "a").stat().st_ino, tmp_path.stat().st_ino]


@posix
@pytest.mark.parametrize("kind", [atomic_file, atomic_path, atomic_folder])
def test_file_systems_that_lack_calls_are_written_to(tmp_path, monkeypatch, kind):
    monkeypatch.setattr(os, "fsync", failing(errno.EINVAL))
    monkeypatch.setattr(os, "chmod", failing(errno.EPERM))
    monkeypatch.setattr("fcntl.flock", failing(errno.ENOSYS))
    with kind(tmp_path / "a") as part:
        if kind is atomic_path:  # as libraries do that write beside it
            (tmp_path / "new").write_bytes(b"new")
            (tmp_path / "new").touch(0o600)
            os.replace(tmp_path / "new", part)
    assert names(tmp_path) == ["a"]


@posix
def test_others_may_read_what_the_umask_says(tmp_path):
    before = os.umask(0o027)
    try:
        write_atomic(tmp_path / "a", b"")
        with atomic_path(tmp_path / "b") as part:
            os.close(os.open(tmp_path / "own", os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
            os.replace(tmp_path / "own", part)
        with atomic_folder(tmp_path / "c"):
            pass
    finally:
        os.umask(before)
    assert [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in "abc"] == [0o640, 0o640, 0o750]


@pytest.mark.parametrize(
    ("number", "sentence"),
    [
        (errno.ENOSPC, "the disk is full; make room or choose another folder"),
        (
            errno.EFBIG,
            "it is larger than `ulimit -f` or the file system of folder {folder} allows; "
            "raise the limit or choose another folder",
        ),
        (errno.EROFS, "folder {folder} is closed to you; choose another one"),
        (errno.EIO, "{reason}; choose another name or folder"),
    ],
)
def test_each_cause_has_its_sentence(tmp_path, number, sentence):
    reason = os.strerror(number)
    usual = sentence.format(folder=tmp_path, reason=reason)
    for option, end in (("", usual), ("home", f"{reason}; give another home")):
        with pytest.raises(CalotypeError) as told, atomic_file(tmp_path / "a", option=option):
            raise OSError(number, reason)
        assert str(told.value) == f"{tmp_path / 'a'} cannot be written: {end}" and told.value.option == option
    assert names(tmp_path) == []


def test_an_encoders_fault_stays_what_it_is(tmp_path):
    with pytest.raises(OSError, match="encoder error"), atomic_file(tmp_path / "a"):
        raise OSError("encoder error -2")
    with pytest.raises(CalotypeError, match="is a folder; give the name of a file"):
        write_atomic(tmp_path, b"")
    with pytest.raises(CalotypeError, match=r"there is no folder .*none; make it first"):
        write_atomic(tmp_path / "none" / "a", b"")
    assert names(tmp_path) == []


@pytest.mark.parametrize("fault", [KeyboardInterrupt, RuntimeError, None])
def test_a_folder_appears_whole_or_not_at_all(tmp_path, fault):
    with contextlib.suppress(KeyboardInterrupt, RuntimeError), atomic_folder(tmp_path / "模型") as part:
        (part / "unet").mkdir()
        (part / "unet" / "weights").write_bytes(b"weights")
        assert not (tmp_path / "模型").exists()
        if fault:
            raise fault
    assert names(tmp_path) == ([] if fault else ["模型"])
    if not fault:
        assert (tmp_path / "模型" / "unet" / "weights").read_bytes() == b"weights"
        with pytest.raises(CalotypeError, match="is there already, and folders are never written over; give another"):
            atomic_folder(tmp_path / "模型").__enter__()


def test_a_folder_that_came_meanwhile_is_not_written_over(tmp_path):
    with pytest.raises(CalotypeError, match="cannot be written"), atomic_folder(tmp_path / "a") as part:
        (part / "mine").write_bytes(b"")
        (tmp_path / "a").mkdir()
        (tmp_path / "a" / "theirs").write_bytes(b"")
    assert names(tmp_path) == ["a"] and names(tmp_path / "a") == ["theirs"]


# Folders


def test_where_nothing_can_be_written_is_known_before(tmp_path):
    check_folder(tmp_path / "a" / "b")
    assert names(tmp_path) == []
    (tmp_path / "file").write_bytes(b"")
    for folder in (tmp_path / "file", tmp_path / "file" / "a" / "b"):
        with pytest.raises(CalotypeError, match=r"file is a file, not a folder; give another output_dir") as told:
            check_folder(folder)
        assert told.value.option == "output_dir"
    with pytest.raises(CalotypeError, match=r"cannot be made .*; give another out$") as told:
        check_folder(tmp_path / ("x" * 1000), "out")
    assert told.value.option == "out"


def test_a_folder_that_cannot_be_made_is_a_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    for folder, why in ((tmp_path / "file", "is a file, not a folder"), (tmp_path / "file" / "out", "cannot be made")):
        with pytest.raises(CalotypeError, match=f"{why}.*; give another out$"):
            make_folder(folder, "out")
    make_folder(tmp_path / "a" / "b")
    make_folder(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()


def test_a_drive_that_is_not_there_is_a_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr(os.path, "exists", lambda path: False)
    with pytest.raises(CalotypeError, match="cannot be made, for no folder above it is there; give another output_dir"):
        check_folder(tmp_path / "a")


@pytest.mark.parametrize("check", [check_folder, make_folder])
def test_a_folder_that_is_closed_is_known_before(tmp_path, monkeypatch, check):
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write anywhere
    with pytest.raises(CalotypeError, match="cannot be written to; give another output_dir"):
        check(tmp_path)


# Locks


def test_a_name_is_one_runs_at_a_time(tmp_path):
    folder = tmp_path / "新 out"
    with run_lock(folder, "a.v2"), run_lock(folder, "b"):
        with (
            pytest.raises(
                CalotypeError, match=r"another run is at work on .*新 out.a\.v2; wait for it, or give another"
            ),
            run_lock(folder, "a.v2"),
        ):
            pytest.fail("held twice")
        assert names(folder) == ["a.v2.running", "b.running"]
    assert names(folder) == []


@pytest.mark.parametrize("fault", [KeyboardInterrupt, GeneratorExit, RuntimeError])
def test_a_run_that_fails_gives_its_name_back(tmp_path, fault):
    with pytest.raises(fault), run_lock(tmp_path, "a"):
        raise fault
    assert names(tmp_path) == []
    with run_lock(tmp_path, "a"):
        pass


def test_a_generator_may_be_closed_in_another_thread(tmp_path):
    def steps():
        with run_lock(tmp_path, "a"):
            yield

    running = steps()
    next(running)
    closing = threading.Thread(target=running.close)
    closing.start()
    closing.join()
    with run_lock(tmp_path, "a"):
        pass
    assert names(tmp_path) == []


HOLDS = """
    import os, time
    from pathlib import Path
    from calotype.files import run_lock
    with run_lock(Path({folder!r}), "a"):
        {within}
        print(flush=True)
        time.sleep(60)
"""


@posix
def test_a_run_that_is_killed_frees_its_name(tmp_path, start):
    process = start(HOLDS.format(folder=str(tmp_path), within=""))
    with pytest.raises(CalotypeError, match="another run is at work"), run_lock(tmp_path, "a"):
        pytest.fail("held twice")
    process.kill()
    process.wait()
    assert names(tmp_path) == ["a.running"]
    with run_lock(tmp_path, "a"):
        pass
    assert names(tmp_path) == []


@posix
def test_a_child_of_a_killed_run_holds_no_name(tmp_path, start):
    child = """child = os.fork()
        if not child: time.sleep(60); os._exit(0)
        Path('child').write_text(str(child))"""
    process = start(f"    import os; os.chdir({str(tmp_path)!r})" + HOLDS.format(folder=str(tmp_path), within=child))
    process.kill()
    process.wait()
    try:
        with run_lock(tmp_path, "a"):
            pass
    finally:
        os.kill(int((tmp_path / "child").read_text()), signal.SIGKILL)


RACE = """
    import os, sys, time
    from pathlib import Path
    from calotype.errors import CalotypeError
    from calotype.files import run_lock
    folder, ends, count = Path({folder!r}), time.monotonic() + {seconds}, 0
    print(flush=True)
    while time.monotonic() < ends:
        try:
            with run_lock(folder, "a"):
                os.close(os.open(folder / "alone", os.O_CREAT | os.O_EXCL))  # FileExistsError: two hold the name
                count += 1
                time.sleep(0.0003 * (count % 3))
                os.unlink(folder / "alone")
        except CalotypeError:
            pass
    print(count)
"""


def test_of_many_processes_one_holds_a_name(tmp_path, start):
    running = [start(RACE.format(folder=str(tmp_path), seconds=1.5)) for _ in range(5)]
    counts = [int(process.communicate()[0]) for process in running]
    assert [process.returncode for process in running] == [0] * 5
    assert sum(counts) > 20 and sum(count > 0 for count in counts) > 1
    assert names(tmp_path) == []


def test_of_many_threads_one_holds_a_name(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "LOCK_TIMEOUT", 0)
    inside, most, counts = [], [], []

    def work() -> None:
        for _ in range(40):
            with contextlib.suppress(CalotypeError), run_lock(tmp_path, "a"):
                inside.append(1)
                most.append(len(inside))
                time.sleep(0.001)
                inside.pop()
                counts.append(1)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(most) == {1} and len(counts) > 5 and names(tmp_path) == []


@pytest.mark.parametrize(
    "text",
    ["", "999999999 1.0", f"{os.getpid()} 1.0 0123456789ab"],
    ids=["empty", "of one that ended", "of one that runs"],
)
def test_the_file_of_an_older_version_is_in_nobodys_way(tmp_path, text):
    (tmp_path / "a.running").write_text(text, "utf-8")
    with run_lock(tmp_path, "a"):
        pass
    assert names(tmp_path) == []


@posix
def test_a_place_that_cannot_be_locked_is_a_sentence(tmp_path, monkeypatch):
    (tmp_path / "a.running").mkdir()
    with pytest.raises(CalotypeError, match=r"a\.running is a folder, .*; give another output_name"):
        run_lock(tmp_path, "a").__enter__()
    assert names(tmp_path) == ["a.running"]
    (tmp_path / "file").write_text("")
    with pytest.raises(CalotypeError, match="is a file, not a folder; give another output_dir"):
        run_lock(tmp_path / "file", "a").__enter__()
    monkeypatch.setattr("fcntl.flock", failing(errno.ENOSYS))
    with pytest.raises(CalotypeError, match=r"c\.running cannot be locked \(.*\); give another output_dir"):
        run_lock(tmp_path, "c").__enter__()


@posix
def test_a_link_to_another_file_is_not_followed(tmp_path):
    (tmp_path / "mine").write_text("mine")
    (tmp_path / "a.running").symlink_to(tmp_path / "mine")
    with pytest.raises(CalotypeError, match="cannot be locked"):
        run_lock(tmp_path, "a").__enter__()
    assert (tmp_path / "mine").read_text() == "mine"


def test_a_folder_that_vanishes_ends_a_run_quietly(tmp_path):
    with run_lock(tmp_path / "out", "a"):
        shutil.rmtree(tmp_path / "out")
    assert names(tmp_path) == []


# Interrupts


@posix
def test_an_interrupt_comes_behind_what_is_done_to_its_end():
    done = []
    with pytest.raises(KeyboardInterrupt), uninterrupted():
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.01)
        done.append(1)
    assert done and signal.getsignal(signal.SIGINT) is signal.default_int_handler


@posix
def test_a_second_interrupt_comes_at_once():
    done = []
    with pytest.raises(KeyboardInterrupt), uninterrupted():
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.01)
        done.append(1)
    assert not done and signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_without_an_interrupt_nothing_happens_and_faults_pass():
    with uninterrupted():
        pass
    with pytest.raises(ZeroDivisionError), uninterrupted():
        raise ZeroDivisionError


@posix
def test_sigterm_is_an_interrupt_within_and_waits_where_it_must():
    before, done = signal.getsignal(signal.SIGTERM), []
    with pytest.raises(KeyboardInterrupt), terminable():
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.01)
    with pytest.raises(KeyboardInterrupt), terminable(), uninterrupted():
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.01)
        done.append(1)
    assert done and signal.getsignal(signal.SIGTERM) is before


def test_other_threads_leave_signals_alone():
    def work() -> None:
        with terminable(), uninterrupted():
            done.append(signal.getsignal(signal.SIGTERM) is before)

    before, done = signal.getsignal(signal.SIGTERM), []
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done == [True]


# Text and names


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "gb18030"])
def test_text_is_read_as_editors_write_it(tmp_path, encoding):
    (tmp_path / "提示.txt").write_bytes("一只猫\r\nà la carte".encode(encoding))
    assert read_text(tmp_path / "提示.txt") == "一只猫\r\nà la carte"


def test_what_is_no_text_is_a_sentence(tmp_path):
    for content in (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", b"\xff\xff\xff", b"text\0text", b"\xff\xfea"):
        (tmp_path / "a").write_bytes(content)
        with pytest.raises(CalotypeError, match="is no text in UTF-8, UTF-16 or GBK; save it as UTF-8"):
            read_text(tmp_path / "a")
    for path in (tmp_path, tmp_path / "none", tmp_path / ("x" * 300)):
        with pytest.raises(CalotypeError, match=r"cannot be read: [A-Z]"):
            read_text(path)
    (tmp_path / "a").write_bytes(b"12345")
    assert read_text(tmp_path / "a", 5) == "12345"
    with pytest.raises(CalotypeError, match=r"a is too large for a list of prompts \(more than 4 bytes\)"):
        read_text(tmp_path / "a", 4, Message("a list of prompts"))


@given(st.text())
def test_a_readable_name_harms_no_terminal(name):
    shown = readable(name)
    assert not any(ord(char) < 32 or 0x7F <= ord(char) < 0xA0 or 0x202A <= ord(char) <= 0x202E for char in shown)
    assert readable(shown) == shown


# Links to folders


@pytest.fixture
def linked(tmp_path):
    """A folder with links: to another folder, to one in itself, to itself and its parent, and a broken one."""
    for name in ("root/a/1.txt", "root/b/2.txt", "far/3.txt", "far/deep/4.txt", "beside/5.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    root = tmp_path / "root"
    for name, target in {
        "a/far": tmp_path / "far",
        "c": tmp_path / "far",
        "a/again": root / "b",
        "self": root,
        "up": tmp_path,
        "none": tmp_path / "nowhere",
    }.items():
        (root / name).symlink_to(target, target_is_directory=True)
    (tmp_path / "far/back").symlink_to(root, target_is_directory=True)
    (tmp_path / "far/ring").symlink_to(tmp_path / "far", target_is_directory=True)
    return root


@posix
def test_links_to_folders_are_followed_once_and_loops_are_not(linked):
    found = sorted(path.relative_to(linked).as_posix() for path in files.files_below(linked))
    assert found == ["a/1.txt", "b/2.txt", "c/3.txt", "c/deep/4.txt"]


@posix
def test_a_folder_given_by_a_link_is_read(linked, tmp_path):
    (tmp_path / "link").symlink_to(linked)
    assert len(list(files.files_below(tmp_path / "link"))) == 4


@posix
def test_folders_that_are_not_entered_are_left_out_with_their_links(linked):
    found = [folder.name for folder, _ in files.walk(linked, lambda folder: folder.name not in ("a", "c"))]
    assert found == ["root", "b"]
