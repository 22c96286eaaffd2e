"""Common parts of commands: console, progress, verbosity, and recipes from options."""

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from regcli.cli.interrupt import interruptible
from regcli.errors import OutputError, RecipeError
from regcli.recipe import RegisterRecipe, preset, read_recipe

_EVERY_S = 30.0  # without a terminal, one line of progress in this time


def option(
    text: str,
    metavar: str,
    *names: str,
    panel: str | None = None,
    least: float | None = None,
    parser: Callable[[str], Any] | None = None,
) -> Any:
    """An option that takes one line of --help; a flag has an empty metavar."""
    return typer.Option(
        *names,
        help=text,
        metavar=metavar,
        rich_help_panel=panel,
        min=least,
        show_default=False,
        parser=parser,
    )


def folder(text: str) -> Path:
    """A folder to write to, as an option's parser; an unset shell variable is none.

    Raises:
        RecipeError: If it is empty.
    """
    if not text.strip():
        raise RecipeError("-o names no folder: it is empty.", "Give a folder, or leave -o out.")
    return Path(text)


def weights_name(text: str) -> str:
    """A name or a file of weights, as an option's parser; an unset shell variable is none.

    Raises:
        RecipeError: If it is empty.
    """
    if not text.strip():
        raise RecipeError("The name of the weights is empty.", "Give one, or leave it out.")
    return text


def console() -> Console:
    """stderr: stdout carries results alone. Users' text is printed as it is: paths may hold [x]."""
    return Console(stderr=True, highlight=False, markup=False, emoji=False)


def emit(text: str) -> None:
    """A result on stdout; whoever reads it may stop early, as `head` does.

    Raises:
        OutputError: If stdout is a file that cannot be written.
    """
    try:
        typer.echo(text)
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):
            raise OutputError(
                f"stdout cannot be written: {error.strerror}.", "Send it somewhere else."
            ) from None


@dataclass(frozen=True)
class Verbosity:
    """Verbosity on stderr: 0 errors only, 1 the usual, 2 everything."""

    level: int

    @classmethod
    def of(cls, quiet: bool, verbose: bool) -> "Verbosity":
        """The verbosity that -q and -v ask for.

        Raises:
            RecipeError: If both are given.
        """
        if quiet and verbose:
            raise RecipeError("-q and -v contradict each other.", "Give one of them.")
        return cls(0 if quiet else 2 if verbose else 1)

    def say(self, text: str, level: int = 1) -> None:
        """Print a line, if this much is wanted."""
        if self.level >= level:
            console().print(text, soft_wrap=True)


@contextmanager
def progress(verbosity: Verbosity, *, bars: bool) -> Iterator[Callable[[str, float], None]]:
    """A function (stage, share done) that shows progress: bars on a terminal, else rare lines."""
    if not verbosity.level:
        yield interruptible(lambda stage, share: None)
    elif bars and sys.stderr.isatty():
        columns = (
            TextColumn("{task.description:>10}"),
            BarColumn(bar_width=None),
            TextColumn("{task.percentage:>3.0f} %"),
            TimeRemainingColumn(compact=True, elapsed_when_finished=True),
        )
        display = Progress(*columns, console=console(), transient=True)
        tasks: dict[str, TaskID] = {}

        def show(stage: str, share: float) -> None:
            if stage == "read":  # over in a moment; what comes next may be an error
                return
            display.start()
            for name, task in tasks.items():
                if name != stage:
                    display.update(task, completed=1.0)
            if stage not in tasks:
                tasks[stage] = display.add_task(stage, total=1.0)
            display.update(tasks[stage], completed=share)

        try:
            yield interruptible(show)
        finally:
            display.stop()
    else:
        said = time.monotonic()

        def line(stage: str, share: float) -> None:
            nonlocal said
            if time.monotonic() - said >= _EVERY_S:
                said = time.monotonic()
                verbosity.say(f"{stage} {100 * share:.0f} %")

        yield interruptible(line)


def make_recipe(
    config: Path | None, preset_name: str | None, flags: dict[str, Any]
) -> RegisterRecipe:
    """The recipe of a command line: defaults, then preset, then --config, then flags.

    Args:
        config: TOML, or an earlier regcli.json.
        preset_name: Of recipe.PRESETS.
        flags: Recipe fields; None where the flag was not given.

    Raises:
        RecipeError: If the recipe cannot be, or nothing of the preset is left in it.
    """
    preset_values = {} if preset_name is None else preset(preset_name)
    config_values = read_recipe(config) if config else {}
    if preset_values and preset_values.keys() <= config_values.keys():
        fields = ", ".join(preset_values)
        raise RecipeError(
            f"--preset {preset_name} has no effect: {config} sets {fields} too, and wins.",
            f"Leave --preset out, or take {fields} out of a copy of the recipe.",
        )
    given = {k: v for k, v in flags.items() if v is not None}
    recipe = RegisterRecipe().with_values(config_values | given)
    if not preset_values:
        return recipe
    try:
        return RegisterRecipe().with_values(preset_values | config_values | given)
    except RecipeError as error:  # it names a field, which nobody gave
        raise RecipeError(f"--preset {preset_name}: {error.cause}", error.remedy) from error


def listed(flag: str, text: str | None) -> tuple[str, ...]:
    """The names of "A,B"; none if the option was not given.

    Raises:
        RecipeError: If one is empty, as with an unset shell variable.
    """
    names = () if text is None else tuple(name.strip() for name in text.split(","))
    if not all(names):
        raise RecipeError(f"{flag} '{text}' has an empty name.", "Give names, or leave it out.")
    return names


def parse_frame(text: str | None) -> int | str | None:
    """--frame: a number from 0, or "mean".

    Raises:
        RecipeError: If it is neither.
    """
    if text is None or text == "mean":
        return text
    if not text.isdigit():
        raise RecipeError(f"--frame '{text}' is no frame.", "Give a number from 0, or 'mean'.")
    return int(text)


def print_paths(paths: list[str]) -> None:
    """Results on stdout, one a line, ready for xargs."""
    for path in paths:
        emit(path)
