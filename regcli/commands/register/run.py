"""register_files: one pair from files to files; checked before, verified after, all or nothing."""

import json
import resource
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from regcli.commands.register.inputs import Inputs, read_inputs
from regcli.commands.register.job import NAMES, Job, check_options
from regcli.commands.register.results import log_text, make_report, shown, write_files
from regcli.errors import MemoryShortageError, OutputError
from regcli.evaluate.report import check_gate
from regcli.io.outputs import SIDECAR, copied, open_outputs
from regcli.machine import free_memory, settings
from regcli.recipe import INITS, RegisterRecipe
from regcli.registration.levels import Watch
from regcli.registration.model_choice import resolve_model
from regcli.registration.pipeline import Result, register
from regcli.registration.prompts import common_codes
from regcli.report.page import render
from regcli.report.pictures import draw

# Measured at 160x192x224 with lncc and mind: peak memory of a run, beyond what Python and torch
# take, per voxel of the box that shows something.
_BYTES_PER_VOXEL = 200
_BYTES_OF_LABELS = 130  # besides one per label and image: measured with two labels
# At most, in files: bytes per voxel of fields (three float32) and of images, and per file of
# headers, structure and text.
_FIELD_BYTES, _IMAGE_BYTES, _OVERHEAD = 12, 8, 16_384
_REPORT_BYTES = 3 << 20
_FIELDS = ("warp", "inverse_warp", "composite", "inverse_composite", "learn2reg")
_IMAGES = ("warped", "inverse_warped", "jacobian", "log_jacobian")


def register_files(
    job: Job, progress: Callable[[str, float], None], inputs: Inputs | None = None
) -> dict[str, Any]:
    """Register a pair of files and write the result.

    Args:
        job: What to do.
        progress: Called with a stage and the share of it that is done.
        inputs: What the job's files hold, if they were read before.

    Returns:
        What regcli.json holds.

    Raises:
        RegcliError: Of the kind that fits; nothing is then left in the folder, but with GateError.
    """
    job = checked(job)
    clock = _Clock()
    names = job.outputs()
    with settings(job.recipe), open_outputs(job.out, names.values(), force=job.force) as folder:
        progress("read", 0.0)
        with clock.measure("read"):
            inputs = read_inputs(job) if inputs is None else inputs
            check_room(job, inputs)
        deadline = clock.began + job.time_limit if job.time_limit else float("inf")
        with _memory_watched(inputs):
            result = register(
                inputs.fixed.image,
                inputs.moving.image,
                job.recipe,
                masks=inputs.masks,
                initial=inputs.initial,
                prompts=inputs.prompts(job.recipe),
                rigidity=None if inputs.rigidity is None else inputs.rigidity.image.data,
                watch=Watch(progress, deadline),
            )
            progress("write", 0.0)
            with clock.measure("write"):
                report = make_report(job, inputs, result, names)
                pictures = draw(shown(inputs, result))
                write_files(folder, names, inputs, result, progress)
        _finish(report, clock, result)
        (folder.stage(names["json"])).write_text(json.dumps(report, indent=1), encoding="utf-8")
        page = render(report, pictures)
        folder.stage(names["report"]).write_text(page, encoding="utf-8")
        text = log_text(report, result)
        folder.stage(names["log"]).write_text(text, encoding="utf-8")
        earlier = _earlier_files(job.out)
        with copied(text, job.log):
            folder.commit(list(names.values()))
        for name in earlier - set(names.values()):
            (job.out / name).unlink(missing_ok=True)
        progress("write", 1.0)
    for gate in job.fail_on:
        check_gate(report, gate)
    return report


def checked(job: Job) -> Job:
    """The job with its model settled, once its options and the names it writes are in order.

    Raises:
        RegcliError: Of the kind that fits.
    """
    job = replace(job, recipe=resolve_model(job.recipe))
    check_options(job)
    spare_inputs(job, job.outputs().values())
    return job


def check_room(job: Job, inputs: Inputs, results: int = 1) -> None:
    """Refuse what needs more memory or disk than there is.

    Args:
        job: Its folder, or one above it, exists.
        inputs: What its files hold.
        results: How many such results will be written.

    Raises:
        MemoryShortageError: If a registration needs more memory.
        OutputError: If the disk is too small.
    """
    _check_memory(inputs, job.recipe)
    _check_disk(job, inputs, results)


def memory_needed(fixed: int, moving: int, recipe: RegisterRecipe, codes: int) -> int:
    """Bytes that a registration takes at most, beyond what Python and torch do.

    Args:
        fixed: Voxels of that image.
        moving: Likewise.
        recipe: Whether labels drive the registration.
        codes: Labels that both label maps have.
    """
    needed = fixed * _BYTES_PER_VOXEL + moving * 20
    return needed + (fixed * (_BYTES_OF_LABELS + 2 * codes) if recipe.use_labels else 0)


def spare_inputs(job: Job, names: Iterable[str]) -> None:
    """Refuse to write over what is read, whatever --force says.

    Args:
        job: Names the inputs, the folder that is written to, and the log.
        names: Files in that folder.

    Raises:
        OutputError: If one of them is an input.
    """
    read = (
        *(job.fixed, job.moving, job.fixed_mask, job.moving_mask, job.smoothness_map),
        *(job.fixed_labels, job.moving_labels, job.fixed_points, job.moving_points),
        None if job.recipe.init in INITS else Path(job.recipe.init),
    )
    inputs = {path.resolve() for path in read if path is not None}
    written = [job.out / name for name in names]
    for path in written if job.log is None else [*written, job.log]:
        if path.resolve() in inputs:
            raise OutputError(
                f"{path} is an input of this run and would be overwritten.",
                "Choose another folder with -o, or another file by --log.",
            )


def _earlier_files(out: Path) -> set[str]:
    """Names of the files that an earlier result in this folder lists as its own."""
    try:
        listed = json.loads((out / SIDECAR).read_text(encoding="utf-8"))["outputs"]
        names = {Path(path).name for path in listed.values()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return set()
    return names & {name for table in NAMES.values() for name in table.values()}


class _Clock:
    """Wall seconds per part of a run."""

    def __init__(self) -> None:
        self.began = time.monotonic()
        self.seconds: dict[str, float] = {}

    @contextmanager
    def measure(self, name: str) -> Iterator[None]:
        began = time.monotonic()
        yield
        self.seconds[name] = time.monotonic() - began


def _check_memory(inputs: Inputs, recipe: RegisterRecipe) -> None:
    sizes = [f.image.data.numel() for f in (inputs.fixed, inputs.moving)]
    used = inputs.labels if recipe.use_labels else None
    codes = 0 if used is None else len(common_codes(*used))
    needed = memory_needed(sizes[0], sizes[1], recipe, codes)
    free = free_memory()
    if free is not None and needed > free:
        raise MemoryShortageError(
            f"This pair needs about {needed / 2**30:.1f} GiB, and {free / 2**30:.1f} GiB are free.",
            "Free some memory, crop the images, or resample them to larger voxels.",
        )


def _check_disk(job: Job, inputs: Inputs, results: int) -> None:
    """Refuse a disk that is too small: HDF5 ends the whole process on meeting its end."""
    names = job.outputs()
    voxels = inputs.fixed.image.data.numel()
    fields = sum(kind in _FIELDS for kind in names) if "warp" in names else 0
    images = sum(kind in _IMAGES for kind in names)
    needed = voxels * (_FIELD_BYTES * fields + _IMAGE_BYTES * images) + _OVERHEAD * len(names)
    needed += _REPORT_BYTES
    needed *= results
    free = shutil.disk_usage(job.out).free
    if needed > free:
        raise OutputError(
            f"{job.out} is on a disk with {free / 2**20:.1f} MiB free; the result may take "
            f"{needed / 2**20:.1f}.",
            "Free some space, or choose another disk with -o.",
        )


@contextmanager
def _memory_watched(inputs: Inputs) -> Iterator[None]:
    try:
        yield
    except (MemoryError, torch.OutOfMemoryError) as error:
        voxels = inputs.fixed.image.data.numel()
        raise MemoryShortageError(
            f"Memory ran out while registering {voxels / 1e6:.0f} million voxels.",
            "Use --device cpu, crop the images, or resample them to larger voxels.",
        ) from error


def _finish(report: dict[str, Any], clock: _Clock, result: Result) -> None:
    parts = ("linear", "features")
    seconds = clock.seconds | {name: result.seconds[name] for name in parts}
    seconds["solve"] = result.seconds["solve"] + result.seconds["apply"]
    seconds["total"] = time.monotonic() - clock.began
    order = ("read", "linear", "features", "solve", "write", "total")
    report["seconds"] = {name: round(seconds[name], 3) for name in order}
    cuda = torch.cuda.max_memory_allocated() / 2**20 if torch.cuda.is_available() else 0.0
    report["peak_memory_mb"] = {"cpu": round(_peak_mb()), "cuda": round(cuda)}


def _peak_mb() -> float:
    """Most memory that this process has held, MiB."""
    try:  # ru_maxrss also counts the process that this one was forked from
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        return next(int(x.split()[1]) for x in lines if x.startswith("VmHWM")) / 2**10
    except (OSError, StopIteration):
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak / (2**20 if sys.platform == "darwin" else 2**10)
