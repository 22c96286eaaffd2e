"""python -m regcli."""

from regcli.cli import interrupt
from regcli.cli import main as cli


def main() -> None:
    """Run the command line."""
    interrupt.listen()
    cli.main()


if __name__ == "__main__":
    main()
