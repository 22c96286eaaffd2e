"""The table of pairs that a batch is given: its columns, and what each row names."""

import csv
from dataclasses import dataclass
from pathlib import Path

from regcli.errors import RecipeError
from regcli.io.files import default_name, read_text

FILES = (
    *("fixed", "moving", "fixed_mask", "moving_mask", "fixed_labels", "moving_labels"),
    *("fixed_points", "moving_points"),
)
COLUMNS = ("fixed", "moving", "out", *FILES[2:])
_LIKE = f"Name the columns in its first line: {','.join(COLUMNS)}; the first two are needed."


@dataclass(frozen=True)
class Row:
    """One pair of a table.

    Attributes:
        number: From 1; lines without content and the heading do not count.
        files: Absolute paths by column, of the cells that are not empty.
        out: Name or path of the result's folder.
        problem: Why nothing can be done with the row; empty if something can.
    """

    number: int
    files: dict[str, Path]
    out: str
    problem: str = ""


def read_table(path: Path) -> list[Row]:
    """Every row of a CSV (commas, semicolons or tabs).

    Args:
        path: UTF-8; relative paths in it are relative to its folder.

    Raises:
        InputError: If there is no such text file.
        RecipeError: If its columns are not those of a batch, or it has no row.
    """
    if path.is_file() and not path.stat().st_size:
        raise RecipeError(f"{path} is empty.", _LIKE)
    lines = read_text(path, "Save it as CSV in UTF-8.").splitlines()
    first = next((line for line in lines if line.strip()), "")
    reader = csv.reader(lines, delimiter=max(",;\t", key=first.count), strict=True)
    try:
        cells = [[cell.strip() for cell in row] for row in reader]
    except csv.Error as error:
        raise RecipeError(f"{path}, line {reader.line_num}: {error}.", "Correct it.") from None
    head, *rows = [row for row in cells if any(row)] or [[]]
    columns = [cell.lower() for cell in head]
    _check_columns(path, columns)
    if not rows:
        raise RecipeError(f"{path} has no rows.", "Add a line for each pair.")
    return [_row(path, number, columns, row) for number, row in enumerate(rows, 1)]


def _check_columns(path: Path, columns: list[str]) -> None:
    for name in columns:
        if name not in COLUMNS:
            raise RecipeError(f"{path} has a column '{name}', which means nothing.", _LIKE)
        if columns.count(name) > 1:
            raise RecipeError(f"{path} has two columns '{name}'.", "Leave one of them.")
    for name in COLUMNS[:2]:
        if name not in columns:
            raise RecipeError(f"{path} has no column '{name}'.", _LIKE)


def _row(path: Path, number: int, columns: list[str], cells: list[str]) -> Row:
    named = {name: cell for name, cell in zip(columns, cells, strict=False) if cell}
    files = {name: (path.parent / named[name]).absolute() for name in FILES if name in named}
    missing = [name for name in COLUMNS[:2] if name not in files]
    problem = f"There is no '{missing[0]}' in row {number}." if missing else ""
    if len(cells) > len(columns):
        problem = f"Row {number} has {len(cells)} cells in {len(columns)} columns."
    out = named.get("out", "")
    if not out:
        out = f"row-{number}" if missing else default_name(files["fixed"], files["moving"])
    return Row(number, files, out, problem)
