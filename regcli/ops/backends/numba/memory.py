"""Volumes that are made and dropped at every step, without asking the system each time.

The system hands out large blocks page by page, each zeroed first: for a field that takes longer
than the loop that fills it. So blocks go back to a shelf when their tensor is dropped, and the next
tensor of that size gets them.
"""

import ctypes
import math
import sys
import threading

import numpy as np
import torch
from torch import Tensor

_LEAST = 1 << 18  # values; what is smaller comes from the heap anyway
_LOOSE = 2  # a block may be this many times as large as what is asked for
_shelf: list[np.ndarray] = []
_lock = threading.RLock()  # a block may come back, by garbage collection, while one is looked for


class _Lease(np.ndarray):
    """A view of a block that puts the block back when nothing uses it any more."""

    def __del__(self) -> None:
        block = self.base
        if type(block) is np.ndarray:  # not for views of this view
            with _lock:
                _shelf.append(block)


def empty(*shape: int) -> Tensor:
    """A float32 tensor of this shape with any values in it, contiguous, on the CPU."""
    size = math.prod(shape)
    if size < _LEAST:
        return torch.empty(shape)
    with _lock:
        fitting = [n for n, b in enumerate(_shelf) if size <= b.size <= _LOOSE * size]
        best = min(fitting, key=lambda n: _shelf[n].size, default=None)
        block = np.empty(size, np.float32) if best is None else _shelf.pop(best)
    lease = block.view(_Lease)
    return torch.from_numpy(lease)[:size].view(shape)


def release() -> None:
    """Give the shelf's blocks back to the system, and what else the C library holds unused."""
    with _lock:
        _shelf.clear()
    if sys.platform == "linux" and (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)):
        trim(0)
