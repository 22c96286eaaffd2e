"""The summary of a batch: what became of every row, worst first, as CSV and as a page."""

import csv
import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import regcli
from regcli.batch.page import page_text
from regcli.batch.plan import Batch, Task
from regcli.batch.worker import Outcome
from regcli.commands.register.job import Job
from regcli.commands.sweep.table import COLUMNS, number
from regcli.errors import GateError
from regcli.evaluate.report import check_gate
from regcli.io.outputs import SIDECAR

NUMBERS = tuple(name for name in COLUMNS if name not in ("folder", "status"))
HEAD = ("row", "status", "exit_code", "moving", "fixed", "out", "cause", "remedy", "reasons")
_WORST_FIRST = ("FAIL", "WARN", "PASS")


def write_summary(
    batch: Batch, finished: Sequence[tuple[Task, Outcome]], paths: Sequence[Path]
) -> dict[str, Any]:
    """Write summary.csv and summary.html.

    Args:
        batch: What was done.
        finished: Every row, and what became of it.
        paths: Where to write the CSV and the page.

    Returns:
        What both hold, as plain values: {"version", "command", "counts", "outputs", "rows"}.
    """
    rows = _sorted([_row(task, outcome) for task, outcome in finished])
    statuses = [row["status"] for row in rows]
    counts: dict[str, int] = {name: statuses.count(name) for name in _WORST_FIRST}
    record = {
        "version": regcli.__version__,
        "command": shlex.join(batch.common.command),
        "counts": counts | {"failed": sum(row["exit_code"] != 0 for row in rows)},
        "outputs": {path.suffix[1:]: str(batch.out / path.name) for path in paths},
        "rows": rows,
    }
    _write_table(rows, paths[0])
    pictures = {task.row: outcome.picture for task, outcome in finished}
    paths[1].write_text(page_text(record, pictures, batch.out), encoding="utf-8")
    return record


def _row(task: Task, outcome: Outcome) -> dict[str, Any]:
    """A row of the summary."""
    job = task.job
    row = {"row": task.row, "status": "FAIL", "exit_code": outcome.code}
    row |= {side: _shown(getattr(job, side)) for side in ("moving", "fixed")}
    row |= {"out": task.name, "cause": outcome.cause, "remedy": outcome.remedy, "reasons": ""}
    if outcome.code:
        return row | dict.fromkeys(NUMBERS)
    report = json.loads((job.out / SIDECAR).read_text(encoding="utf-8"))
    row["status"] = report["verdict"]["status"]
    row["reasons"] = " ".join(report["verdict"]["reasons"])
    return row | {name: number(report, name) for name in NUMBERS} | _gated(job, report)


def _shown(path: Path) -> str:
    return "" if path == Path() else str(path)


def _gated(job: Job, report: dict[str, Any]) -> dict[str, Any]:
    """The changes to a row whose result violates a gate."""
    causes, remedy = [], ""
    for gate in job.fail_on:
        try:
            check_gate(report, gate)
        except GateError as error:
            causes, remedy = [*causes, error.cause], error.remedy
    if not causes:
        return {}
    cause = " ".join(causes)
    return {"status": "FAIL", "exit_code": GateError.code, "cause": cause, "remedy": remedy}


def _sorted(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Worst first: no result, then by verdict; then by Dice, or what the similarity gained."""
    results = [row for row in rows if row["similarity_after"] is not None]
    labelled = all(row["dice_after"] is not None for row in results)

    def place(row: dict[str, Any]) -> tuple[bool, int, float, int]:
        known = row["similarity_after"] is not None
        good = 0.0
        if known:
            gain = row["similarity_after"] - row["similarity_before"]
            good = row["dice_after"] if labelled else gain
        return known, _WORST_FIRST.index(row["status"]), good, row["row"]

    return sorted(rows, key=place)


def _write_table(rows: list[dict[str, Any]], path: Path) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, (*HEAD, *NUMBERS))
        table.writeheader()
        table.writerows(rows)
