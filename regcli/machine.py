"""The machine: torch's threads, determinism and device as a recipe wants them, and free memory."""

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from regcli.errors import InputError, RecipeError
from regcli.recipe import RegisterRecipe

_MOST_THREADS = 256  # or the machine's cores: far beyond, the system's libraries crash
# Where each version mounts its memory groups, and how it calls a limit, what is in use, and what
# of that the system would give back before anybody is killed: pages of files.
_V1 = ("memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
_V2 = ("", "memory.max", "memory.current", "inactive_file")


@contextmanager
def settings(recipe: RegisterRecipe) -> Iterator[None]:
    """torch as the recipe wants it, and afterwards as it was.

    Raises:
        RecipeError: If so many threads are asked for that the system's libraries would crash.
    """
    check_threads(recipe.threads)
    # not torch.use_deterministic_algorithms: it loads torch's compiler, two seconds and 100 MB
    threads, exact = torch.get_num_threads(), torch.get_deterministic_debug_mode()
    torch.set_num_threads(recipe.threads or threads)
    torch.set_deterministic_debug_mode("error" if recipe.deterministic else exact)
    try:
        with torch.no_grad():
            yield
    finally:
        torch.set_num_threads(threads)
        torch.set_deterministic_debug_mode(exact)


def cores() -> int:
    """How many processor cores this process may use."""
    usable = getattr(os, "sched_getaffinity", None)  # not on every system
    return len(usable(0)) if usable else os.cpu_count() or 1


def check_threads(count: int) -> None:
    """Refuse more threads than the system's libraries bear.

    Raises:
        RecipeError: If there are that many.
    """
    cores = os.cpu_count() or 1
    if count > max(_MOST_THREADS, cores):
        raise RecipeError(
            f"--threads {count} is too many: this machine has {cores} cores.",
            "Leave it out to use all of them.",
        )


def choose_device(name: str) -> torch.device:
    """The device of a recipe: "auto" takes a GPU if there is one.

    Raises:
        InputError: If the device is not there.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()
    # unknown names and indices, kinds of devices without tensors; torch without CUDA asserts
    except (RuntimeError, AssertionError) as error:
        raise InputError(
            f"There is no device '{name}' on this machine.", "Use --device auto or --device cpu."
        ) from error
    return device


def fast_half(device: torch.device) -> bool:
    """Whether bfloat16 takes less time than float32: on GPUs, and processors made for it."""
    if device.type != "cpu":
        return device.type == "cuda"
    able = getattr(torch.cpu, "get_capabilities", dict)()  # not in every torch
    return bool(able.get("avx512_bf16") or able.get("amx_bf16"))


def keep_memory() -> None:
    """Use freed memory again instead of giving it back: a training asks for the same every step.

    The system's new pages, all of them zeroed, took a sixth of a training's processor time.
    Only glibc can be asked to.
    """
    ask = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if ask is not None:
        for what, size in ((-1, 1 << 30), (-3, 1 << 30)):  # M_TRIM_THRESHOLD, M_MMAP_THRESHOLD
            ask(what, size)


def free_memory(root: Path = Path("/")) -> int | None:
    """Bytes that can still be had, or None where the system does not say.

    Containers and schedulers such as Slurm confine processes by Linux's control groups, of which
    the machine's own numbers know nothing: who takes more than a group may have is killed.

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
    """Free memory of this process's control group and of all that enclose it."""
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
