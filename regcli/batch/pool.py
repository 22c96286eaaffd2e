"""LocalPool: an Executor of worker processes, one of which may die without harm to the others.

The standard library's pool breaks as a whole when one of its processes is killed. Here each
worker has a pipe and a thread that waits for it; a worker that died is replaced.
"""

import multiprocessing
import os
import queue
import signal
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from types import FrameType
from typing import Any

# To load torch takes seconds: it is loaded once, in a process that workers are forked from. Where
# its libraries do not bear to be forked, each worker loads it.
_WAYS = multiprocessing.get_context("forkserver" if sys.platform == "linux" else "spawn")
_PATIENCE_S = 10.0  # what an interrupted worker has to remove its temporary files


class WorkerLostError(Exception):
    """A worker ended before its call did.

    Args:
        code: Its exit code; -N if signal N ended it.
    """

    def __init__(self, code: int | None) -> None:
        super().__init__(f"the worker ended ({code})")
        self.code = code


def prepare(*modules: str) -> None:
    """Begin to load these modules for all workers to come, meanwhile."""
    if _WAYS.get_start_method() == "forkserver":
        from multiprocessing import forkserver

        _WAYS.set_forkserver_preload(list(modules))
        forkserver.ensure_running()


class LocalPool(Executor):
    """Processes of this machine, started when they are first needed.

    Args:
        count: How many.
    """

    def __init__(self, count: int) -> None:
        self._workers = [_Worker(place) for place in range(count)]
        self._idle: queue.SimpleQueue[_Worker] = queue.SimpleQueue()
        for worker in self._workers:
            self._idle.put(worker)
        self._threads = ThreadPoolExecutor(count, thread_name_prefix="regcli-batch")

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Call a function of a module in a worker; WorkerLostError if that one ends before."""
        return self._threads.submit(self._call, fn, args, kwargs)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the workers; with `cancel_futures` those that are busy, too."""
        if cancel_futures:
            for worker in self._workers:
                worker.stop()
        self._threads.shutdown(wait, cancel_futures=cancel_futures)
        for worker in self._workers:
            worker.stop()
        for worker in self._workers:
            worker.join()

    def _call(self, fn: Callable[..., Any], args: tuple, kwargs: dict[str, Any]) -> Any:
        worker = self._idle.get()
        try:
            return worker.call(fn, args, kwargs)
        finally:
            self._idle.put(worker)


class _Worker:
    """One process at a time, and the pipe to it."""

    def __init__(self, place: int) -> None:
        self._place = place
        self._process: BaseProcess | None = None
        self._pipe: Connection | None = None
        self._stopped = False
        self._changing = threading.Lock()

    def call(self, *call: Any) -> Any:
        with self._changing:
            if self._stopped:
                raise WorkerLostError(None)
            pipe, process = self._running()
        try:
            pipe.send(call)
            fine, value = pipe.recv()
        except (EOFError, OSError):  # the other end is gone
            process.join()
            raise WorkerLostError(process.exitcode) from None
        if not fine:
            raise value
        return value

    def stop(self) -> None:
        with self._changing:
            self._stopped = True
            if self._process is not None and self._process.is_alive():
                self._process.terminate()

    def join(self) -> None:
        if self._process is not None:
            self._process.join(_PATIENCE_S)
            if self._process.is_alive():
                self._process.kill()
                self._process.join()

    def _running(self) -> tuple[Connection, BaseProcess]:
        if self._pipe is None or self._process is None or not self._process.is_alive():
            self._pipe, theirs = _WAYS.Pipe()
            self._process = _WAYS.Process(target=_serve, args=(theirs, self._place), daemon=True)
            self._process.start()
            theirs.close()  # so that its end is noticed
        return self._pipe, self._process


_place = 0
_busy = False
_asked = threading.Event()


def place() -> int:
    """Which of the workers of its pool this process is, from 0."""
    return _place


def check() -> None:
    """Raise KeyboardInterrupt if this worker was told to stop, even if that got lost before."""
    if _asked.is_set():
        raise KeyboardInterrupt


def _serve(pipe: Connection, own_place: int) -> None:
    """A worker's life: call what comes, send back what that gives."""
    global _place, _busy
    _place = own_place
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to all; the parent says what to do
    signal.signal(signal.SIGTERM, _stop)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        while True:
            function, args, kwargs = pipe.recv()
            _busy = True
            try:
                answer = True, function(*args, **kwargs)
            except Exception as error:  # of any kind: it is the caller's
                answer = False, error
            _busy = False
            pipe.send(answer)
    except (EOFError, OSError, KeyboardInterrupt):
        os._exit(1)


def _stop(number: int, frame: FrameType | None) -> None:
    if not _busy:
        os._exit(1)
    _asked.set()
    raise KeyboardInterrupt


def _end_with_parent() -> None:
    """Leave no orphan: a parent that was killed can tell nobody to stop."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
