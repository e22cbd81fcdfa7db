"""Closed streams, closed pipes and full disks behind stdout."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(os.name != "posix", reason="a POSIX shell")
PROGRAM = f"{sys.executable} -m calotype"


def shell(command, cwd):
    environment = {**os.environ, "CALOTYPE_HOME": str(cwd / "home"), "PYTHONPATH": str(Path(__file__).parents[2])}
    return subprocess.run(["bash", "-c", command], capture_output=True, text=True, cwd=cwd, env=environment)


@pytest.mark.many(plain=2)
@pytest.mark.parametrize("command", ["models list", "info photo.png", "--help"])
@pytest.mark.parametrize("closed", [">&-", ">&- 2>&- <&-", "| true; exit ${PIPESTATUS[0]}"])
def test_closed_streams_end_no_command(old_photo, tmp_path, command, closed):
    (tmp_path / "photo.png").write_bytes(old_photo.read_bytes())
    done = shell(f"{PROGRAM} {command} {closed}", tmp_path)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.slow
def test_errors_stay_errors_without_streams(tmp_path):
    assert shell(f"{PROGRAM} info nothing.png >&- 2>&-", tmp_path).returncode == 2
    done = shell(f"{PROGRAM} info nothing.png >&-", tmp_path)
    assert done.stderr == "calotype: nothing.png does not exist; check the name\n"


@pytest.mark.many(plain=2)
@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
@pytest.mark.parametrize("command", ["models list", "models list --json", "--help"])
def test_output_that_is_lost_is_an_error(tmp_path, command):
    done = shell(f"{PROGRAM} {command} > /dev/full", tmp_path)
    assert done.returncode == 1
    assert done.stderr == "calotype: the output cannot be written completely: No space left on device\n"
