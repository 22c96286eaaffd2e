"""Ctrl-C and SIGTERM that are not lost: raised at once, and again at the next step."""

import signal
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType

_asked = threading.Event()
_ONE_S = 1.0  # signals that follow each other as closely are one request: cleaning up goes on
_last = -_ONE_S


def listen() -> None:
    """Take Ctrl-C, and SIGTERM, by which batch systems end jobs, for the same request."""
    for kind in (signal.SIGINT, signal.SIGTERM):
        signal.signal(kind, _interrupt)
    sys.unraisablehook = unraisable


def interruptible(show: Callable[[str, float], None]) -> Callable[[str, float], None]:
    """The progress function `show`, which also ends the run if that was asked for.

    Python drops an exception that a signal raises inside a callback from compiled code, such as
    the loading of a compiled loop; the run would go on to its end.
    """

    def step(stage: str, share: float) -> None:
        if _asked.is_set():
            raise KeyboardInterrupt
        show(stage, share)

    return step


def _interrupt(number: int, frame: FrameType | None) -> None:
    global _last
    again, _last = time.monotonic() - _last < _ONE_S, time.monotonic()
    if not (again and _asked.is_set()):
        _asked.set()
        raise KeyboardInterrupt


def unraisable(dropped: "sys.UnraisableHookArgs") -> None:
    """Report an exception that Python dropped; an interrupt is not lost, and needs no report.

    Args:
        dropped: See sys.unraisablehook.
    """
    if not (dropped.exc_type is KeyboardInterrupt and _asked.is_set()):
        sys.__unraisablehook__(dropped)
