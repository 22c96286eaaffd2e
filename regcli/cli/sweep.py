"""register --sweep: values of one recipe field as text, and the table that a terminal shows."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from regcli import recipe as recipes
from regcli.cli.common import Verbosity, console, emit, make_recipe, print_paths, progress
from regcli.cli.summary import tell
from regcli.errors import RecipeError
from regcli.recipe import RegisterRecipe

if TYPE_CHECKING:
    from regcli.commands.register.job import Job

_NUMBER, _NUMBERS = ("smoothness", "tol"), ("iterations", "levels")
_SPEC = ("transform", "metric", "regularizer", "solver")  # name:option=value
FIELDS = ("model", "weights", *_SPEC, *_NUMBER, *_NUMBERS)
_LIKE = "Write it like smoothness=0.3,1,3."


def swept(
    given: list[str], config: Path | None, preset: str | None, flags: dict[str, Any]
) -> tuple[str, dict[str, RegisterRecipe]]:
    """The field of --sweep, and the recipe of each value by how it was written.

    Args:
        given: What --sweep was given, each time.
        config: As of `make_recipe`.
        preset: As of `make_recipe`.
        flags: As of `make_recipe`.

    Raises:
        RecipeError: If it is not of that form, or no registration can be done with a value.
    """
    field, texts = _split(given)
    if flags[field] is not None:
        raise RecipeError(
            f"--{field} and --sweep {field} were both given.", f"Leave --{field} out."
        )
    made: dict[str, RegisterRecipe] = {}
    for text in texts:
        try:
            recipe = make_recipe(config, preset, flags | {field: _value(field, text)})
        except RecipeError as error:
            raise RecipeError(f"--sweep {field}={text}: {error.cause}", error.remedy) from error
        same = [other for other, known in made.items() if known == recipe]
        if same:
            raise RecipeError(
                f"--sweep {field}: {same[0]} and {text} are the same.", "Give each value once."
            )
        made[text] = recipe
    return field, made


def _split(given: list[str]) -> tuple[str, list[str]]:
    """Field and values of --sweep, as text."""
    if len(given) > 1:
        raise RecipeError("--sweep was given twice.", "Vary one field at a time.")
    field, equals, rest = given[0].partition("=")
    field, texts = field.strip(), [text.strip() for text in rest.split(",")]
    if not equals:
        raise RecipeError(f"--sweep '{given[0]}' is not FIELD=VALUE,VALUE.", _LIKE)
    if field not in FIELDS:
        raise RecipeError(f"--sweep cannot vary '{field}'.", f"Choose from {', '.join(FIELDS)}.")
    if not all(texts):
        raise RecipeError(f"--sweep '{given[0]}' has an empty value.", _LIKE)
    if len(texts) < 2:
        raise RecipeError(f"--sweep {field} has one value.", f"Give two or more, or --{field}.")
    for text in texts:
        if field in _SPEC and "=" in text and ":" not in text:
            raise RecipeError(
                f"--sweep {field}: '{text}' is not a name; values cannot hold a comma.",
                f"Give options one at a time, or run that one by --{field}.",
            )
    return field, texts


def _value(field: str, text: str) -> Any:
    if field in _NUMBERS:
        return recipes.numbers(field, text)
    if field not in _NUMBER:
        return (text,) if field == "metric" else text
    try:
        return float(text)
    except ValueError as error:
        raise RecipeError(f"'{text}' is not a number.", _LIKE) from error


def run_sweep(
    job: "Job",
    field: str,
    choices: dict[str, RegisterRecipe],
    verbosity: Verbosity,
    *,
    bars: bool,
    as_json: bool,
) -> None:
    """Register with every value, tell the table, and print where the results are.

    Args:
        job: What the registrations share.
        field: What they differ in.
        choices: Recipes by value.
        verbosity: How much is said.
        bars: Whether progress may be shown as bars.
        as_json: Print sweep.json.

    Raises:
        RegcliError: Of the kind that fits; if single values failed, after all is written.
    """
    from regcli.commands.sweep.run import Sweep, check_sweep, sweep_files

    values = list(choices)

    @contextmanager
    def shown(value: str) -> Iterator[Callable[[str, float], None]]:
        if value == values[0]:
            verbosity.say(f"moving {job.moving} -> fixed {job.fixed}")
        verbosity.say(f"{field}={value} ({values.index(value) + 1} of {len(values)})")
        with progress(verbosity, bars=bars) as show:
            yield show

    found = sweep_files(Sweep(job, field, choices), shown)
    if verbosity.level > 1:
        for value, report in found.reports.items():
            verbosity.say(f"\n{field}={value}")
            tell(report, verbosity)
    tell_sweep(found.record, verbosity)
    if as_json:
        emit(json.dumps(found.record, indent=1))
    else:
        folders = [row["folder"] for row in found.record["rows"] if row["folder"]]
        print_paths([*folders, *found.record["outputs"].values()])
    check_sweep(found)


def tell_sweep(record: dict[str, Any], verbosity: Verbosity) -> None:
    """Say the trade-off: a table with one row per value, then what there is to remark.

    Args:
        record: What sweep.json holds.
        verbosity: Whether it is wanted.
    """
    if not verbosity.level:
        return
    rows = record["rows"]
    console().print(_table(record))
    remarks: dict[str, list[str]] = {}
    for row in rows:
        for remark in dict.fromkeys([*row["verdict"]["reasons"], *row["warnings"]]):
            remarks.setdefault(remark, []).append(row["name"])
    for remark, names in remarks.items():
        whose = "all" if len(names) == len(rows) else ", ".join(names)
        verbosity.say(f"{whose}: {remark}")


def _table(record: dict[str, Any]) -> Table:
    """A table of the values, at most as wide as a terminal; the unregistered images come first."""
    from regcli.commands.sweep.table import likeness, number

    rows = record["rows"]
    name, column = likeness(rows)
    stages = {name: (column, 3), "Dice": ("dice", 3)}
    stages |= {"HD95\nmm": ("hd95_mm", 2), "TRE\nmm": ("tre_mm", 2)}
    columns = [
        (head, f"{start}_before", f"{start}_after", f".{digits}f")
        for head, (start, digits) in stages.items()
    ]
    columns += [
        ("folds\n%", None, "folds_percent", "%"),
        ("ndv\n%", None, "ndv_percent", "%"),
        ("sdlogj", None, "sdlogj", ".3f"),
        ("s", None, "seconds", ".1f"),
    ]
    columns = [c for c in columns if any(number(row, c[2]) is not None for row in rows)]
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), show_edge=False)
    table.add_column(record["field"], overflow="fold")
    for head, *_ in columns:
        table.add_column(head, justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    done = next(row for row in rows if not row["error"])
    start = [
        _cell(number(done, before) if before else None, form) for _, before, _, form in columns
    ]
    table.add_row("before", *start, "")
    for row in rows:
        cells = [_cell(number(row, after), form) for _, _, after, form in columns]
        table.add_row(row["name"], *cells, row["verdict"]["status"])
    return table


def _cell(value: float | None, form: str) -> str:
    """A number in six characters; of shares, none at all differs from next to none."""
    if value is None:
        return ""
    if form != "%":
        return format(value, form)
    return "0" if value == 0 else "<0.001" if value < 0.001 else f"{value:.3f}"
