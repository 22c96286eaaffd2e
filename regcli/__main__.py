"""python -m regcli."""

import atexit
import os
import sys

from regcli.cli import interrupt
from regcli.cli import main as cli
from regcli.errors import OutputError


def main() -> None:
    """Run the command line, and end at once: to take torch apart first lasts over a second."""
    interrupt.listen()
    try:
        cli.main()
    except SystemExit as end:
        atexit._run_exitfuncs()  # temporary folders of libraries, and the like
        code = int(end.code or 0)
        try:
            for stream in (sys.stdout, sys.stderr):
                if stream is not None:  # as where somebody closed it
                    stream.flush()
        except BrokenPipeError:
            pass  # nobody reads on, as `head`
        except OSError as error:  # Python's own end would make it 120
            if code == 0:
                code = OutputError.code
                print(f"error: stdout cannot be written: {error.strerror}.", file=sys.stderr)
                print("remedy: Free some space, or write elsewhere.", file=sys.stderr, flush=True)
        os._exit(code)


if __name__ == "__main__":
    main()
