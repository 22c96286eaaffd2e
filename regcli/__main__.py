"""python -m regcli."""

from regcli.cli.main import main

if __name__ == "__main__":
    main()
