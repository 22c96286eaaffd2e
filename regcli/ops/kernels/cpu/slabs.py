"""Runs a compiled loop over slabs of a volume's first axis, on all of torch's threads.

A pool of plain threads is used instead of numba's own parallel loops: it sleeps rather than spins
when the machine is busy, compiles several times faster, and lets every reduction be written one
number per plane, so that sums do not depend on the number of threads.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise
from typing import Any

import numba
import numpy as np
import torch
from torch import Tensor

EVERYWHERE = np.zeros((0, 0, 0), np.uint8)  # the `where` of loops that skip no voxel
_SLABS_PER_THREAD = 4  # a slow core then delays the others by a quarter of its share at most


def kernel(function: Callable[..., None]) -> Callable[..., None]:
    """Compile `function(lo, hi, *arrays)`, a loop over the planes lo..hi-1, without the GIL."""
    return numba.njit(nogil=True, fastmath=True, cache=True, error_model="numpy")(function)


# For the small per-voxel functions that kernels call.
inline = numba.njit(inline="always", fastmath=True, error_model="numpy")


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="regcli")


def run(loop: Callable[..., None], planes: int, *arrays: Any) -> None:
    """Call `loop(lo, hi, *arrays)` on slabs that cover the planes 0..planes-1."""
    threads = torch.get_num_threads()
    if threads == 1 or planes < 2:
        loop(0, planes, *arrays)
        return
    slabs = min(planes, threads * _SLABS_PER_THREAD)
    bounds = [planes * s // slabs for s in range(slabs + 1)]
    jobs = [_pool(threads).submit(loop, lo, hi, *arrays) for lo, hi in pairwise(bounds)]
    for job in jobs:
        job.result()


def as_bytes(where: Tensor) -> np.ndarray:
    """A (1, 1, I, J, K) bool tensor as the (I, J, K) uint8 array that loops take."""
    return where[0, 0].contiguous().view(torch.uint8).numpy()
