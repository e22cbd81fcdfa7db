"""Runs command lines of the `calotype` that can be imported, each in a process of its own; keeps what they leave."""

import json
import os
import platform
import shlex
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from same.commands import Command
from same.forms import TIMES

MANIFEST = "manifest.json"
LIMIT = 1200  # seconds for one command; on a quiet processor none takes 20
NO_THREADS = ("info", "--version")  # commands that take no settings
# `python -m calotype`, which is interrupted as by Ctrl-C when the n-th state has come to its place. Files come to their
# places by os.replace, so the moment is the same in every run.
STOPPED = """
import os, runpy, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
left, move = [int(os.environ["SAMENESS_STOP"])], os.replace
def replace(source, target, **more):
    move(source, target, **more)
    if str(target).endswith(".state.safetensors"):
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGINT)
os.replace = replace
runpy.run_module("calotype", run_name="__main__", alter_sys=True)
"""
FACTS = """
import json, pathlib, torch, calotype
told = {"package": str(pathlib.Path(calotype.__file__).parent), "torch": torch.__version__}
print(json.dumps(told | {"cpu": torch.backends.cpu.get_cpu_capability()}))
"""


@dataclass
class Scratch:
    """The folder in which the commands run, with `in` (inputs), `out` (results) and `home` (CALOTYPE_HOME)."""

    folder: Path
    seen: dict[str, tuple[int, int]] = field(default_factory=dict)

    def run(self, command: Command, into: Path) -> dict[str, Any]:
        """Runs one command and copies what it wrote to `into`. Returns what the manifest tells of it."""
        for source, target in command.copies.items():
            place = self.folder / target
            place.parent.mkdir(parents=True, exist_ok=True)
            copy(self.folder / source, place)
        self.changes()
        begun = time.monotonic()
        done = self._process(command)
        seconds = time.monotonic() - begun
        changed, gone = self.changes()
        into.mkdir(parents=True)
        (into / "stdout").write_bytes(done.stdout)
        (into / "stderr").write_bytes(done.stderr)
        for name in changed:
            place = into / "files" / name
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(self.folder / name, place)
        told = {"line": command.line, "kind": command.kind, "status": done.returncode, "seconds": round(seconds, 1)}
        return told | {"files": changed, "deleted": gone}

    def changes(self) -> tuple[list[str], list[str]]:
        """Files that are new or changed since the last call, and those that are gone."""
        now = {}
        for path in sorted(self.folder.rglob("*")):
            if path.is_file():
                facts = path.stat()
                now[path.relative_to(self.folder).as_posix()] = (facts.st_mtime_ns, facts.st_size)
        changed = [name for name, facts in now.items() if self.seen.get(name) != facts]
        gone = sorted(self.seen.keys() - now.keys())
        self.seen = now
        return changed, gone

    def _process(self, command: Command) -> subprocess.CompletedProcess:
        words = shlex.split(command.line)
        if words and words[0] not in NO_THREADS and command.kind in ("result", "status"):
            words += ["--threads", "1"]
        start = ["-c", STOPPED] if command.stop else ["-m", "calotype"]
        try:
            return subprocess.run(
                [sys.executable, *start, *words],
                cwd=self.folder,
                env=self.environment(command),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=LIMIT,
            )
        except subprocess.TimeoutExpired as fault:
            return subprocess.CompletedProcess(words, -1, fault.stdout or b"", fault.stderr or b"")

    def environment(self, command: Command | None = None) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("CALOTYPE_", "PYTHON"))}
        paths = [os.path.abspath(path) for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
        kept |= {"PYTHONPATH": os.pathsep.join(paths)} if paths else {}
        ours = {"CALOTYPE_HOME": str(self.folder / "home"), "CALOTYPE_OFFLINE": "1", "CALOTYPE_DEVICE": "cpu"}
        ours |= {"CALOTYPE_MEMORY": "4", "HOME": str(self.folder), "PYTHONUTF8": "1", "COLUMNS": "120", "TZ": "UTC"}
        stop = {"SAMENESS_STOP": str(command.stop)} if command and command.stop else {}
        return kept | ours | stop


def copy(source: Path, place: Path) -> None:
    """The same file; of a safetensors file with its metadata in order, and without times and number of the training."""
    data = source.read_bytes()
    if source.suffix == ".safetensors":
        size = int.from_bytes(data[:8], "little")
        header = json.loads(data[8 : 8 + size])
        metadata = header.pop("__metadata__", {})
        kept = {key: metadata[key] for key in sorted(metadata) if key not in (*TIMES, "ss_session_id")}
        words = json.dumps({"__metadata__": kept, **header}).encode()
        words += b" " * (-len(words) % 8)
        data = len(words).to_bytes(8, "little") + words + data[8 + size :]
    place.write_bytes(data)


def facts(scratch: Scratch) -> dict[str, Any]:
    """What the bits depend on besides the program."""
    done = subprocess.run(
        [sys.executable, "-c", FACTS], cwd=scratch.folder, env=scratch.environment(), capture_output=True, check=True
    )
    told = json.loads(done.stdout)
    commit = subprocess.run(["git", "-C", told["package"], "rev-parse", "HEAD"], capture_output=True, text=True)
    told |= {"python": platform.python_version(), "machine": platform.machine(), "commit": commit.stdout.strip()}
    return told | {"scratch": str(scratch.folder)}
