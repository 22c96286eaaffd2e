"""apply_files: images, label maps and points carried by a result, each the right way."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from regcli.errors import InputError, RecipeError
from regcli.image import Image, Space
from regcli.io import warps
from regcli.io.nifti import read_header, read_image, write_image
from regcli.io.outputs import SIDECAR, OutputFolder, open_outputs
from regcli.io.points import PointSpace, read_points, write_points
from regcli.pipeline import interpolation_of
from regcli.warp import Warp

POINT_FILES = (".csv", ".fcsv")
_LIKE_LABELS = 0.6  # share of equal neighbours above which integers are taken for codes


@dataclass(frozen=True, eq=False)
class Route:
    """Where things are carried.

    Attributes:
        warp: Points of the target side to points of the source side, as images need it.
        target: The grid of carried images; None if no file says.
        source: The grid that images must have; None if no file says.
        names: Of the source and target sides.
    """

    warp: Warp
    target: Space | None
    source: Space | None
    names: tuple[str, str]


@dataclass(frozen=True)
class Carrying:
    """What to carry, how, and where to.

    Attributes:
        transforms: A result folder, a regcli.json, or ITK files in ANTs order.
        inputs: Images, label maps, CSV and FCSV points.
        out: Folder; files keep their names.
        inverse: Fixed to moving, instead of moving to fixed.
        interpolation: "auto", "linear", "nearest", "label" or "cubic".
        reference: Image whose grid carried images get.
        points_space: Of CSV points.
        frame: Of 4-D images: a number from 0, or "mean".
        any_geometry: Carry images whose grid is not the registered one.
        force: Replace what is there.
    """

    transforms: tuple[Path, ...]
    inputs: tuple[Path, ...]
    out: Path
    inverse: bool = False
    interpolation: str = "auto"
    reference: Path | None = None
    points_space: PointSpace = "ras"
    frame: int | str | None = None
    any_geometry: bool = False
    force: bool = False


def apply_files(job: Carrying) -> list[dict[str, Any]]:
    """Carry every input; all are checked before the first is carried.

    Args:
        job: What to do.

    Returns:
        For each input its kind, what was done to it and where it went.

    Raises:
        RegcliError: Of the kind that fits; nothing is then written.
    """
    names = [path.name for path in job.inputs]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise RecipeError(
            f"Two inputs are both called {min(twice)}.", "Apply them in two calls, to two folders."
        )
    route = find_route(job)
    for path in job.inputs:
        if path.suffix.lower() not in POINT_FILES:
            _check_geometry(path, route, job)
    with open_outputs(job.out, names, force=job.force) as folder:
        done = [_carry(path, route, job, folder) for path in job.inputs]
        folder.commit(names)
    return done


def find_route(job: Carrying) -> Route:
    """Where a job's transforms lead.

    Raises:
        InputError: If they are not a result or transform files, or do not say onto which grid.
    """
    first = job.transforms[0]
    if first.is_dir() or first.suffix == ".json":
        if len(job.transforms) > 1:
            raise RecipeError(
                f"{first} is a whole result and cannot be joined with other transforms.",
                "Give its composite.h5 in a list of files instead.",
            )
        warp, fixed, moving = read_result(first)
    else:
        warp, fixed, moving = warps.read_warp(list(job.transforms)), None, None
        fixed = warp.space if warp.displacement is not None else None
    if job.inverse:
        warp, fixed, moving = warp.inverse()[0], moving, fixed
    if job.reference is not None:
        fixed = read_header(job.reference).space
    sides = ("fixed", "moving") if job.inverse else ("moving", "fixed")
    return Route(warp, fixed, moving, sides)


def read_result(path: Path) -> tuple[Warp, Space, Space]:
    """The warp of a result folder, and the grids of its fixed and moving images.

    Args:
        path: The folder, or its regcli.json.

    Raises:
        InputError: If there is no complete result.
    """
    sidecar = path / SIDECAR if path.is_dir() else path
    try:
        report = json.loads(sidecar.read_text(encoding="utf-8"))
        composite = sidecar.parent / Path(report["outputs"]["composite"]).name
        fixed, moving = (
            Space(tuple(side["shape"]), torch.tensor(side["affine"], dtype=torch.float64))
            for side in (report["fixed"], report["moving"])
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{sidecar} is not the record of a complete registration.",
            "Give the folder that regcli register wrote.",
        ) from error
    return warps.read_warp([composite]), fixed, moving


def looks_like_labels(image: Image) -> bool:
    """Whether voxels are codes: integers, mostly equal to their neighbours where not zero."""
    data = image.data[0]
    if data.is_floating_point():
        return False
    equal = total = 0
    for axis in range(3):
        n = data.shape[axis]
        if n == 1:
            continue
        one, other = data.narrow(axis, 0, n - 1), data.narrow(axis, 1, n - 1)
        both = (one != 0) & (other != 0)
        total += int(both.sum())
        equal += int((both & (one == other)).sum())
    return total > 0 and equal / total > _LIKE_LABELS


def _check_geometry(path: Path, route: Route, job: Carrying) -> None:
    header = read_header(path)
    if route.target is None:
        raise InputError(
            "These transforms do not say onto which grid images are carried.",
            "Give --reference IMAGE.",
        )
    if route.source is None or job.any_geometry or header.space.agrees(route.source, 0.01):
        return
    raise InputError(
        f"{path} has another grid ({_grid(header.space)}) than the registered {route.names[0]} "
        f"image ({_grid(route.source)}).",
        "Check that it is the right image, or give --allow-geometry-mismatch.",
    )


def _carry(path: Path, route: Route, job: Carrying, folder: OutputFolder) -> dict[str, Any]:
    done: dict[str, Any] = {"input": str(path), "output": str(job.out / path.name)}
    if path.suffix.lower() in POINT_FILES:
        # phi takes target points to source points, so points of the source go by its inverse
        points = read_points(path, job.points_space, route.source)
        carried = replace(points, world=route.warp.inverse()[0](points.world))
        write_points(carried, folder.stage(path.name), route.target)
        return done | {"kind": "points", "number": len(points.world)}
    image = read_image(path, frame=job.frame).image
    if job.interpolation == "auto" and looks_like_labels(image):
        image = read_image(path, labels=True, frame=job.frame).image
    interpolation = interpolation_of(image, job.interpolation)
    assert route.target is not None
    write_image(route.warp.apply(image, route.target, interpolation), folder.stage(path.name))
    kind = "labels" if interpolation in ("label", "nearest") else "image"
    return done | {"kind": kind, "interpolation": interpolation}


def _grid(space: Space) -> str:
    shape = "x".join(map(str, space.shape))
    return f"{shape} voxels of {'x'.join(f'{h:.3g}' for h in space.spacing)} mm, {space.codes}"
