"""Memory that can still be had: of the machine, and of the groups that a process is confined to.

Containers and schedulers such as Slurm confine processes by Linux's control groups, of which the
machine's own numbers know nothing: who takes more than a group may have is killed.
"""

from collections.abc import Iterator
from pathlib import Path

# Where each version mounts its memory groups, and how it calls a limit, what is in use, and what
# of that the system would give back before anybody is killed: pages of files.
_V1 = ("memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
_V2 = ("", "memory.max", "memory.current", "inactive_file")


def free_memory(root: Path = Path("/")) -> int | None:
    """Bytes that can still be had, or None where the system does not say.

    Args:
        root: Of the file system.
    """
    free = [*_of_machine(root), *_of_groups(root)]
    return max(0, min(free)) if free else None


def _of_machine(root: Path) -> Iterator[int]:
    for line in _lines(root / "proc/meminfo"):
        if line.startswith("MemAvailable"):
            yield 1024 * int(line.split()[1])


def _of_groups(root: Path) -> Iterator[int]:
    """What each group may still take, of this process's own and of all around it."""
    for line in _lines(root / "proc/self/cgroup"):
        number, controllers, path = line.split(":", 2)
        if number != "0" and "memory" not in controllers.split(","):
            continue
        kind = _V2 if number == "0" else _V1
        top = root / "sys/fs/cgroup" / kind[0]
        own = top / path.lstrip("/")  # within a container it may not be there, but the top is
        for folder in (own, *own.parents):
            yield from _of_group(folder, *kind[1:])
            if folder == top:
                break


def _of_group(folder: Path, limit: str, used: str, spare: str) -> Iterator[int]:
    most, now = (_lines(folder / name) for name in (limit, used))
    if most and now and most[0].isdecimal():  # else "max"
        pages = [line.split() for line in _lines(folder / "memory.stat")]
        files = next((int(value) for name, value in pages if name == spare), 0)
        yield int(most[0]) - int(now[0]) + files


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="ascii").splitlines()
    except OSError:  # other systems, or none of our business
        return []
