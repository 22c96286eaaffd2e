"""A worker's part of a batch: register one row, and report the outcome in plain values."""

import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from regcli.batch.fingerprint import digests, fingerprint
from regcli.commands.register.job import NAMES, Job
from regcli.commands.register.run import register_files
from regcli.errors import RegcliError
from regcli.io.images import read_image
from regcli.report.png import GREYS, data_uri, greys

_ONE = threading.Lock()  # torch's settings are the process's: its threads take turns
_SIDE = 72  # most pixels along a side of a picture
_ENDS = torch.tensor([0.01, 0.995])  # quantiles that are shown black and white


@dataclass(frozen=True)
class Outcome:
    """The outcome of a row.

    Attributes:
        code: Exit code that `regcli register` would have ended with.
        cause: One sentence; empty if the row was registered.
        remedy: Likewise.
        key: See `fingerprint`.
        files: SHA-256 by file name.
        picture: A `data:` address: the fixed image, then the moved one.
        details: A traceback, if this was a bug.
    """

    code: int = 0
    cause: str = ""
    remedy: str = ""
    key: str = ""
    files: dict[str, str] = field(default_factory=dict)
    picture: str = ""
    details: str = ""


def failure(error: RegcliError) -> Outcome:
    """The outcome of a row that ended with an error."""
    return Outcome(error.code, error.cause, error.remedy)


def run_row(job: Job, threads: int, place: int, check: Callable[[], None]) -> Outcome:
    """Register a row; whatever goes wrong is told, not raised.

    Args:
        job: As the user wants it.
        threads: Of this worker.
        place: Which of the workers this is, from 0: GPUs go round.
        check: Called at every step; may raise KeyboardInterrupt.
    """
    with _ONE:
        try:
            return _registered(job, threads, place, check)
        except RegcliError as error:
            return failure(error)
        except MemoryError:
            return Outcome(5, "Memory ran out.", "Crop the images, or use fewer workers (-j).")
        except Exception as error:  # other rows must go on, whatever this one met
            cause = f"A bug in regcli: {type(error).__name__}: {error}."
            remedy = "Run the row by regcli register with --debug and report what it prints."
            return Outcome(1, cause, remedy, details=traceback.format_exc())


def _registered(job: Job, threads: int, place: int, check: Callable[[], None]) -> Outcome:
    key = fingerprint(job)  # before the files are read: those that change now are found changed
    recipe = replace(job.recipe, device=_device(job.recipe.device, place))
    recipe = replace(recipe, threads=min(recipe.threads, threads))
    torch.set_num_threads(threads)
    # gates are asked by who reads the record
    register_files(replace(job, recipe=recipe, fail_on=()), lambda stage, share: check())
    return Outcome(key=key, files=digests(job), picture=_picture(job))


def _device(name: str, place: int) -> str:
    """A GPU for each worker in turn, where the user left open which."""
    count = torch.cuda.device_count()
    return f"cuda:{place % count}" if name in ("auto", "cuda") and count else name


def _picture(job: Job) -> str:
    """The middle axial slices of the fixed and the moved image, side by side."""
    moved = job.out / NAMES[job.naming]["warped"]
    slices = [_slice(path, job.frame) for path in (job.fixed, moved)]
    return data_uri(torch.cat(slices, 1).numpy(), greys())


def _slice(path: Path, frame: Any) -> Tensor:
    """(rows, columns) uint8, numbers of greys: left is on the left, anterior up."""
    image = read_image(path, frame=frame, constant=True).image.canonical()
    flat = image.space.shape.index(1) if 1 in image.space.shape else 2
    plane = image.data[0].select(flat, image.space.shape[flat] // 2).float().nan_to_num(0, 0, 0)
    low, high = torch.quantile(plane.flatten()[:: max(1, plane.numel() // 100_000)], _ENDS)
    seen = ((plane - low) / (high - low).clamp(min=1e-20)).clamp(0, 1)
    steps = [image.space.spacing[axis] for axis in range(3) if axis != flat]
    sides = [n * step for n, step in zip(seen.shape, steps, strict=True)]
    size = [max(1, round(_SIDE * side / max(sides))) for side in sides]
    small = interpolate(seen[None, None], size=size, mode="area")[0, 0]
    return ((GREYS - 1) * small.T.flip(0)).round().to(torch.uint8)
