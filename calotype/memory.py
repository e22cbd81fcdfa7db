"""How much memory this process may still take: what is free, within the limits of control groups and of `ulimit`."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import psutil

try:
    import resource
except ImportError:  # Windows
    resource = None

UNLIMITED = 2**62
CGROUPS = Path("/sys/fs/cgroup")
MEMBERSHIP = Path("/proc/self/cgroup")
_FILES = {
    2: (("memory.max", "memory.high"), "memory.current", "inactive_file"),
    1: (("memory.limit_in_bytes",), "memory.usage_in_bytes", "total_inactive_file"),
}  # version: limits, usage, and the field of memory.stat for what the system takes back when memory runs short


def available() -> int:
    """Bytes that this process may still allocate."""
    return max(0, min(psutil.virtual_memory().available, free_in_cgroups(), free_address_space()))


def address_space_limit() -> int:
    """The limit of `ulimit -v` in bytes, UNLIMITED where there is none."""
    if resource is None or not hasattr(resource, "RLIMIT_AS"):
        return UNLIMITED
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    return UNLIMITED if limit == resource.RLIM_INFINITY else limit


def free_address_space() -> int:
    """Bytes that `ulimit -v` and `ulimit -d` leave."""
    free = [UNLIMITED]
    if address_space_limit() < UNLIMITED:
        free.append(address_space_limit() - psutil.Process().memory_info().vms)
    data = resource.getrlimit(resource.RLIMIT_DATA)[0] if resource else -1
    used = getattr(psutil.Process().memory_info(), "data", None)
    if resource and data != resource.RLIM_INFINITY and used is not None:
        free.append(data - used)
    return min(free)


def free_in_cgroups() -> int:
    """Bytes that the control groups of this process leave, version 1 and 2, with those above them."""
    free = UNLIMITED
    for version, folder in _cgroup_folders():
        limits, usage, reclaimable = _FILES[version]
        limit = min((number for name in limits if (number := _number(folder / name)) is not None), default=None)
        used = _number(folder / usage)
        if limit is not None and used is not None and limit < UNLIMITED:
            free = min(free, limit - used + _field(folder / "memory.stat", reclaimable))
    return free


def _cgroup_folders() -> Iterator[tuple[int, Path]]:
    """The folders of this process's groups that count memory, and of those above them."""
    roots = {2: (CGROUPS, CGROUPS / "unified"), 1: (CGROUPS / "memory",)}
    paths = {2: "/", 1: "/"}
    with contextlib.suppress(OSError):
        for line in MEMBERSHIP.read_text().splitlines():  # 4:memory:/path, or 0::/path
            _, kinds, path = line.split(":", 2)
            if not kinds:
                paths[2] = path
            elif "memory" in kinds.split(","):
                paths[1] = path
    for version, path in paths.items():
        names = [name for name in path.split("/") if name not in ("", "..")]
        for root in roots[version]:
            for count in range(len(names), -1, -1):  # in a container the path may be that outside of it
                yield version, root.joinpath(*names[:count])


def _number(path: Path) -> int | None:
    """The number in a file; None if there is none, such as for "max"."""
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None


def _field(path: Path, name: str) -> int:
    try:
        lines = path.read_text().splitlines()
        return next((int(line.split()[1]) for line in lines if line.startswith(f"{name} ")), 0)
    except (OSError, ValueError, IndexError):
        return 0
