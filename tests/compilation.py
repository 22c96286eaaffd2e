"""The compiled loops are compiled once on a new checkout, though every worker needs them all.

That takes a minute of a core. Workers begin with different ones, and what one is at, another
waits for and reads from numba's cache.
"""

import fcntl
from pathlib import Path

from numba.core.compiler_lock import global_compiler_lock
from numba.core.dispatcher import Dispatcher


def share() -> None:
    """Let no two processes compile the same loop at the same time; to be called once."""
    compile_ = Dispatcher.compile

    def once(self, signature):
        folder = self._cache.cache_path
        if folder is None:  # it is part of other loops
            return compile_(self, signature)
        name = f"{self.py_func.__module__}.{self.py_func.__name__}.lock"
        # numba's own lock first: another thread may hold it, and come here for a part of its loop
        with global_compiler_lock, (Path(folder) / name).open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # until it is closed
            return compile_(self, signature)

    Dispatcher.compile = once


def deal(items: list, workers: int) -> list:
    """Tests in an order in which each worker's share begins with its part of those of the loops.

    Args:
        items: Tests; their `path` is that of their file.
        workers: Each takes equally many tests, in turn.
    """
    loops, others = [], []
    for item in items:
        (loops if item.path.parent.name == "ops" else others).append(item)
    dealt = []
    for n in range(workers):
        for part in (loops, others):
            dealt += part[n * len(part) // workers : (n + 1) * len(part) // workers]
    return dealt
