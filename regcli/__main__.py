"""python -m regcli."""

import atexit
import os
import sys

from regcli.cli import interrupt
from regcli.cli import main as cli


def main() -> None:
    """Run the command line, and end at once: to take torch apart first lasts over a second."""
    interrupt.listen()
    try:
        cli.main()
    except SystemExit as end:
        atexit._run_exitfuncs()  # temporary folders of libraries, and the like
        try:
            for stream in (sys.stdout, sys.stderr):
                if stream is not None:  # as where somebody closed it
                    stream.flush()
        except OSError:  # nobody reads on, or the disk is full: Python's own end says which
            raise end from None
        os._exit(int(end.code or 0))


if __name__ == "__main__":
    main()
