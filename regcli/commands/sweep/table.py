"""The numbers of a sweep, side by side: which of them compare, and sweep.csv."""

import csv
from pathlib import Path
from typing import Any

Row = dict[str, Any]

# Columns of sweep.csv after the value, and where a row of sweep.json has them.
COLUMNS = {
    "folder": ("folder",),
    "status": ("verdict", "status"),
    "similarity": ("similarity", "name"),
    "similarity_before": ("similarity", "before"),
    "similarity_linear": ("similarity", "linear"),
    "similarity_after": ("similarity", "after"),
    "ncc_before": ("similarity", "ncc", "before"),
    "ncc_linear": ("similarity", "ncc", "linear"),
    "ncc_after": ("similarity", "ncc", "after"),
    "dice_before": ("labels", "dice", "before"),
    "dice_linear": ("labels", "dice", "linear"),
    "dice_after": ("labels", "dice", "after"),
    "hd95_mm_before": ("labels", "hd95_mm", "before"),
    "hd95_mm_linear": ("labels", "hd95_mm", "linear"),
    "hd95_mm_after": ("labels", "hd95_mm", "after"),
    "tre_mm_before": ("points", "tre_mm", "before"),
    "tre_mm_linear": ("points", "tre_mm", "linear"),
    "tre_mm_after": ("points", "tre_mm", "after"),
    "folds_percent": ("jacobian", "folds_percent"),
    "ndv_percent": ("jacobian", "ndv_percent"),
    "jacobian_min": ("jacobian", "min"),
    "jacobian_max": ("jacobian", "max"),
    "sdlogj": ("jacobian", "sdlogj"),
    "inverse_max_mm": ("inverse", "max_mm"),
    "seconds": ("seconds", "total"),
}


def number(row: Row, column: str) -> Any:
    """The value of a row of sweep.json in a column of sweep.csv; None if it is not known."""
    found: Any = row
    for key in COLUMNS[column]:
        found = found.get(key) if isinstance(found, dict) else None
    return found


def likeness(rows: list[Row]) -> tuple[str, str]:
    """Name of the similarity that all rows share, and its columns' common beginning.

    What regcli.json reports depends on the contrast that was assumed: where rows differ in that,
    only the correlation of the whole images is left to compare.
    """
    names = {row["similarity"]["name"] for row in rows if row["similarity"]}
    return (names.pop(), "similarity") if len(names) == 1 else ("ncc", "ncc")


def write_table(record: dict[str, Any], path: Path) -> None:
    """Write sweep.csv.

    Args:
        record: What sweep.json holds.
        path: CSV, one row per value; what is not known is empty.
    """
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow([record["field"], *COLUMNS, "reasons", "gates"])
        for row in record["rows"]:
            said = [" ".join(row["verdict"]["reasons"]), " ".join(row["gates"])]
            table.writerow([row["name"], *(number(row, column) for column in COLUMNS), *said])
