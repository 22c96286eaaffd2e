"""task_files: a Learn2Reg task measured as its evaluator does, and beside that as it should be."""

import math
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

import regcli
from regcli.commands.evaluate.run import record_folder
from regcli.errors import InputError, RecipeError
from regcli.evaluate import learn2reg
from regcli.evaluate.metrics import hd95, jacobian_summary
from regcli.image import Space
from regcli.io.images import read_header, read_image
from regcli.io.learn2reg import read_voxel_displacement, warp_of
from regcli.io.points import read_points
from regcli.io.tasks import Method, Task, TaskPair, find_field, read_task, read_zooms


@dataclass(frozen=True)
class TaskJob:
    """All options of a Learn2Reg evaluation.

    Attributes:
        task: Learn2Reg's *_evaluation_config.json.
        fields: Folder of disp_0001_0002.nii.gz and so on, or the one file of a task of one pair.
        data: Folder of images, labels and landmarks; default the task's.
        out: Folder for evaluate.json and evaluate.csv, or None.
        force: Replace what is there.
        command: For the record.
    """

    task: Path
    fields: Path | None = None
    data: Path | None = None
    out: Path | None = None
    force: bool = False
    command: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class _Case:
    """A pair's arrays: displacement (I, J, K, 3) voxels; labels (I, J, K), if a method needs them.

    The mask is None where there is none, or the task does without.
    """

    task: Task
    pair: TaskPair
    displacement: np.ndarray
    labels: tuple[np.ndarray, np.ndarray, np.ndarray] | None  # fixed, moving, moved
    mask: np.ndarray | None


def task_files(job: TaskJob) -> dict[str, Any]:
    """Measure every pair of a task, and write the record if the job names a folder.

    Returns:
        "name", "aggregates" and "cases" as the evaluator writes them, with null for what is no
        number, and in "regcli" the numbers that it has no or other definitions of.

    Raises:
        RegcliError: Of the kind that fits.
    """
    task = read_task(job.task, job.data)
    fields = {pair: _field(job, task, pair) for pair in task.pairs}
    with record_folder(job.out, force=job.force) as write:
        cases: dict[str, dict[str, Any]] = {}
        beside: dict[str, dict[str, Any]] = {}
        warnings: list[str] = []
        for pair, field in fields.items():
            case = _read_case(task, pair, field, warnings)
            cases[pair.name] = _measure(case)
            beside[pair.name] = _measure_beside(case)
        record = {
            "version": regcli.__version__,
            "command": shlex.join(job.command),
            "name": task.name,
            "aggregates": _aggregates(task, cases),
            "cases": cases,
            "regcli": beside,
            "warnings": warnings,
            "outputs": {},
        }
        record = _plain(record)
        write(record, rows_of(record))
    return record


def rows_of(record: dict[str, Any]) -> list[dict[str, Any]]:
    """evaluate.csv: a row per case."""
    return [
        {"case": name}
        | {method: value["mean"] for method, value in case.items()}
        | {f"regcli_{key}": value for key, value in record["regcli"][name].items()}
        for name, case in record["cases"].items()
    ]


def _field(job: TaskJob, task: Task, pair: TaskPair) -> Path:
    place = job.fields or job.task.parent
    if place.is_dir():
        return find_field(place, pair)
    if len(task.pairs) > 1:
        raise RecipeError(
            f"--warp {place} is one file, and the task has {len(task.pairs)} pairs.",
            "Give the folder that holds the displacement fields.",
        )
    return place


def _read_case(task: Task, pair: TaskPair, field: Path, warnings: list[str]) -> _Case:
    u = read_voxel_displacement(field, task.shape)
    labels = None
    if any(method.metric in ("dice", "hd95") for method in task.methods):
        fixed = _voxels(task.beside(pair.fixed, "labels"), task.shape)
        moving = _voxels(task.beside(pair.moving, "labels"))
        labels = (fixed, moving, learn2reg.carry_labels(moving, u))
    mask, path = None, task.beside(pair.fixed, "masks")
    if task.masked and path.exists():
        mask = _voxels(path, task.shape)
    elif task.masked:
        warnings.append(f"{path} does not exist: {pair.name} is measured without a mask.")
    return _Case(task, pair, u, labels, mask)


def _measure(case: _Case) -> dict[str, Any]:
    """The evaluator's measures of a case."""
    found: dict[str, Any] = {}
    for method in case.task.methods:
        detailed = _detailed(case, method)
        several = isinstance(detailed, list)
        mean = learn2reg.mean_of_known(detailed) if several else detailed
        found[method.name] = {"mean": mean, "detailed": detailed}
        if method.metric == "sdlogj":  # never anything else, as determinants are clipped first
            found["num_foldings"] = {"mean": 0.0, "detailed": 0.0}
    return found


def _detailed(case: _Case, method: Method) -> float | list[float]:
    u, pair = case.displacement, case.pair
    if method.metric == "sdlogj":
        return learn2reg.log_determinant_spread(u, case.mask)
    if method.metric == "ndv":
        moving = _voxels(case.task.data / pair.moving, u.shape[:3], labels=False)
        return learn2reg.non_diffeomorphic_percent(u, moving)
    if method.metric == "tre":
        return _landmark_errors(case, method)
    assert case.labels is not None
    measure = learn2reg.overlaps if method.metric == "dice" else learn2reg.surface_distances
    return measure(*case.labels, method.labels)


def _landmark_errors(case: _Case, method: Method) -> float | list[float]:
    fixed, moving = case.task.landmarks(case.pair, method.dest)
    if fixed.suffix != ".csv":
        a = _voxels(fixed, case.task.shape)
        return learn2reg.centroid_error(
            a, learn2reg.carry_labels(_voxels(moving), case.displacement)
        )
    a, b = (read_points(path).world.numpy() for path in (fixed, moving))  # plain voxel numbers
    if len(a) != len(b):
        raise InputError(
            f"{fixed} has {len(a)} points, {moving} {len(b)}.", "Give files whose rows correspond."
        )
    zooms = read_zooms(case.task.data / case.pair.moving)
    return learn2reg.landmark_errors(a, b, case.displacement, zooms).tolist()


def _measure_beside(case: _Case) -> dict[str, Any]:
    """Folds, NDV and spread without an offset, in the fixed mask if there is one; HD95 in mm."""
    spaces = [_space(case.task, image) for image in (case.pair.fixed, case.pair.moving)]
    plain = Space(case.task.shape, torch.eye(4, dtype=torch.float64))
    fixed, moving = (plain, plain) if None in spaces else spaces
    assert fixed is not None
    assert moving is not None
    warp = warp_of(case.displacement, fixed, moving)
    assert warp.displacement is not None
    mask = None if case.mask is None else torch.from_numpy(case.mask)
    found: dict[str, Any] = jacobian_summary(warp.displacement, fixed, mask)
    codes = {code for method in case.task.methods for code in method.labels}
    if case.labels is not None:
        a, _, moved = (torch.from_numpy(labels) for labels in case.labels)
        distances = hd95(a, moved, fixed.spacing, codes)
        found["hd95_mm"] = learn2reg.mean_of_known(list(distances.values()))
    return found


def _space(task: Task, image: str) -> Space | None:
    """The grid of an image, or of its labels where the image is not there."""
    for path in (task.data / image, task.beside(image, "labels")):
        if path.exists():
            return read_header(path).space
    return None


def _aggregates(task: Task, cases: dict[str, dict[str, Any]]) -> dict[str, dict[str, float]]:
    return {
        method.name: learn2reg.aggregate(
            [case[method.name]["mean"] for case in cases.values()], method.metric
        )
        for method in task.methods
    }


def _voxels(path: Path, shape: tuple[int, ...] | None = None, *, labels: bool = True) -> np.ndarray:
    """An image's voxels, which must be those of the displacement if a shape is given."""
    values = read_image(path, labels=labels, constant=True).image.data[0].numpy()
    if shape is not None and values.shape != shape:
        raise InputError(
            f"{path} has the shape {values.shape}, the displacement {shape}.",
            "Give the data that the task's expected_shape belongs to.",
        )
    return values


def _plain(value: Any) -> Any:
    """With None for numbers that JSON cannot hold."""
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_plain(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
