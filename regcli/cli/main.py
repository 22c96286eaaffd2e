"""The app: its commands, --version, and what becomes of an error."""

import os
import sys
from typing import Annotated

import typer

import regcli
from regcli.cli import apply, info, jacobian, register, weights
from regcli.cli.common import console
from regcli.errors import RegcliError

app = typer.Typer(
    name="regcli",
    no_args_is_help=True,
    add_completion=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="""Examples:

  regcli register fixed.nii.gz moving.nii.gz -o out/

  regcli apply -t out/ moving_labels.nii.gz landmarks.csv -o carried/

  regcli info out/warp.nii.gz""",
)
app.command(name="register", epilog=register.EXAMPLES)(register.register)
app.command(name="apply", epilog=apply.EXAMPLES)(apply.apply)
app.command(name="jacobian", epilog=jacobian.EXAMPLES)(jacobian.jacobian)
app.command(name="info", epilog=info.EXAMPLES)(info.info)
app.add_typer(weights.app, name="weights")


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"regcli {regcli.__version__}")
        raise typer.Exit


@app.callback()
def common(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Register medical images: classical or learned, diffeomorphic or free, in physical space."""


def main() -> None:
    """Run the command line; every error ends in its own exit code and two lines."""
    debug = "--debug" in sys.argv
    arguments = [a for a in sys.argv[1:] if a != "--debug"]
    try:
        app(args=arguments, prog_name="regcli", standalone_mode=True)
    except RegcliError as error:
        if debug:
            raise
        _fail(error.cause, error.remedy)
        sys.exit(error.code)
    except KeyboardInterrupt:
        _fail("Interrupted.", "Nothing was left behind; run the command again.")
        sys.exit(130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except MemoryError:
        _fail("Memory ran out.", "Crop the images, or resample them to larger voxels.")
        sys.exit(5)
    except Exception as error:
        if debug:
            raise
        _fail(
            f"A bug in regcli: {type(error).__name__}: {error}.",
            "Run again with --debug and report what it prints.",
        )
        sys.exit(1)


def _fail(cause: str, remedy: str) -> None:
    stderr = console()
    stderr.print(f"[bold red]error:[/] {_plain(cause)}", soft_wrap=True)
    stderr.print(f"[bold]remedy:[/] {_plain(remedy)}", soft_wrap=True)


def _plain(text: str) -> str:
    """One line, with nothing that rich would take for markup."""
    return " ".join(text.split()).replace("[", r"\[")
