"""Inputs: the files of a job, read and checked before any computing."""

import math
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from regcli.commands.record import read_result
from regcli.commands.register.job import Job
from regcli.errors import InputError, RecipeError
from regcli.image import Image
from regcli.io.images import ImageFile, read_header, read_image
from regcli.io.points import Points, read_points
from regcli.io.warps import read_warp
from regcli.recipe import INITS, RegisterRecipe
from regcli.registration.checks import Masks
from regcli.registration.prompts import Prompts
from regcli.warp import Warp

_FAR_MM = 20.0  # a landmark may lie a little outside of what was scanned


@dataclass(frozen=True, eq=False)
class Inputs:
    """The contents of a job's files."""

    fixed: ImageFile
    moving: ImageFile
    masks: Masks
    labels: tuple[Image, Image] | None
    points: tuple[Points, Points] | None
    initial: Tensor | Warp | None
    rigidity: ImageFile | None

    def prompts(self, recipe: RegisterRecipe) -> Prompts | None:
        """Points and labels that drive the registration, if the recipe wants that."""
        labels = self.labels if recipe.use_labels else None
        points = None
        if recipe.use_points and self.points is not None:
            points = (self.points[0].world, self.points[1].world)
        return Prompts(labels, points) if labels or points else None


def read_inputs(job: Job) -> Inputs:
    """Every file of a job, read and checked.

    Raises:
        InputError: Naming the first file that cannot be used.
    """
    if job.frame is not None and all(
        read_header(path).frames == 1 for path in (job.fixed, job.moving)
    ):
        raise RecipeError("--frame has no effect: neither image is 4-D.", "Leave it out.")
    fixed, moving = (read_image(p, frame=job.frame) for p in (job.fixed, job.moving))
    masks = Masks(_mask(job.fixed_mask, fixed), _mask(job.moving_mask, moving))
    labels = points = initial = None
    if job.fixed_labels and job.moving_labels:
        labels = (_labels(job.fixed_labels), _labels(job.moving_labels))
        if not set(labels[0].data.unique().tolist()) & set(labels[1].data.unique().tolist()) - {0}:
            raise InputError(
                f"{job.fixed_labels} and {job.moving_labels} have no label in common.",
                "Give label maps with the same codes for the same structures.",
            )
    if job.fixed_points and job.moving_points:
        points = (
            read_points(job.fixed_points, job.points_space, fixed.image.space),
            read_points(job.moving_points, job.points_space, moving.image.space),
        )
        if job.recipe.use_points:
            for path, side, image in (
                (job.fixed_points, points[0], fixed),
                (job.moving_points, points[1], moving),
            ):
                _check_inside(path, side.world, image)
        if len(points[0].world) != len(points[1].world):
            raise InputError(
                f"{job.fixed_points} has {len(points[0].world)} points, {job.moving_points} "
                f"{len(points[1].world)}.",
                "Give files whose rows correspond.",
            )
    if job.recipe.init not in INITS:
        initial = _initial(Path(job.recipe.init))
    rigidity = _rigidity(job.smoothness_map, fixed)
    return Inputs(fixed, moving, masks, labels, points, initial, rigidity)


def _initial(path: Path) -> Tensor | Warp:
    """The affine of a file, or the whole map of a warp, a composite, or a result folder."""
    result = path.is_dir() or path.suffix == ".json"
    warp = read_result(path)[0] if result else read_warp(path)
    return warp.affine if warp.displacement is None else warp


def _rigidity(path: Path | None, image: ImageFile) -> ImageFile | None:
    if path is None:
        return None
    factor = _on_grid_of(path, image)
    least, most = float(factor.image.data.min()), float(factor.image.data.max())
    if not 0 < least <= most < math.inf:
        raise InputError(
            f"{path}: a factor of the regularization must be above 0 everywhere; these go from "
            f"{least:g} to {most:g}.",
            "1 leaves it as it is; use 0.01 where the map may do as it likes.",
        )
    return factor


def _mask(path: Path | None, image: ImageFile) -> Tensor | None:
    return None if path is None else _on_grid_of(path, image).image.data


def _on_grid_of(path: Path, image: ImageFile) -> ImageFile:
    found = read_image(path, constant=True)
    if not found.image.space.agrees(image.image.space, tolerance_mm=0.1):
        raise InputError(
            f"{path} is not on the grid of {image.path}.",
            "Give one with the image's shape and header.",
        )
    return found


def _check_inside(path: Path, points: Tensor, image: ImageFile) -> None:
    """Refuse points to register by that are nowhere near their image."""
    space = image.image.space
    last = torch.tensor(space.shape, dtype=torch.float64) - 1
    voxels = space.world_to_voxel(points)
    nearest = voxels.clamp(min=torch.zeros(3), max=last)
    away = (space.voxel_to_world(nearest) - points).norm(dim=1)
    if float(away.max()) > _FAR_MM:
        raise InputError(
            f"{path}: point {int(away.argmax()) + 1} lies {float(away.max()):.0f} mm outside of "
            f"{image.path}.",
            "Check --points-space (ras, lps or voxel) and which file belongs to which image.",
        )


def _labels(path: Path) -> Image:
    return read_image(path, labels=True).image
