"""Memory of the host that this process may still take, and that it has."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

# Bytes that are assumed if a system tells nothing at all.
UNKNOWN = 2 << 30

_ROOT = Path("/")
_STATUS = "proc/self/status"


def available_memory(root: Path = _ROOT) -> int:
    """Bytes that this process may still take: the least of what its limits leave.

    These are what the system has left (`MemAvailable`), what the memory control groups of this
    process have left on each level (versions 1 and 2; page cache that they could drop counts as
    free), and what is left of `RLIMIT_AS` (`ulimit -v`) and `RLIMIT_DATA` (`ulimit -d`). If a
    system tells none of these, it is half of its memory.

    Args:
        root: Root of the file system that has /proc and /sys.
    """
    found = [*_of_system(root), *_of_control_groups(root), *_of_limits(root)]
    return max(0, min(found)) if found else _physical_memory() // 2


def resident_memory(root: Path = _ROOT) -> int:
    """Bytes of memory that this process has; its peak so far if a system tells only that."""
    present = _kilobytes(root / _STATUS, "VmRSS")
    if present is not None:
        return present

    try:
        import resource
    except ImportError:
        return 0

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    return peak if os.uname().sysname == "Darwin" else 1024 * peak


def _of_system(root: Path) -> Iterator[int]:
    left = _kilobytes(root / "proc/meminfo", "MemAvailable")
    if left is not None:
        yield left


def _of_control_groups(root: Path) -> Iterator[int]:
    """Bytes left by the memory control groups, see cgroups(7).

    A line is `number:controllers:path` for each hierarchy, without controllers in version 2.
    """
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return

    mounts = root / "sys/fs/cgroup"
    for line in lines:
        _number, controllers, path = line.split(":", 2)
        if "memory" in controllers.split(","):
            top = mounts / "memory"
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        elif not controllers:
            top = mounts
            names = ("memory.max", "memory.current", "inactive_file")
        else:
            continue
        group = top / path.lstrip("/")
        for level in (group, *group.parents):
            yield from _of_level(level, *names)
            if level == top:
                break


def _of_level(level: Path, limit: str, usage: str, droppable: str) -> Iterator[int]:
    """Bytes left by one control group; none if it has no limit, or is not mounted here."""
    try:
        most = (level / limit).read_text().strip()
        used = int((level / usage).read_text())
        cache = [
            int(line.split()[1])
            for line in (level / "memory.stat").open()
            if line.split()[0] == droppable
        ]
    except (OSError, ValueError, IndexError):
        return
    if most != "max":
        yield int(most) - used + sum(cache)


def _of_limits(root: Path) -> Iterator[int]:
    try:
        import resource
    except ImportError:
        return
    for limit, field in ((resource.RLIMIT_AS, "VmSize"), (resource.RLIMIT_DATA, "VmData")):
        most = resource.getrlimit(limit)[0]
        used = _kilobytes(root / _STATUS, field)
        if most != resource.RLIM_INFINITY and used is not None:
            yield most - used


def _kilobytes(path: Path, name: str) -> int | None:
    """Bytes in a line `name:  123 kB`."""
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return None
    values = [line.split()[1] for line in lines if line.startswith(f"{name}:")]
    return 1024 * int(values[0]) if values else None


def _physical_memory() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return 2 * UNKNOWN
