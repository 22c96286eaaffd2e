"""The app: its commands, --version, and what becomes of an error."""

import errno
import sys
import time
import traceback
from typing import Annotated

import typer
from rich.text import Text

import regcli
from regcli.cli import apply, batch, evaluate, features, info, jacobian, register, train, weights
from regcli.cli.common import console, emit
from regcli.errors import InputError, MemoryShortageError, OutputError, RegcliError
from regcli.train.distributed.rank import rank

_INTERRUPTED = 130
_PATIENCE_S = 10.0

app = typer.Typer(
    name="regcli",
    add_completion=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="""Examples:

  regcli register fixed.nii.gz moving.nii.gz -o out/

  regcli apply -t out/ moving_labels.nii.gz landmarks.csv -o carried/

  regcli info out/warp.nii.gz

regcli COMMAND -h explains a command. A traceback is shown if --debug is given too.""",
)
app.command(name="register", epilog=register.EXAMPLES)(register.register)
app.command(name="batch", epilog=batch.EXAMPLES)(batch.batch)
app.command(name="apply", epilog=apply.EXAMPLES)(apply.apply)
app.command(name="jacobian", epilog=jacobian.EXAMPLES)(jacobian.jacobian)
app.command(name="evaluate", epilog=evaluate.EXAMPLES)(evaluate.evaluate)
app.command(name="features", epilog=features.EXAMPLES)(features.features)
app.command(name="train", epilog=train.EXAMPLES)(train.train)
app.command(name="info", epilog=info.EXAMPLES)(info.info)
app.add_typer(weights.app, name="weights")


def _version(asked: bool) -> None:
    if asked:
        emit(f"regcli {regcli.__version__}")
        raise typer.Exit


@app.callback()
def common(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_version, is_eager=True, help="Print the version.", metavar=""
        ),
    ] = False,
) -> None:
    """Register medical images: classical or learned, diffeomorphic or free, in physical space."""


def main() -> None:
    """Run the command line; every error ends in its own exit code and two lines."""
    debug = "--debug" in sys.argv
    arguments = [a for a in sys.argv[1:] if a != "--debug"] or ["--help"]
    try:
        _check_encoding(arguments)
        code = app(args=arguments, prog_name="regcli", standalone_mode=False) or 0
        if code == _INTERRUPTED and not _helping():  # typer turns KeyboardInterrupt into this
            _say("Interrupted.", "Run it again; train and batch go on with --resume.")
    except Exception as error:
        if debug:
            traceback.print_exc()
        code = _INTERRUPTED if _told_by_first() else _explain(error)
    sys.exit(code)


def _helping() -> bool:
    """Whether this is one of torchrun's processes, and not the first, which speaks for all."""
    return "train" in sys.argv[1:3] and not rank().first


def _told_by_first() -> bool:
    """Whether the first process failed as well: torchrun then ends this one, if it waits."""
    if not _helping():
        return False
    try:
        time.sleep(_PATIENCE_S)
    except KeyboardInterrupt:
        return True
    return False


def _check_encoding(arguments: list[str]) -> None:
    """Refuse names that are not text: ITK would end the process on meeting one."""
    for argument in arguments:
        try:
            argument.encode("utf-8")
        except UnicodeEncodeError:
            name = argument.encode("utf-8", "backslashreplace").decode("utf-8")
            raise InputError(f"'{name}' is not UTF-8 text.", "Rename the file or folder.") from None


def _explain(error: Exception) -> int:
    """Say what went wrong, and return the exit code."""
    if isinstance(error, RegcliError):
        _say(error.cause, error.remedy)
        return error.code
    if isinstance(error, typer.TyperException):  # options and arguments that do not parse
        known = {entry.name for entry in (*app.registered_commands, *app.registered_groups)}
        asked = [name for name in sys.argv[1:2] if name in known]
        _say(error.format_message(), f"See {' '.join(['regcli', *asked])} --help.")
        return error.exit_code
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        where = error.filename or "What stdout goes to, or a disk,"
        _say(f"{where} is full: {error.strerror}.", "Free some space, or write elsewhere.")
        return OutputError.code
    if isinstance(error, MemoryError):
        _say("Memory ran out.", "Crop the images, or resample them to larger voxels.")
        return MemoryShortageError.code
    _say(
        f"A bug in regcli: {type(error).__name__}: {error}.",
        "Run again with --debug and report what it prints.",
    )
    return 1


def _say(cause: str, remedy: str) -> None:
    """Two lines, whatever line breaks the texts hold."""
    for label, style, text in (("error", "bold red", cause), ("remedy", "bold", remedy)):
        line = Text.assemble((f"{label}:", style), " ", " ".join(text.split()))
        console().print(line, soft_wrap=True)
