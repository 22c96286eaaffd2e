"""Samples drawn on other threads before their turn: the same ones, in the same order."""

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

S = TypeVar("S")


def drawn(draw: Callable[[int], S], numbers: Iterable[int], threads: int) -> Generator[S]:
    """draw(n) for every n, in order; close it to stop before the end.

    Args:
        draw: Whose results depend on n alone.
        numbers: What to draw.
        threads: How many samples are drawn ahead, each on its own; 0: when they are asked for.
    """
    if threads == 0:
        yield from map(draw, numbers)
        return
    waiting: deque[Future[S]] = deque()
    pool = ThreadPoolExecutor(threads, thread_name_prefix="regcli-draw")
    try:
        for n in numbers:
            waiting.append(pool.submit(draw, n))
            if len(waiting) > threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
