"""Functions in a second process: what they return, what happens when they crash, and that nothing stays behind."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from calotype import out_of_process
from calotype.errors import CalotypeError, Message, PictureError
from calotype.out_of_process import ProcessEnded, RemoteError, call
from calotype.picture import Metadata
from tests import crashing

posix = pytest.mark.skipif(os.name != "posix", reason="signals and limits of POSIX")


def test_every_kind_of_value_returns_unchanged():
    metadata = Metadata(b"profile\0", None, b"", (72.0, 300.5), {"parameters": "a\udc80 cat"})
    sent = (None, True, 7, 1.5, float("inf"), "text", b"\0\xff", Path("a/b.png"), ("x", (1, 2)), {"a": {"b": 1}})
    sent += (Message("{count} files", count=3), metadata)
    assert call(crashing.returned, *sent, seconds=30) == sent


@pytest.mark.parametrize("shape", [(3, 4, 3), (2, 5), (0, 4), (1, 1, 1)])
@pytest.mark.parametrize("kind", ["uint8", "uint16", ">u2", "bool"])
def test_arrays_return_unchanged_and_writable(shape, kind):
    pixels = np.random.default_rng(0).integers(0, 2, shape).astype(kind)
    (array,) = call(crashing.returned, pixels[::-1], seconds=30)
    assert array.dtype == pixels.dtype and np.array_equal(array, pixels[::-1])
    assert array.flags.c_contiguous and array.flags.writeable


@pytest.mark.many(plain=1)
@posix
@pytest.mark.parametrize("function, status", [("abort", -6), ("read_address_zero", -11), ("leave", 3)])
def test_a_crash_ends_one_call(function, status):
    with pytest.raises(ProcessEnded) as fault:
        call(getattr(crashing, function), seconds=30)
    assert fault.value.status == status and not fault.value.timed_out
    assert call(crashing.returned, 1, seconds=30) == (1,)


@pytest.mark.many(plain=1)
@pytest.mark.parametrize("function", ["loop", pytest.param("sleep_in_c", marks=posix)])
def test_endless_work_is_ended(function):
    call(crashing.returned, seconds=30)  # it is started
    started = time.monotonic()
    with pytest.raises(ProcessEnded) as fault:
        call(getattr(crashing, function), seconds=0.3)
    assert fault.value.timed_out and 0.3 <= time.monotonic() - started < 2
    assert call(crashing.returned, 1, seconds=30) == (1,)


def test_exceptions_are_raised_here():
    with pytest.raises(PictureError, match=r"^a\.png is 2 pictures$") as fault:
        call(crashing.refuse, seconds=30)
    assert fault.value.option == "pages"
    with pytest.raises(RemoteError, match="KeyError: 'missing'") as bug:
        call(crashing.fail, seconds=30)
    assert "crashing.py" in str(bug.value.__cause__)
    with pytest.raises(RemoteError, match="object cannot be sent"):
        call(crashing.unsendable, seconds=30)


@posix
def test_memory_and_core_dumps_are_limited():
    core, memory = call(crashing.limits, seconds=30, memory=8 << 30)
    assert core == (0, 0) and memory[0] == 8 << 30
    with pytest.raises(MemoryError):
        call(crashing.allocate, 2 << 30, seconds=30, memory=1 << 30)
    assert call(crashing.allocate, 1 << 20, seconds=30) == 1 << 20


def test_libraries_print_nothing_and_read_nothing(capfd):
    assert call(crashing.print_everywhere, seconds=30) == ""
    assert capfd.readouterr() == ("", "")


def test_calls_follow_the_current_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert call(os.getcwd, seconds=30) == os.path.realpath(tmp_path)


def test_threads_have_their_own_processes():
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(2) as threads:
        slow = threads.submit(call, time.sleep, 0.5, seconds=30)
        quick = threads.submit(call, crashing.returned, 2, seconds=30)
        assert quick.result() == (2,) and slow.result() is None


def test_a_process_that_cannot_start_is_an_error_with_its_reason(monkeypatch):
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    pool = out_of_process._Pool()
    with pytest.raises(CalotypeError, match="cannot be started"):
        pool.call([], 5)
    monkeypatch.undo()
    monkeypatch.setattr(out_of_process, "_START", "import no_such_module_of_ours")
    with pytest.raises(CalotypeError, match="No module named 'no_such_module_of_ours'"):
        pool.call([], 5)


_PROGRAM = """
import os, threading, time
from calotype import out_of_process
print(out_of_process.call(os.getpid, seconds=30), flush=True)
{work}
"""  # without `if __name__ == "__main__"`
_IDLE, _BUSY = "time.sleep(60)", "out_of_process.call(time.sleep, 60, seconds=90)"
_LEAVE = "threading.Timer(0.3, os._exit, [0]).start(); " + _BUSY


@pytest.mark.many(plain=2)
@posix
@pytest.mark.parametrize(
    "end, work", [(signal.SIGKILL, _BUSY), (signal.SIGTERM, _IDLE), (signal.SIGINT, _BUSY), (None, _LEAVE), (None, "")]
)
def test_nothing_stays_behind(end, work):
    program = _PROGRAM.format(work=work)
    root = Path(__file__).parents[1]
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=root
    ) as parent:
        child = int(parent.stdout.readline())
        if end is not None:
            time.sleep(0.2)
            parent.send_signal(end)
        parent.wait(10)
    with contextlib.suppress(psutil.NoSuchProcess):  # it may have ended before it is looked for
        psutil.Process(child).wait(3)
