"""The numbers of an evaluation, as a terminal shows them."""

import io
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

_WIDTH = 80
_LABELS = {"dice": ("Dice", 4), "hd95_mm": ("HD95 mm", 2), "hd95_learn2reg_voxels": ("L2R vox", 2)}
_POINTS = ("before", "after", "std", "median", "p75", "p90", "p95", "max")
_BESIDE = {"folds_percent": "folds %", "ndv_percent": "NDV %", "sdlogj": "SDlogJ"}
_BESIDE |= {"hd95_mm": "HD95 mm"}


def tables(record: dict[str, Any]) -> str:
    """The tables of labels, points and folds in evaluate.json, for people."""
    parts = []
    if record["labels"]:
        parts.append(_labels(record["labels"]))
    if points := record["points"]:
        table = _table("TRE mm", *(name for name in _POINTS if name in points["tre_mm"]))
        numbers = (points["tre_mm"][n] for n in _POINTS if n in points["tre_mm"])
        table.add_row(f"{points['number']} points", *(_number(n, 3) for n in numbers))
        parts.append(_text(table))
    if jacobian := record["jacobian"]:
        table = _table("Jacobian", "folds %", "NDV %", "min", "max", "SDlogJ")
        keys = ("folds_percent", "ndv_percent", "min", "max", "sdlogj")
        table.add_row("", *(_number(jacobian[key], 4) for key in keys))
        parts.append(_text(table))
    return "\n\n".join(parts)


def task_table(record: dict[str, Any]) -> str:
    """A Learn2Reg task's numbers by case and together; then what its evaluator does not say."""
    names = list(record["aggregates"])
    table = _table("Learn2Reg", *names)
    for case, found in record["cases"].items():
        table.add_row(case, *(_number(found[name]["mean"], 4) for name in names))
    for share in ("mean", "std", "30"):
        table.add_row(share, *(_number(record["aggregates"][n][share], 4) for n in names))
    beside = record["regcli"]
    known = [key for key in _BESIDE if any(key in found for found in beside.values())]
    other = _table("regcli", *(_BESIDE[key] for key in known))
    for case, found in beside.items():
        other.add_row(case, *(_number(found.get(key), 4) for key in known))
    return f"{_text(table)}\n\n{_text(other)}"


def _labels(labels: dict[str, Any]) -> str:
    metrics = [name for name in _LABELS if name in labels]
    table = _table("label", *(_LABELS[name][0] for name in metrics))
    for code in labels["dice"]["per_label"]:
        numbers = ((labels[n]["per_label"].get(code), _LABELS[n][1]) for n in metrics)
        table.add_row(code, *(_number(*pair) for pair in numbers))
    for stage, name in (("before", "mean before"), ("after", "mean")):
        if stage in labels["dice"]:
            numbers = ((labels[n].get(stage), _LABELS[n][1]) for n in metrics)
            table.add_row(name, *(_number(*pair) for pair in numbers))
    return _text(table)


def _table(first: str, *columns: str) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), show_edge=False)
    table.add_column(first, overflow="fold")
    for column in columns:
        table.add_column(column, justify="right", overflow="fold")
    return table


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _text(table: Table) -> str:
    """The table as lines that are no wider than a terminal."""
    out = io.StringIO()
    console = Console(file=out, width=_WIDTH, markup=False, highlight=False, emoji=False)
    console.print(table)
    return "\n".join(line.rstrip() for line in out.getvalue().rstrip().splitlines())
