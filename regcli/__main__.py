"""python -m regcli."""

import os

from regcli.cli import interrupt
from regcli.cli import main as cli


def main() -> None:
    """Run the command line."""
    # OpenMP's threads, torch's among them, else spin while they wait: on a busy machine that
    # makes everything two to three times slower. They read this when torch is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    interrupt.listen()
    cli.main()


if __name__ == "__main__":
    main()
