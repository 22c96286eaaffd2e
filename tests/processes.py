"""Processes that run regcli, forked from one that has loaded torch: to load it takes 4 seconds.

They are killed, interrupted and read like any other. What only a fresh interpreter shows, such as
how it ends, is not seen in them.
"""

import multiprocessing
import os
import sys
import time
from multiprocessing.process import BaseProcess
from pathlib import Path

_SERVER = multiprocessing.get_context("forkserver")


def start(target, *arguments, said: Path = Path(os.devnull), daemon: bool = True) -> BaseProcess:
    """Run a function of a module in a process of its own; what it prints goes to `said`.

    Only one that is no daemon may have processes of its own; it must be ended by who starts it.
    """
    _SERVER.set_forkserver_preload(["regcli.commands.register.run", "regcli.cli.main"])
    process = _SERVER.Process(target=_run, args=(said, target, arguments), daemon=daemon)
    process.start()
    return process


def regcli(*arguments) -> None:
    """What `regcli` does with these arguments, to the end of the process."""
    from regcli.__main__ import main

    sys.argv = ["regcli", *map(str, arguments)]
    main()


def until(found) -> None:
    """Wait until `found()` is true; ten minutes end a test that would otherwise hang."""
    deadline = time.monotonic() + 600
    while not found():
        if time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(0.01)


def _run(said, target, arguments):
    file = os.open(said, os.O_WRONLY | os.O_CREAT)
    for stream in (1, 2):
        os.dup2(file, stream)
    target(*arguments)
