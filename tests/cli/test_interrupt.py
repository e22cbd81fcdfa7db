"""An interrupt ends the program quietly, also at its start and at its end."""

import io
import signal
import subprocess
import sys

import pytest

from calotype.cli.show import INTERRUPTED, BarReporter, show
from calotype.tasks.events import Finished, Saved, Started

PRELUDE = """
import os, signal, sys
from calotype.__main__ import enter

def interrupt():
    os.kill(os.getpid(), signal.SIGINT)

sys.argv = ["calotype", "--version"]
"""
AT_START = """
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "calotype.cli":
            interrupt()

sys.meta_path.insert(0, Finder())
enter()
"""
AT_END = """
from calotype.cli import streams
flush = streams.flush_streams
streams.flush_streams = lambda: interrupt() or flush()
enter()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there, a signal of one's own ends a process at once")
@pytest.mark.parametrize(("where", "status"), [(AT_START, -signal.SIGINT), (AT_END, 0)], ids=["start", "end"])
def test_an_interrupt_shows_no_traceback(where, status):
    run = subprocess.run([sys.executable, "-c", PRELUDE + where], capture_output=True, text=True, timeout=60)
    assert run.returncode == status and run.stderr == ""
    assert run.stdout.startswith("calotype ") is (status == 0)


def test_an_interrupt_that_is_ignored_stays_ignored():
    """As of what a shell runs in the background."""
    ignored = PRELUDE.replace("from calotype", "signal.signal(signal.SIGINT, signal.SIG_IGN)\nfrom calotype")
    run = subprocess.run([sys.executable, "-c", ignored + AT_START], capture_output=True, text=True, timeout=60)
    assert run.returncode == 0 and run.stdout.startswith("calotype ") and run.stderr == ""


class Terminal(io.StringIO):
    """A terminal at which somebody interrupts the program while the line of a result is written."""

    is_interrupted = False

    def isatty(self):
        return True

    def flush(self):
        if not self.is_interrupted and "1.png -> out/1.png\n" in self.getvalue():
            self.is_interrupted = True
            signal.raise_signal(signal.SIGINT)


def test_an_interrupt_while_a_line_is_written_prints_it_once(monkeypatch):
    def run():
        try:
            yield Started(2, "out")
            yield Saved("1.png", "out/1.png")
            yield Saved("2.png", "out/2.png")
        except KeyboardInterrupt:
            yield Finished(2, 1, 0, (), 1.0, True)

    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setattr(sys, "stderr", terminal)
    assert show(run(), BarReporter()) == INTERRUPTED and terminal.is_interrupted
    assert terminal.getvalue().count("1.png -> out/1.png") == 1 and "2.png" not in terminal.getvalue()
    assert "stopped: 1 of 2 pictures are done" in terminal.getvalue()
