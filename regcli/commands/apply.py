"""apply_files: images, label maps and points carried by a result, each the right way."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor

from regcli.commands.record import read_map, spare_result
from regcli.errors import InputError, OutputError, RecipeError
from regcli.image import Image, Space
from regcli.io.images import read_header, read_image, write_image
from regcli.io.outputs import open_outputs
from regcli.io.points import PointSpace, read_points, write_points
from regcli.registration.pipeline import interpolation_of
from regcli.warp import Warp

POINT_FILES = (".csv", ".fcsv")
# Share of equal neighbours above which integers are taken for codes. Label maps of brains have
# 0.6 to 0.9 at 1 to 4 mm, scans in 64 to 3000 grey values below 0.25.
_LIKE_LABELS = 0.4


@dataclass(frozen=True, eq=False)
class Route:
    """The map and the grid that things are carried by.

    Attributes:
        warp: Points of the target side to points of the source side, as images need it; None if
            there are only points to carry.
        back: The other way, as points need it, on points (N, 3); None if there are only images.
        target: The grid of carried images; None if no file says.
        source: The grid that images must have; None if no file says.
        names: Of the source and target sides.
    """

    warp: Warp | None
    back: Callable[[Tensor], Tensor] | None
    target: Space | None
    source: Space | None
    names: tuple[str, str]


@dataclass(frozen=True)
class Carrying:
    """All options of `regcli apply`.

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
    names = [_output_name(path) for path in job.inputs]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise RecipeError(
            f"Two inputs would both become {min(twice)}.",
            "Apply them in two calls, to two folders.",
        )
    _check_options(job)
    _spare(job.out, names, [*job.inputs, *job.transforms])
    route = find_route(job)
    for path in job.inputs:
        if _holds_points(path):
            read_points(path, job.points_space, route.source)
        else:
            _check_geometry(path, route, job)
    with open_outputs(job.out, names, force=job.force) as folder:
        done = [
            _carry(path, route, job, folder.stage(name)) | {"output": str(job.out / name)}
            for path, name in zip(job.inputs, names, strict=True)
        ]
        folder.commit(names)
    return done


def find_route(job: Carrying) -> Route:
    """Read the transforms of a job.

    Raises:
        InputError: If they are not a result or transform files, or do not say onto which grid.
    """
    phi, fixed, moving = read_map(job.transforms)
    points = any(_holds_points(path) for path in job.inputs)
    images = not all(_holds_points(path) for path in job.inputs)
    inverse = phi.inverse()[0] if (images if job.inverse else points) else None
    reference = read_header(job.reference).space if job.reference is not None else None
    if job.inverse:
        return Route(inverse, phi, reference or moving, fixed, ("fixed", "moving"))
    back = None if inverse is None else partial(phi.undo, inverse)
    return Route(phi, back, reference or fixed, moving, ("moving", "fixed"))


def looks_like_labels(image: Image) -> bool:
    """Whether voxels are codes: integers, mostly equal to their neighbours in the foreground.

    The background is the most common value: 0 in label maps, but the air of a CT is not.
    """
    data = image.data[0]
    if data.is_floating_point():
        return False
    values, counts = data.unique(return_counts=True)
    background = values[counts.argmax()]
    equal = total = 0
    for axis in range(3):
        n = data.shape[axis]
        if n == 1:
            continue
        one, other = data.narrow(axis, 0, n - 1), data.narrow(axis, 1, n - 1)
        both = (one != background) & (other != background)
        total += int(both.sum())
        equal += int((both & (one == other)).sum())
    return total > 0 and equal / total > _LIKE_LABELS


def _holds_points(path: Path) -> bool:
    return path.suffix.lower() in POINT_FILES


def _output_name(path: Path) -> str:
    """The input's name; images in two files become one."""
    single = {".mhd": ".mha", ".nhdr": ".nrrd"}.get(path.suffix.lower())
    return path.with_suffix(single).name if single else path.name


def _check_options(job: Carrying) -> None:
    """Refuse what would have no effect."""
    if all(_holds_points(path) for path in job.inputs):
        given = {"interp": job.interpolation != "auto", "reference": job.reference is not None}
        given |= {"frame": job.frame is not None, "allow-geometry-mismatch": job.any_geometry}
        for option in [name for name, used in given.items() if used]:
            raise RecipeError(f"--{option} has no effect on points.", "Leave it out.")
    elif job.frame is not None and not any(
        read_header(path).frames > 1 for path in job.inputs if not _holds_points(path)
    ):
        raise RecipeError("--frame has no effect: no image is 4-D.", "Leave it out.")
    if job.points_space != "ras" and not any(p.suffix.lower() == ".csv" for p in job.inputs):
        raise RecipeError("--points-space has no effect without CSV points.", "Leave it out.")


def _spare(out: Path, names: list[str], read: list[Path]) -> None:
    """Refuse to write over what is read, whatever --force says."""
    inputs = {path.resolve() for path in read}
    for name in names:
        if (out / name).resolve() in inputs:
            raise OutputError(
                f"{out / name} is an input and would be overwritten.",
                "Choose another folder with -o.",
            )
    spare_result(out)


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


def _carry(path: Path, route: Route, job: Carrying, staged: Path) -> dict[str, Any]:
    if _holds_points(path):
        assert route.back is not None
        points = read_points(path, job.points_space, route.source)
        write_points(replace(points, world=route.back(points.world)), staged, route.target)
        return {"input": str(path), "kind": "points", "number": len(points.world)}
    image = read_image(path, constant=True, frame=job.frame).image
    if job.interpolation == "auto" and looks_like_labels(image):
        image = read_image(path, labels=True, frame=job.frame).image
    interpolation = interpolation_of(image, job.interpolation)
    assert route.target is not None
    assert route.warp is not None
    write_image(route.warp.apply(image, route.target, interpolation), staged)
    kind = "labels" if interpolation in ("label", "nearest") else "image"
    return {"input": str(path), "kind": kind, "interpolation": interpolation}


def _grid(space: Space) -> str:
    shape = "x".join(map(str, space.shape))
    return f"{shape} voxels of {'x'.join(f'{h:.3g}' for h in space.spacing)} mm, {space.codes}"
