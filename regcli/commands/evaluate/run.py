"""evaluate_files: how well labels and points agree, and how a warp folds, as JSON and CSV."""

import contextlib
import csv
import json
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

import regcli
from regcli.commands.evaluate.job import SIDES, Evaluation, check
from regcli.commands.jacobian import measure, read_deformation, read_inside
from regcli.commands.record import read_map, spare_result
from regcli.errors import InputError, RecipeError
from regcli.evaluate.learn2reg import mean_of_known, surface_distances
from regcli.evaluate.metrics import label_sizes, tre
from regcli.evaluate.report import check_gate, finite, labels_report
from regcli.image import Image, Space
from regcli.io.images import read_header, read_image
from regcli.io.outputs import open_outputs
from regcli.io.points import Points, read_points
from regcli.warp import Warp

_QUANTILES = {"min": 0.0, "median": 0.5, "p75": 0.75, "p90": 0.9, "p95": 0.95, "max": 1.0}
OUTPUTS = ("evaluate.json", "evaluate.csv")
_GRID_MM = 1e-2  # corners of one grid, as two tools write its header


def evaluate_files(job: Evaluation) -> dict[str, Any]:
    """Compare what a job names, and write the record if it names a folder.

    Returns:
        What evaluate.json holds: "labels", "points" and "jacobian" as in regcli.json, each None
        if it was not asked for.

    Raises:
        RegcliError: Of the kind that fits.
    """
    check(job)
    with record_folder(job.out, force=job.force) as write:
        record = _compare(job)
        write(record, _rows(record))
    return record


def check_gates(job: Evaluation, record: dict[str, Any]) -> None:
    """Raise GateError if a record is as --fail-on says it must not be."""
    for gate in job.fail_on:
        check_gate(record, gate)


@contextlib.contextmanager
def record_folder(out: Path | None, *, force: bool) -> Iterator[Callable[..., None]]:
    """A function (record, rows) that writes OUTPUTS, in a folder that is checked on entering.

    Args:
        out: The folder; None to write nothing.
        force: Replace what is there.

    Raises:
        OutputError: If the folder holds a result, or cannot be written.
    """
    if out is None:
        yield lambda record, rows: None
        return
    spare_result(out)
    with open_outputs(out, OUTPUTS, force=force) as folder:

        def write(record: dict[str, Any], rows: list[dict[str, Any]]) -> None:
            record["outputs"] = {name: str(out / name) for name in OUTPUTS}
            text = json.dumps(record, indent=1, allow_nan=False)
            folder.stage(OUTPUTS[0]).write_text(text, encoding="utf-8")
            columns = list(dict.fromkeys(key for row in rows for key in row))
            with folder.stage(OUTPUTS[1]).open("w", newline="", encoding="utf-8") as file:
                table = csv.DictWriter(file, columns)
                table.writeheader()
                table.writerows(rows)
            folder.commit(OUTPUTS)

        yield write


def _compare(job: Evaluation) -> dict[str, Any]:
    phi, fixed, moving = read_map(job.transforms) if job.transforms else (None, None, None)
    measured = phi if job.warp is None else read_deformation(job.warp)
    deforms = measured is not None and measured.displacement is not None
    if not (deforms or job.fixed_labels or job.fixed_points):
        raise InputError(
            "The transforms are linear: they fold nowhere.",
            "Give a deformable result, or labels or points to compare.",
        )
    if job.mask is not None and not deforms:
        raise RecipeError("--mask has no effect without a deformation.", "Leave it out.")
    warnings: list[str] = []
    labels = _read_labels(job, warnings)
    if labels is not None:
        fixed = fixed or labels[0].space
        moving = moving or (labels[1].space if job.moving_labels else None)
    points = _read_points(job, fixed, moving)
    inside = None
    if measured is not None and job.mask is not None:
        inside = read_inside(job.mask, measured.space)
    return {
        "version": regcli.__version__,
        "command": shlex.join(job.command),
        "inputs": _inputs(job),
        "labels": labels and _compare_labels(job, *labels, phi, warnings),
        "points": points and _compare_points(job, *points, phi),
        "jacobian": measure(measured, inside) if measured is not None and deforms else None,
        "warnings": warnings,
        "outputs": {},
    }


def _inputs(job: Evaluation) -> dict[str, Any]:
    """The files that were given, by the names of their options."""
    files = [f"{side}_{what}" for what in ("labels", "points") for side in SIDES]
    given: dict[str, Any] = {n: str(getattr(job, n)) for n in files if getattr(job, n)}
    if job.transforms:
        given["transform"] = [str(path) for path in job.transforms]
    return given | {n: str(getattr(job, n)) for n in ("warp", "mask") if getattr(job, n)}


def _read_labels(job: Evaluation, warnings: list[str]) -> tuple[Image, Image] | None:
    other = job.moved_labels or job.moving_labels
    if job.fixed_labels is None or other is None:
        return None
    for path in (job.fixed_labels, other):
        if read_header(path).frames > 1:
            raise InputError(f"{path} is 4-D.", "Give one label map.")
    files = [read_image(path, labels=True, constant=True) for path in (job.fixed_labels, other)]
    fixed, second = (file.image for file in files)
    warnings += [warning for file in files for warning in file.warnings]
    if job.moved_labels and not fixed.space.agrees(second.space, _GRID_MM):
        same = fixed.space.shape == second.space.shape
        warnings.append(
            f"{other} is not on the grid of {job.fixed_labels}"
            + (", though it has its shape" if same else "")
            + "; it is resampled onto it."
        )
    return fixed, second


def _read_points(
    job: Evaluation, fixed: Space | None, moving: Space | None
) -> tuple[Points, Points] | None:
    other = job.moved_points or job.moving_points
    if job.fixed_points is None or other is None:
        return None
    space, grids = job.points_space, (fixed, fixed if job.moved_points else moving)
    if space == "voxel" and None in grids:
        raise RecipeError(
            "Points in voxels need grids.", "Give label maps or -t OUT too, or --points-space ras."
        )
    a, b = read_points(job.fixed_points, space, grids[0]), read_points(other, space, grids[1])
    if len(a.world) != len(b.world):
        raise InputError(
            f"{job.fixed_points} has {len(a.world)} points, {other} {len(b.world)}.",
            "Give files whose rows correspond.",
        )
    return a, b


def _compare_labels(
    job: Evaluation, fixed: Image, other: Image, phi: Warp | None, warnings: list[str]
) -> dict[str, Any]:
    """Dice and HD95, before and after if the labels are carried here."""
    in_fixed, in_other = (label_sizes(image.data).keys() - {0} for image in (fixed, other))
    carried = job.moving_labels is not None
    codes = sorted(job.codes or (in_fixed & in_other if carried else in_fixed | in_other))
    if not codes or not in_fixed | in_other:
        raise InputError(
            f"{job.fixed_labels} and {job.moved_labels or job.moving_labels} have no label in "
            "common.",
            "Give label maps with the same codes for the same structures.",
        )
    if absent := [code for code in codes if code not in in_fixed | in_other]:
        raise InputError(f"Label {absent[0]} is in neither label map.", "Correct --labels.")
    if alone := [str(code) for code in codes if (code in in_fixed) != (code in in_other)]:
        warnings.append(f"In one of the label maps only: {', '.join(alone)}. Dice 0, no HD95.")
    identity = Warp(fixed.space, torch.eye(4, dtype=torch.float64))
    stages = {"after": identity}
    if carried and phi is not None:
        stages = {"before": identity, "after": phi}
    report = labels_report(fixed, other, stages, codes)
    moved = stages["after"].apply(other, fixed.space, "label")
    arrays = (fixed.data[0].numpy(), other.data[0].numpy(), moved.data[0].numpy())
    distances = surface_distances(*arrays, codes)
    report["hd95_learn2reg_voxels"] = {
        "after": finite(mean_of_known(distances)),
        "per_label": {str(c): finite(d) for c, d in zip(codes, distances, strict=True)},
    }
    return report


def _compare_points(
    job: Evaluation, fixed: Points, other: Points, phi: Warp | None
) -> dict[str, Any]:
    """TRE: mean, spread and quantiles; and of every point, by its name or row."""
    a, before = fixed.world, {}
    if job.moving_points and phi is not None:
        before = {"before": float(tre(a, other.world).mean())}
        a = phi(a)
    errors = tre(a, other.world)
    pairs = enumerate(zip(fixed.names, other.names, strict=True), start=1)
    names = [first or second or str(row) for row, (first, second) in pairs]
    quantiles = {name: float(errors.quantile(share)) for name, share in _QUANTILES.items()}
    return {
        "number": len(errors),
        "tre_mm": before
        | {"after": float(errors.mean()), "std": float(errors.std(correction=0))}
        | quantiles,
        "per_point": [
            {"name": name, "tre_mm": error}
            for name, error in zip(names, errors.tolist(), strict=True)
        ],
    }


def _rows(record: dict[str, Any]) -> list[dict[str, Any]]:
    """evaluate.csv: a row per label and per point."""
    rows: list[dict[str, Any]] = []
    if labels := record["labels"]:
        metrics = [name for name in labels if "per_label" in labels[name]]
        for code in labels["dice"]["per_label"]:
            numbers = {name: labels[name]["per_label"].get(code) for name in metrics}
            rows.append({"kind": "label", "name": code} | numbers)
    if points := record["points"]:
        rows += [{"kind": "point"} | point for point in points["per_point"]]
    if jacobian := record["jacobian"]:
        rows.append({"kind": "jacobian", "name": ""} | jacobian)
    return rows
