"""Points from CSV and Slicer .fcsv files to RAS+ mm, and back into the same columns and space."""

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from regcli.errors import InputError, OutputError, RecipeError
from regcli.image import Space
from regcli.io.files import extension, read_text
from regcli.io.header import LPS

PointSpace = Literal["ras", "lps", "voxel"]
_FCSV_SPACES: dict[str, PointSpace] = {"RAS": "ras", "0": "ras", "LPS": "lps", "1": "lps"}
_FCSV_COLUMNS = "id,x,y,z,ow,ox,oy,oz,vis,sel,lock,label,desc,associatedNodeID"
_NAMES = ("name", "label", "id")
_AXES = ("x", "y", "z")


@dataclass(frozen=True)
class Table:
    """The text around the coordinates, so that it can be written again.

    Attributes:
        space: What the file's numbers mean.
        columns: Which columns hold x, y and z.
        preamble: Lines before the first point: comments (.fcsv) or column names.
        rows: The cells of every point.
        delimiter: Between cells.
        slicer: Whether it is a .fcsv file.
    """

    space: PointSpace = "ras"
    columns: tuple[int, int, int] = (0, 1, 2)
    preamble: tuple[str, ...] = ("x,y,z",)
    rows: tuple[tuple[str, ...], ...] = ()
    delimiter: str = ","
    slicer: bool = False


@dataclass(frozen=True, eq=False)
class Points:
    """Points in the world; `dataclasses.replace(points, world=...)` moves them.

    Attributes:
        world: (N, 3) float64, RAS+ mm.
        names: One per point, "" where the file has none.
        table: What else the file holds.
    """

    world: Tensor
    names: tuple[str, ...] = ()
    table: Table = field(default_factory=Table)


def read_points(path: str | Path, space: PointSpace = "ras", grid: Space | None = None) -> Points:
    """Points of a CSV file (columns x, y, z, or the first three of a file without names) or .fcsv.

    Args:
        path: The file.
        space: What the numbers mean; a .fcsv file says so itself.
        grid: The image whose voxels are meant, for "voxel".

    Raises:
        InputError: If the file is missing or holds no points; the row of a bad number is named.
        RecipeError: If "voxel" is asked for without a grid.
    """
    path = Path(path)
    text = read_text(path, "Give points as CSV or Slicer .fcsv.")
    table, numbers = _parse_fcsv(path, text) if _slicer(path) else _parse_csv(path, text, space)
    columns = table.columns
    values = [_floats(path, row, columns, n) for row, n in zip(table.rows, numbers, strict=True)]
    if not values:
        raise InputError(f"{path} holds no points.", "Give a file with one point per row.")
    world = torch.tensor(values, dtype=torch.float64)
    return Points(_to_world(world, table.space, grid), _names(table), table)


def write_points(points: Points, path: str | Path, grid: Space | None = None) -> None:
    """Write points in the columns, format and space of the file they came from.

    Args:
        points: What to write; coordinates are rounded to 1e-9.
        path: .fcsv if they came from one, else any other ending.
        grid: The image whose voxels to write, where the space is "voxel".

    Raises:
        OutputError: If the ending does not fit the format.
        RecipeError: If the space is "voxel" and there is no grid.
    """
    path, table = Path(path), points.table
    if _slicer(path) != table.slicer:
        kind = "Slicer .fcsv" if table.slicer else "CSV"
        raise OutputError(f"{path} cannot be written: the points are {kind}.", "Keep the ending.")
    values = _from_world(points.world, table.space, grid).tolist()
    rows = [list(row) for row in table.rows] or [["", "", ""] for _ in values]
    for row, value in zip(rows, values, strict=True):
        for column, number in zip(table.columns, value, strict=True):
            row[column] = repr(round(number, 9) + 0.0)  # no -0.0
    text = io.StringIO()
    text.writelines(f"{line}\n" for line in table.preamble)
    csv.writer(text, delimiter=table.delimiter, lineterminator="\n").writerows(rows)
    path.write_text(text.getvalue(), encoding="utf-8")


def _slicer(path: Path) -> bool:
    return extension(path) == ".fcsv"


def _parse_csv(path: Path, text: str, space: PointSpace) -> tuple[Table, list[int]]:
    """The table, and the line number of every point."""
    first = next((line for line in text.splitlines() if line.strip()), "")
    delimiter = max(",;\t", key=first.count)
    cells, numbers = _cells(path, text.splitlines(), delimiter, 1)
    if not cells:
        return Table(space), []
    names = [cell.strip().lower() for cell in cells[0]]
    if all(axis in names for axis in _AXES):
        x, y, z = (names.index(axis) for axis in _AXES)
        table = Table(space, (x, y, z), (first,), tuple(cells[1:]), delimiter)
        return table, numbers[1:]
    if len(names) < 3 or not all(_is_number(name) for name in names[:3]):
        raise InputError(
            f"{path}, row {numbers[0]}: no columns x, y, z in '{first.strip()[:60]}'.",
            "Name the columns x,y,z, or give a file of numbers only.",
        )
    return Table(space, (0, 1, 2), (), tuple(cells), delimiter), numbers


def _parse_fcsv(path: Path, text: str) -> tuple[Table, list[int]]:
    lines = text.splitlines()
    count = next((n for n, line in enumerate(lines) if not line.startswith("#")), len(lines))
    said = {"coordinatesystem": "RAS", "columns": _FCSV_COLUMNS}  # what old files leave unsaid
    for line in lines[:count]:
        key, found, value = line.lstrip("# ").partition("=")
        if found:
            said[key.strip().lower()] = value.strip()
    system = said["coordinatesystem"].upper()
    names = [name.strip().lower() for name in said["columns"].split(",")]
    if system not in _FCSV_SPACES or not all(axis in names for axis in _AXES):
        raise InputError(
            f"{path} has an unknown CoordinateSystem ({system}) or no columns x, y, z.",
            "Save it again from Slicer, in RAS or LPS.",
        )
    x, y, z = (names.index(axis) for axis in _AXES)
    rows, numbers = _cells(path, lines[count:], ",", count + 1)
    space = _FCSV_SPACES[system]
    return Table(space, (x, y, z), tuple(lines[:count]), tuple(rows), slicer=True), numbers


def _cells(
    path: Path, lines: Sequence[str], delimiter: str, first: int
) -> tuple[list[tuple[str, ...]], list[int]]:
    """The cells of every line that is neither blank nor a comment, and its number in the file."""
    rows, numbers = [], []
    reader = csv.reader(lines, delimiter=delimiter)
    try:
        for row in reader:
            if any(cell.strip() for cell in row) and not row[0].lstrip().startswith("#"):
                rows.append(tuple(row))
                numbers.append(reader.line_num + first - 1)
    except csv.Error as error:
        raise InputError(
            f"{path}, row {reader.line_num + first - 1}: {error}.", "Correct the row."
        ) from None
    return rows, numbers


def _floats(
    path: Path, row: Sequence[str], columns: tuple[int, int, int], number: int
) -> list[float]:
    if len(row) <= max(columns):
        raise InputError(f"{path}, row {number}: only {len(row)} columns.", "Correct the row.")
    for column in columns:
        if not _is_number(row[column]):
            raise InputError(
                f"{path}, row {number}: '{row[column].strip()[:40]}' is not a coordinate.",
                "Write decimal numbers with a point, no units.",
            )
    return [float(row[column]) for column in columns]


def _is_number(cell: str) -> bool:
    try:
        return math.isfinite(float(cell))
    except ValueError:
        return False


def _names(table: Table) -> tuple[str, ...]:
    if not table.preamble:
        return ("",) * len(table.rows)
    header = table.preamble[-1]
    if table.slicer:
        said = [line.partition("=")[2] for line in table.preamble if "columns" in line.lower()]
        header = said[-1] if said else _FCSV_COLUMNS
    names = [name.strip().strip('"').lower() for name in header.split(table.delimiter)]
    order = ("label", "id") if table.slicer else _NAMES
    column = next((names.index(name) for name in order if name in names), len(names))
    return tuple(row[column].strip() if column < len(row) else "" for row in table.rows)


def _to_world(points: Tensor, space: PointSpace, grid: Space | None) -> Tensor:
    if space == "voxel":
        return _grid(grid).voxel_to_world(points)
    return points @ _flip() if space == "lps" else points


def _from_world(points: Tensor, space: PointSpace, grid: Space | None) -> Tensor:
    points = points.detach().cpu().to(torch.float64)
    if space == "voxel":
        return _grid(grid).world_to_voxel(points)
    return points @ _flip() if space == "lps" else points


def _flip() -> Tensor:
    return torch.from_numpy(np.array(LPS[:3, :3]))


def _grid(grid: Space | None) -> Space:
    if grid is None:
        raise RecipeError("Points in voxels need an image.", "Name it, or use --points-space ras.")
    return grid
