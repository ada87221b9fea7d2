"""How much memory there is: of the machine, or of the control group that the process runs in.

Containers, services of systemd and jobs of Slurm have a control group, and so may any above it.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

CGROUPS = Path("/sys/fs/cgroup")
"""Where control groups are mounted."""

PROCESS = Path("/proc/self/cgroup")
"""The file that names those of this process."""


def machine_bytes(cgroups: Path = CGROUPS, process: Path = PROCESS) -> int:
    """Returns the memory of this machine, or less if a control group of the process says so.

    Args:
        cgroups: where the groups are mounted.
        process: the file that names those of this process.
    """
    limits = [group.limit_bytes for group in _limited_groups(cgroups, process)]
    return min([int(psutil.virtual_memory().total), *limits])


def available_bytes(cgroups: Path = CGROUPS, process: Path = PROCESS) -> int:
    """Returns how much this process may still take now.

    That is the least of what the machine has free, of what its control groups leave, and of what
    its limit on addresses does (`ulimit -v`). Files that the system keeps in memory, and gives up
    when asked, count as free.

    Args:
        cgroups: where the groups are mounted.
        process: the file that names those of this process.
    """
    left = [int(psutil.virtual_memory().available)]
    left += [group.limit_bytes - group.used_bytes for group in _limited_groups(cgroups, process)]
    if sys.platform == "linux":
        itself = psutil.Process()
        most, _ = itself.rlimit(psutil.RLIMIT_AS)
        if most != psutil.RLIM_INFINITY:
            left.append(int(most - itself.memory_info().vms))
    return max(0, min(left))


@dataclass(frozen=True)
class _Names:
    """What one version of control groups calls its files, and the caches in `memory.stat`."""

    limit: str
    used: str
    caches: tuple[str, str]


_VERSION_1 = _Names(
    "memory.limit_in_bytes",
    "memory.usage_in_bytes",
    ("total_active_file", "total_inactive_file"),
)
_VERSION_2 = _Names("memory.max", "memory.current", ("active_file", "inactive_file"))


@dataclass(frozen=True)
class _Group:
    """A control group with a limit."""

    folder: Path
    names: _Names

    @property
    def limit_bytes(self) -> int:
        return int((self.folder / self.names.limit).read_text())

    @property
    def used_bytes(self) -> int:
        """What its processes use, without what of files is kept in memory, where that is known."""
        stat = self.folder / "memory.stat"  # gVisor, for one, has none
        lines = stat.read_text().splitlines() if stat.is_file() else []
        numbers = {name: int(number) for name, number in map(str.split, lines)}
        cached = sum(numbers.get(name, 0) for name in self.names.caches)
        return int((self.folder / self.names.used).read_text()) - cached


def _limited_groups(cgroups: Path, process: Path) -> Iterator[_Group]:
    """Yields the groups of the process, and those above them, that have a limit."""
    lines = process.read_text().splitlines() if process.is_file() else []
    # In a container the file may name what the machine calls a group that is the root in here.
    for line in ["0::/", "0:memory:/", *lines]:
        _, controllers, name = line.split(":", 2)
        if controllers == "":
            root, names = cgroups, _VERSION_2
        elif "memory" in controllers.split(","):
            root, names = cgroups / "memory", _VERSION_1
        else:
            continue
        parts = Path(name).parts[1:]
        for depth in range(len(parts) + 1):
            folder = root.joinpath(*parts[:depth])
            limit = folder / names.limit
            if limit.is_file() and limit.read_text().strip() != "max":
                yield _Group(folder, names)
