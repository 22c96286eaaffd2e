"""Runs a compiled loop over slabs of a volume's first axis, on all of torch's threads.

A pool of plain threads is used instead of numba's own parallel loops: it sleeps rather than spins
when the machine is busy, compiles several times faster, and lets every reduction be written one
number per plane, so that sums do not depend on the number of threads.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise
from queue import SimpleQueue
from typing import Any

import llvmlite.binding
import numba
import numpy as np
import torch
from torch import Tensor

from regcli.ops.backends.numba.memory import empty

# Loops over rows of many fields become vector instructions only if the compiler may ask at run
# time, once a row, whether any of them overlap; by default it gives up at eight questions.
llvmlite.binding.set_option("", "-runtime-memory-check-threshold=128")

EVERY_ROW = np.zeros((0, 0), np.uint8)  # the `rows` of loops that skip none
_SMALL = 1 << 17  # values: a loop over fewer is over before another thread has woken up
_SLABS_PER_THREAD = 4  # a slow core then delays the others by a quarter of its share at most
_THICKEST = 32  # planes of a slab whose loop begins with planes outside it


def kernel(function: Callable[..., None]) -> Callable[..., None]:
    """Compile `function(lo, hi, *arrays)`, a loop over the planes lo..hi-1, without the GIL."""
    return numba.njit(nogil=True, fastmath=True, cache=True, error_model="numpy")(function)


def exact_kernel(function: Callable[..., None]) -> Callable[..., None]:
    """As `kernel`, but no sum is reordered: with weights 0 and 1 it gives a voxel's very value."""
    flags = {"nnan", "ninf", "nsz", "arcp", "contract"}
    return numba.njit(nogil=True, fastmath=flags, cache=True, error_model="numpy")(function)


# For functions that are too large to be repeated in every kernel that calls them.
function = numba.njit(fastmath=True, error_model="numpy")
# For the small ones.
inline = numba.njit(inline="always", fastmath=True, error_model="numpy")


@inline
def copy_row(source, target):
    """target[:] = source; numba's own assignment takes a second to compile wherever it stands."""
    for k in range(target.shape[0]):
        target[k] = source[k]


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="regcli")


def run(loop: Callable[..., None], planes: int, *arrays: Any) -> None:
    """Call `loop(lo, hi, *arrays)` on slabs that cover the planes 0..planes-1."""
    threads = torch.get_num_threads()
    if threads == 1 or planes < 2 or _small(arrays):
        loop(0, planes, *arrays)
        return
    _share(
        threads, [(loop, *slab, *arrays) for slab in _slabs(planes, threads * _SLABS_PER_THREAD)]
    )


def run_with_scratch(loop: Callable[..., None], planes: int, size: int, *arrays: Any) -> None:
    """Call `loop(lo, hi, scratch, *arrays)` on slabs; scratch: `size` values of each call's own.

    The slabs are the same for any number of threads, and so are sums that run along them.
    """
    slabs = _slabs(planes, max(2, -(-planes // _THICKEST)))
    threads = 1 if _small(arrays) else min(torch.get_num_threads(), len(slabs))
    spare: SimpleQueue[np.ndarray] = SimpleQueue()
    for part in empty(threads, size).numpy():
        spare.put(part)

    def call(lo: int, hi: int) -> None:
        scratch = spare.get()
        loop(lo, hi, scratch, *arrays)
        spare.put(scratch)

    _share(threads, [(call, *slab) for slab in slabs])


def _small(arrays: tuple[Any, ...]) -> bool:
    sizes = (a.size for a in arrays if isinstance(a, np.ndarray))
    return max(sizes, default=_SMALL) < _SMALL


def _slabs(planes: int, count: int) -> list[tuple[int, int]]:
    count = min(planes, count)
    return list(pairwise(planes * s // count for s in range(count + 1)))


def _share(threads: int, jobs: list[tuple[Any, ...]]) -> None:
    todo = iter(jobs)

    def work() -> None:
        for loop, *arguments in todo:  # the next one, whichever thread asks
            loop(*arguments)

    others = [_pool(threads - 1).submit(work) for _ in range(threads - 1)] if threads > 1 else []
    work()  # at once: another thread takes a while to wake up, and finds less left to do
    for other in others:
        if not other.cancel():
            other.result()


def as_rows(rows: Tensor | None) -> np.ndarray:
    """(I, J) bool as the uint8 array that loops take."""
    return EVERY_ROW if rows is None else rows.to(torch.uint8).numpy()
