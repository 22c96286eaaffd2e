"""regcli batch."""

import inspect
import json
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from regcli.batch.pool import prepare
from regcli.batch.table import read_table
from regcli.cli.common import Verbosity, console, emit, folder, make_recipe, option, print_paths
from regcli.cli.jobs import make_job, recipe_flags
from regcli.cli.register import register
from regcli.errors import RecipeError
from regcli.recipe import INITS

if TYPE_CHECKING:
    from regcli.batch.crew import Crew
    from regcli.batch.run import Finished

EXAMPLES = """Examples:

  regcli batch pairs.csv -o runs/ -j 4

  regcli batch pairs.csv -o runs/ -j 4 --resume

  regcli batch pairs.csv -o runs/ --index $SLURM_ARRAY_TASK_ID/20

PAIRS.csv has the columns fixed,moving[,out,fixed_mask,moving_mask,
fixed_labels,moving_labels,fixed_points,moving_points]. Paths are relative to
the CSV's folder; out, the folder of a row's result, is relative to RUNS
(default MOVING_to_FIXED). The options of register hold for every row; files
given as options are for rows whose cells are empty.

Files in RUNS: a folder for each row, summary.csv and summary.html (worst
first), and journal.jsonl, from which --resume knows what is done. Each job of
--index I/N has a journal-I-of-N.jsonl and a summary-I-of-N of its own; when
all have ended, the same command with --resume instead of --index does what is
missing and writes the summary of all.

Exit codes: 0 done, 2 usage, 3 input, 4 output exists, 7 some rows failed,
130 interrupted."""

# Options of register that a batch has not, or has of its own.
LEFT_OUT = ("fixed", "moving", "sweep", "log")
_ROWS = "Which rows, and who does them"


def _extended(command: Callable[..., None]) -> Callable[..., None]:
    """The command with register's options added to its own, for typer to read."""
    own = inspect.signature(command, eval_str=True).parameters
    others = inspect.signature(register, eval_str=True).parameters
    shared = [p for name, p in others.items() if name not in (*own, *LEFT_OUT)]
    kept = [p for p in own.values() if p.kind is not p.VAR_KEYWORD]
    command.__dict__["__signature__"] = inspect.Signature([*kept, *shared])
    return command


@_extended
def batch(
    pairs: Annotated[Path, typer.Argument(help="CSV, one pair a row.", metavar="PAIRS.csv")],
    out: Annotated[
        Path,
        option(
            "Folder of all results, created.", "RUNS", "-o", "--out", panel=_ROWS, parser=folder
        ),
    ],
    jobs: Annotated[
        int | None,
        option("Worker processes. Default 1.", "N", "-j", "--jobs", panel=_ROWS, least=1),
    ] = None,
    dask: Annotated[
        str | None,
        option("Workers of Dask instead: tcp://HOST:PORT or local:N.", "ADDRESS", panel=_ROWS),
    ] = None,
    index: Annotated[
        str | None, option("Only rows I, I+N, ...: for job arrays.", "I/N", panel=_ROWS)
    ] = None,
    resume: Annotated[
        bool, option("Leave rows alone that are done.", "", "--resume", panel=_ROWS)
    ] = False,
    json_output: Annotated[
        bool, option("Print the summary as JSON.", "", "--json", panel=_ROWS)
    ] = False,
    quiet: Annotated[bool, option("Errors only.", "", "-q", "--quiet", panel=_ROWS)] = False,
    verbose: Annotated[bool, option("Every row.", "", "-v", "--verbose", panel=_ROWS)] = False,
    no_progress: Annotated[bool, option("No bar.", "", "--no-progress", panel=_ROWS)] = False,
    **asked: Any,  # of register
) -> None:
    """Register every pair of a table; a row that fails does not stop the others."""
    verbosity = Verbosity.of(quiet, verbose)
    if jobs is not None and dask is not None:
        raise RecipeError("-j has no effect with --dask.", "Leave it out, or use --dask local:N.")
    part = None if index is None else _part(index)
    recipe = make_recipe(asked["config"], asked["preset"], recipe_flags(asked))
    rows = read_table(pairs)
    if dask is None:
        prepare("regcli.batch.server", "regcli.cli.main")

    from regcli.batch.crew import check_dask, dask_crew, local_crew
    from regcli.batch.plan import Batch
    from regcli.batch.run import check_batch, run_batch
    from regcli.machine import cores

    if dask is not None:
        check_dask(dask)
        recipe = replace(recipe, init=_found(recipe.init), weights=_found(recipe.weights))
    elif jobs is not None and jobs > cores():
        verbosity.say(f"This machine has {cores()} cores: so many workers are used.")
    # workers of other machines are in other folders
    asked = {name: v.absolute() if isinstance(v, Path) else v for name, v in asked.items()}
    job = make_job(asked, recipe, fixed=Path(), moving=Path(), out=out)
    plan = Batch(rows, job, part, resume)
    crew = partial(local_crew, jobs or 1) if dask is None else partial(dask_crew, dask)
    total = len(rows) if part is None else len(rows[part[0] - 1 :: part[1]])
    with _display(total, verbosity, bars=not no_progress) as (display, watch):

        def opened() -> AbstractContextManager["Crew"]:
            display.start()  # all is checked by now
            return crew()

        record = run_batch(plan, opened, watch)
    counts = record["counts"]
    said = ", ".join(f"{counts[name]} {name}" for name in ("FAIL", "WARN", "PASS"))
    verbosity.say(f"{len(record['rows'])} rows: {said}")
    if json_output:
        emit(json.dumps(record, indent=1))
    else:
        print_paths(list(record["outputs"].values()))
    check_batch(record)


def _part(text: str) -> tuple[int, int]:
    """I and N of --index I/N."""
    found = re.fullmatch(r"(\d{1,9})/(\d{1,9})", text)
    number, count = map(int, found.groups()) if found else (0, 0)
    if not 1 <= number <= count:
        raise RecipeError(
            f"--index '{text}' is not I/N with I from 1 to N.", "Number array jobs from 1: 1/20."
        )
    return number, count


def _found(text: str) -> str:
    """The path of a file that an option names, for workers that are elsewhere; or the name."""
    from regcli.io.weights import is_shipped

    file = text and text not in INITS and not is_shipped(text) and Path(text).exists()
    return str(Path(text).absolute()) if file else text


@contextmanager
def _display(
    total: int, verbosity: Verbosity, *, bars: bool
) -> Iterator[tuple[Progress, Callable[["Finished"], None]]]:
    """One bar, for a terminal, and what is called with rows: their failures are told anyway."""
    columns = (
        TextColumn("rows"),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TextColumn("{task.fields[failed]}"),
        TimeRemainingColumn(elapsed_when_finished=True),
    )
    shown = verbosity.level > 0 and bars and sys.stderr.isatty()
    display = Progress(*columns, console=console(), transient=True, disable=not shown)
    bar = display.add_task("rows", total=total, failed="")
    failed = 0

    def watch(finished: "Finished") -> None:
        nonlocal failed
        task, outcome = finished.task, finished.outcome
        if outcome.code:
            failed += 1
            _say(display, verbosity, f"row {task.row} ({task.name}) failed: {outcome.cause}")
        elif verbosity.level > 1:
            what = "was done before" if finished.earlier else "done"
            _say(display, verbosity, f"row {task.row} ({task.name}) {what}")
        display.update(bar, advance=1, failed=f"{failed} failed" if failed else "")

    try:
        yield display, watch
    finally:
        display.stop()


def _say(display: Progress, verbosity: Verbosity, text: str) -> None:
    if verbosity.level:
        display.console.print(text, soft_wrap=True)
