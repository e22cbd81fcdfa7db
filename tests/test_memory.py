"""Free memory within control groups and limits of address space."""

import os
import subprocess
import sys

import pytest

from calotype import memory
from calotype.engine import Engine
from calotype.errors import CalotypeError

GIB = 1 << 30


@pytest.fixture
def cgroups(tmp_path, monkeypatch):
    """Writes files of control groups: `cgroups("0::/a", {"a/memory.max": 5})`."""

    def write(membership, files):
        for name, content in files.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(f"{content}\n")
        (tmp_path / "membership").write_text(membership + "\n")

    monkeypatch.setattr(memory, "CGROUPS", tmp_path)
    monkeypatch.setattr(memory, "MEMBERSHIP", tmp_path / "membership")
    return write


def test_without_control_groups_there_is_no_limit(cgroups, monkeypatch, tmp_path):
    assert memory.free_in_cgroups() == memory.UNLIMITED
    monkeypatch.setattr(memory, "MEMBERSHIP", tmp_path / "none")
    assert memory.free_in_cgroups() == memory.UNLIMITED


def test_version_2_counts_the_groups_above_and_what_can_be_taken_back(cgroups):
    files = {"a/b/memory.max": "max", "a/b/memory.current": GIB, "a/memory.max": 4 * GIB, "a/memory.current": 3 * GIB}
    cgroups("0::/a/b", files)
    assert memory.free_in_cgroups() == GIB
    cgroups("0::/a/b", {"a/memory.stat": f"anon 5\ninactive_file {GIB // 2}\nfile 7"})
    assert memory.free_in_cgroups() == GIB + GIB // 2
    cgroups("0::/a/b", {"a/b/memory.high": GIB + 1000})
    assert memory.free_in_cgroups() == 1000


def test_version_2_in_a_container(cgroups):
    cgroups("0::/", {"memory.max": 2 * GIB, "memory.current": GIB})
    assert memory.free_in_cgroups() == GIB
    cgroups("0::/../outside", {})
    assert memory.free_in_cgroups() == GIB


@pytest.mark.parametrize("folder", ["memory/docker/1", "memory"])  # in a container the path is not there
def test_version_1(cgroups, folder):
    files = {f"{folder}/memory.limit_in_bytes": 3 * GIB, f"{folder}/memory.usage_in_bytes": 2 * GIB}
    files[f"{folder}/memory.stat"] = f"cache 9\ntotal_inactive_file {GIB}"
    if folder != "memory":
        files |= {"memory/memory.limit_in_bytes": 0x7FFFFFFFFFFFF000, "memory/memory.usage_in_bytes": 9 * GIB}
    cgroups("9:name=systemd:/\n4:cpu,memory:/docker/1\n0::/", files)
    assert memory.free_in_cgroups() == 2 * GIB


def test_networks_get_what_the_group_leaves(cgroups, engine):
    cgroups("0::/", {"memory.max": 2 * GIB, "memory.current": 2 * GIB - 5000})
    assert memory.available() == engine.models.free_memory(engine.models.device) == 5000


@pytest.mark.skipif(sys.platform != "linux", reason="limits of Linux")
@pytest.mark.parametrize("limit", ["RLIMIT_AS", "RLIMIT_DATA"])
def test_limits_of_address_space_count(limit):
    program = f"import resource; resource.setrlimit(resource.{limit}, (2 << 30, 2 << 30))\n"
    program += "from calotype import memory; print(memory.free_address_space(), memory.available())"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    free, available = map(int, done.stdout.split())
    assert GIB < free < 2 * GIB and available <= free


@pytest.mark.skipif(os.name != "posix", reason="ulimit")
def test_too_small_a_limit_is_an_error_before_any_work(settings, monkeypatch):
    monkeypatch.setattr(memory, "address_space_limit", lambda: 3 * GIB)
    monkeypatch.setattr(memory, "free_address_space", lambda: GIB // 4)
    with pytest.raises(CalotypeError, match=r"limited to 3\.0 GiB \(`ulimit -v`\)"):
        _ = Engine(settings).models
    monkeypatch.setattr(memory, "free_address_space", lambda: GIB)
    assert Engine(settings).models
    monkeypatch.setitem(sys.modules, "torch", None)  # the import fails, as where libraries do not fit
    with pytest.raises(CalotypeError, match="raise the limit"):
        _ = Engine(settings).models
    monkeypatch.setattr(memory, "address_space_limit", lambda: memory.UNLIMITED)
    with pytest.raises(ImportError):
        _ = Engine(settings).models
