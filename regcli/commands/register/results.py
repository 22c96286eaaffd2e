"""The results of a registration: regcli.json and the files beside it, read back and checked."""

import shlex
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import regcli
from regcli.commands.register.inputs import Inputs
from regcli.commands.register.job import Job
from regcli.commands.register.plausibility import agreement, alignment, foregrounds, handedness_of
from regcli.errors import InputError, OutputError
from regcli.evaluate.metrics import jacobian_summary, log_determinant
from regcli.evaluate.report import labels_report, points_report, similarity_report
from regcli.evaluate.verdict import verdict
from regcli.image import Image, Space
from regcli.io import warps
from regcli.io.affines import write_affine
from regcli.io.displacements import write_displacement
from regcli.io.files import read_whole
from regcli.io.images import ImageFile, read_header, write_image
from regcli.io.learn2reg import write_learn2reg
from regcli.io.outputs import OutputFolder
from regcli.ops.field import lengths
from regcli.ops.jacobian import jacobian_determinant
from regcli.ops.memory import release
from regcli.registration.equilibrium.solve import STEPS
from regcli.registration.levels import Trace
from regcli.registration.normalize import foreground
from regcli.registration.pipeline import Result
from regcli.registration.stages import CROSS
from regcli.report.pictures import Subject
from regcli.warp import Warp

_REPORT = "Report this, with the images' headers (regcli info)."


def make_report(job: Job, inputs: Inputs, result: Result, names: dict[str, str]) -> dict[str, Any]:
    """The content of regcli.json, without times and memory, which are known at the very end.

    Args:
        job: What was asked.
        inputs: What was read.
        result: What was found.
        names: File name of each output.
    """
    fixed, moving = inputs.fixed.image, inputs.moving.image
    stages, mask = _stages(inputs, result), _mask(inputs)
    similarity = _similarity(fixed, moving, stages, mask, cross=result.metrics == CROSS)
    u, points = result.warp.displacement, inputs.points
    report: dict[str, Any] = {
        "version": regcli.__version__,
        "command": shlex.join(job.command),
        "recipe": job.recipe.to_dict(),
        "metric": list(result.metrics),
        "regularizer": None if u is None else list(job.recipe.regularizers),
        "seed": job.recipe.seed,
        "device": job.recipe.device if job.recipe.device != "auto" else _device(),
        "threads": torch.get_num_threads(),
        "fixed": describe_file(inputs.fixed),
        "moving": describe_file(inputs.moving),
        "smoothness_map": describe_file(inputs.rigidity) if inputs.rigidity else None,
        "weights": None
        if result.weights is None
        else dict(zip(("name", "sha256"), result.weights, strict=True)),
        "direction": "warp maps fixed world points to moving world points",
        "space": "LPS",
        "units": "mm",
        "outputs": {kind: str(job.out / name) for kind, name in names.items()},
        "seconds": {},
        "peak_memory_mb": {},
        "similarity": similarity,
        "alignment": alignment(result.warp.affine),
        "foreground": foregrounds(fixed, moving, result.moved, result.warp, inputs.masks),
        "agreement": agreement(fixed, moving, result.warp, result.contrast, inputs.masks),
        "handedness": vars(handedness_of(fixed, moving, result.warp.affine, inputs.masks)),
        "trust": None if result.trust is None else vars(result.trust),
        "jacobian": None if u is None else jacobian_summary(u, fixed.space, mask),
        "inverse": _inverse_report(result, mask),
        "solver": [_level(trace) for trace in result.traces],
        "diagnosis": None if result.diagnosis is None else vars(result.diagnosis),
        "labels": labels_report(*inputs.labels, stages) if inputs.labels else None,
        "points": None
        if points is None
        else points_report(points[0].world, points[1].world, stages),
        "stopped": result.stopped,
        "notes": result.notes,
        "warnings": [*inputs.fixed.warnings, *inputs.moving.warnings, *result.warnings],
    }
    report["verdict"] = verdict(report, foldless=job.recipe.foldless)
    return report


def shown(inputs: Inputs, result: Result) -> Subject:
    """The content of report.html."""
    return Subject(
        inputs.fixed.image,
        inputs.moving.image,
        result.moved,
        _stages(inputs, result),
        _mask(inputs),
    )


def _stages(inputs: Inputs, result: Result) -> dict[str, Warp]:
    """The map before, after the linear stage and at the end."""
    space = inputs.fixed.image.space
    return {
        "before": Warp(space, torch.eye(4, dtype=torch.float64)),
        # where deforming began, and what must not get worse
        "linear": inputs.initial
        if isinstance(inputs.initial, Warp)
        else Warp(space, result.linear),
        "after": result.warp,
    }


def _mask(inputs: Inputs) -> Tensor:
    """(I, J, K) bool: where numbers are taken."""
    given = inputs.masks.fixed
    return foreground(inputs.fixed.image) if given is None else given[0] > 0


def _similarity(
    fixed: Image, moving: Image, stages: dict[str, Warp], mask: Tensor, *, cross: bool
) -> dict[str, Any]:
    """Likeness where the moving image has voxels, and how much of the mask that is."""
    everywhere = Image(torch.ones_like(moving.data, dtype=torch.uint8), moving.space)
    covered = stages["after"].apply(everywhere, fixed.space, "nearest").data[0] > 0
    if not bool((mask & covered).any()):
        raise InputError(
            "Nothing of the moving image lies on the fixed one after the registration.",
            "Use --init auto; if that was used, check both images (regcli info) and the masks.",
        )
    report = similarity_report(fixed, moving, stages, mask & covered, covered, cross=cross)
    return report | {"coverage_percent": 100 * float(covered[mask].float().mean())}


def _level(trace: Trace) -> dict[str, Any]:
    """The record of one level."""
    return {
        "stage": trace.stage,
        "level": trace.level,
        "shape": list(trace.shape),
        "steps": trace.solution.steps,
        "converged": trace.solution.converged,
        "stopped": trace.solution.stopped,
        "measure": _measure(trace),
        "residuals": trace.solution.residuals,
    }


def _measure(trace: Trace) -> str:
    """The meaning of a level's residuals, in words."""
    return "relative residual" if trace.stage == STEPS else "energy x"


def _inverse_report(result: Result, mask: Tensor) -> dict[str, float]:
    """How far the inverse is off: at its own voxels, and there and back from those of `mask`.

    The way back is interpolated between the inverse's voxels: where the map compresses, that costs
    more than the inverse itself.
    """
    error = result.inverse_error[mask]
    back = result.warp.then(result.inverse).displacement
    gap = torch.zeros(1) if back is None else lengths(back)[0][mask]
    return {
        "mean_mm": float(error.mean()),
        "max_mm": float(error.max()),
        "round_trip_mean_mm": float(gap.mean()),
        "round_trip_max_mm": float(gap.max()),
    }


def _device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def describe_file(file: ImageFile) -> dict[str, Any]:
    """The record of an input: path, hash and grid."""
    space = file.image.space
    return {
        "path": str(file.path),
        "sha256": file.sha256,
        "shape": list(space.shape),
        "spacing": list(space.spacing),
        "affine": space.affine.tolist(),
    }


def write_files(
    folder: OutputFolder,
    names: dict[str, str],
    inputs: Inputs,
    result: Result,
    progress: Callable[[str, float], None],
) -> None:
    """Write every file but the JSON and the log, side by side, and read each back."""
    fixed, moving = inputs.fixed.image, inputs.moving.image
    warp, inverse = result.warp, result.inverse
    path = {kind: folder.stage(name) for kind, name in names.items()}
    images: dict[str, Callable[[], Image]] = {
        "warped": lambda: result.moved,
        "jacobian": lambda: _determinant(warp),
        "log_jacobian": lambda: _determinant(warp, log=True),
        "inverse_warped": lambda: inverse.apply(fixed, moving.space, "linear"),
    }
    transforms: dict[str, Callable[[], None]] = {
        "affine": lambda: write_affine(warp.affine, path["affine"]),
        "composite": lambda: warps.write_composite(warp, path["composite"]),
        "inverse_composite": lambda: warps.write_inverse_composite(
            inverse, fixed.space, path["inverse_composite"]
        ),
        "warp": lambda: write_displacement(warp.space, warp.displacement, path["warp"]),
        "inverse_warp": lambda: write_displacement(
            *warps.inverse_parts(inverse, fixed.space), path["inverse_warp"]
        ),
        "learn2reg": lambda: write_learn2reg(warp, moving.space, path["learn2reg"]),
    }

    def write(kind: str) -> None:
        if kind in transforms:
            transforms[kind]()
        else:
            image = images[kind]()
            write_image(image, path[kind])
            verify_image(path[kind], image.space)

    release()  # of what the report took
    wanted = [kind for kind in names if kind in images or kind in transforms]
    with ThreadPoolExecutor(max(1, torch.get_num_threads())) as pool:
        jobs = [pool.submit(write, kind) for kind in wanted]
        for done, job in enumerate(jobs):
            job.result()
            progress("write", (done + 1) / len(jobs))
    release()
    verify(path, warp, inverse)


def verify_image(path: Path, space: Space) -> None:
    """Read an image file back: whole, and on its grid.

    Raises:
        OutputError: If it lies elsewhere.
    """
    read_whole(path)
    if not read_header(path).space.agrees(space, tolerance_mm=1e-2):
        raise OutputError(f"{path.name} was written but reads back on another grid.", _REPORT)


def verify(path: dict[str, Path], warp: Warp, inverse: Warp) -> None:
    """Read the transforms back and carry points through them.

    Raises:
        OutputError: If a file does not hold the map that was found.
    """
    generator = torch.Generator().manual_seed(0)
    index = torch.rand(100, 3, generator=generator, dtype=torch.float64)
    points = warp.space.voxel_to_world(index * (torch.tensor(warp.space.shape) - 1))
    carried = warp(points)
    forth: list[warps.TransformFile] = [path[k] for k in ("warp", "affine") if k in path]
    back: list[warps.TransformFile] = [(path["affine"], True)]
    back += [path[k] for k in ("inverse_warp",) if k in path]
    chains: dict[str, tuple[list[warps.TransformFile], Tensor, Tensor]] = {
        "composite": ([path["composite"]], points, carried),
        "warp": (forth, points, carried),
        "inverse_composite": ([path["inverse_composite"]], carried, inverse(carried)),
        "inverse_warp": (back, carried, inverse(carried)),
    }
    for kind, (files, start, end) in chains.items():
        gap = float((warps.read_warp(files)(start) - end).norm(dim=1).max())
        if not gap < 1e-2:
            name = path[kind].name if kind in path else path["affine"].name
            raise OutputError(f"{name} was written but reads back {gap:.3g} mm off.", _REPORT)


def _determinant(warp: Warp, *, log: bool = False) -> Image:
    assert warp.displacement is not None
    det = jacobian_determinant(warp.space.vectors_to_voxel(warp.displacement))
    return Image(log_determinant(det) if log else det, warp.space)


def log_text(report: dict[str, Any], result: Result) -> str:
    """regcli.log: the decisions and levels of a run, for people."""
    lines = [f"regcli {report['version']}", f"command: {report['command']}"]
    lines.append(f"moving {report['moving']['path']} -> fixed {report['fixed']['path']}")
    lines += result.notes
    for trace in result.traces:
        s = trace.solution
        end = "the limit" if s.stopped == "steps" else s.stopped
        lines.append(
            f"{trace.stage} level {trace.level + 1} {'x'.join(map(str, trace.shape))}: "
            f"{s.steps} steps ({end}), {_measure(trace)} {s.residuals[-1]:.4f}"
        )
    lines += [f"warning: {w}" for w in report["warnings"]]
    lines.append(f"seconds: {report['seconds']}")
    lines.append(f"verdict: {report['verdict']['status']} {' '.join(report['verdict']['reasons'])}")
    return "\n".join(lines) + "\n"
