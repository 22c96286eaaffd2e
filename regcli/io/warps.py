"""Whole maps in ITK's files: composites, chains as on ANTs' command line, and what a file holds.

Every transform file maps points of the fixed image, or of whatever grid an image is resampled
onto, to points of the image that is resampled; files are LPS mm, `Warp` is RAS mm. A composite
phi = A (Id + u) holds A in group 1 and u in group 2: ITK applies the last group first to a point.
The inverse (Id + v) A^-1 holds v, on the fixed grid, in group 1 and A^-1 in group 2. On the
command line it is the other way round: what is listed first is applied first to a point.

Outside the grid of a displacement ITK's u is zero, and `Warp`'s is that of the nearest edge: so a
map read here and ITK's may differ there, and only there.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import SimpleITK as sitk
import torch
from torch import Tensor

from regcli.errors import InputError, OutputError
from regcli.image import Space
from regcli.io import affines
from regcli.io.affines import read_affine, write_affine
from regcli.io.composites import Field, read_h5, write_h5
from regcli.io.displacements import (
    FIELD_FILES,
    field_from_itk,
    is_displacement,
    read_displacement,
    write_displacement,
)
from regcli.io.files import extension
from regcli.io.learn2reg import read_learn2reg, write_learn2reg
from regcli.ops.field import rotate
from regcli.warp import Warp

__all__ = [
    "after_affine",
    "describe_transform",
    "inverse_parts",
    "is_displacement",
    "read_affine",
    "read_displacement",
    "read_learn2reg",
    "read_warp",
    "write_affine",
    "write_composite",
    "write_displacement",
    "write_inverse_composite",
    "write_learn2reg",
]

TransformFile = str | Path | tuple[str | Path, bool]
_COMPOSITES = (".h5", ".hdf5")
_DIRECTION = "points of the fixed (output) grid to points of the image that is resampled"


def write_composite(warp: Warp, path: str | Path) -> None:
    """Write a map as one ITK composite file: group 1 its affine, group 2 its displacement.

    Args:
        warp: phi(x) = A (x + u(x)); without a displacement the file holds the affine alone.
        path: .h5 or .hdf5. Vectors are float32 in it; its bytes depend on the map alone.

    Raises:
        OutputError: If the format is neither, or the file cannot be written.
    """
    parts: list[sitk.AffineTransform | Field] = [affines.to_itk(warp.affine)]
    if warp.displacement is not None:
        parts.append((warp.space, warp.displacement))
    _write_parts(parts, Path(path))


def write_inverse_composite(inverse: Warp, fixed_space: Space, path: str | Path) -> None:
    """Write an inverse map as ANTs does: group 1 v on the fixed grid, group 2 A^-1.

    Args:
        inverse: (Id + v) A^-1 as `Warp.inverse` and `after_affine` give it; nothing is resampled.
        fixed_space: See `inverse_parts`.
        path: .h5 or .hdf5.

    Raises:
        OutputError: If the format is neither, or the file cannot be written.
    """
    space, v = inverse_parts(inverse, fixed_space)
    parts: list[sitk.AffineTransform | Field] = [affines.to_itk(inverse.affine)]
    if v is not None:
        parts.insert(0, (space, v))
    _write_parts(parts, Path(path))


def inverse_parts(inverse: Warp, fixed_space: Space) -> tuple[Space, Tensor | None]:
    """The grid and v of y -> B (y + w(y)) = (Id + v)(B y), exactly; B is the warp's affine.

    Args:
        inverse: As `Warp.inverse` gives it, on the fixed grid carried by A = B^-1.
        fixed_space: The fixed grid, free of the rounding of carrying it there and back. If v is
            on another one, that is what is returned.

    Returns:
        The grid, and v, (1, 3, I, J, K) mm, or None for zero.
    """
    space = inverse.space.moved(inverse.affine)
    v = _rotated(inverse.affine, inverse.displacement)
    return fixed_space if space.agrees(fixed_space) else space, v


def after_affine(deformation: Warp, affine: Tensor) -> Warp:
    """The map y -> deformation(affine y) as one warp, exactly: undoes `inverse_parts`.

    C (z + v(z)) at z = B y is C B (y + B^-1 v(B y)): v's grid is carried by B^-1.

    Args:
        deformation: C (Id + v).
        affine: B, (4, 4), which is applied first.
    """
    back = torch.linalg.inv(affine)
    w = _rotated(back, deformation.displacement)
    return Warp(deformation.space.moved(back), deformation.affine @ affine, w)


def read_warp(files: TransformFile | list[TransformFile], space: Space | None = None) -> Warp:
    """The one map of a transform file or a chain of them.

    Nothing is resampled but the second and later displacements, each onto the grid of the first.

    Args:
        files: A file, or a list as after antsApplyTransforms -t: the first is applied first to a
            point. (file, True) stands for the inverse of a linear transform, as [file,1] does.
        space: The grid of the result if no file has one; default a single voxel.

    Raises:
        InputError: If a file cannot be read, or holds what is neither linear nor a displacement.
    """
    whole = torch.eye(4, dtype=torch.float64)
    warp: Warp | None = None
    for file in files if isinstance(files, list) else [files]:
        for part in _read_parts(file):
            if isinstance(part, Warp):
                warp = after_affine(part, whole) if warp is None else warp.then(part)
            elif warp is None:
                whole = part @ whole
            else:
                warp = replace(warp, affine=part @ warp.affine)
    return warp or Warp(space or Space((1, 1, 1), torch.eye(4, dtype=torch.float64)), whole)


def describe_transform(path: str | Path) -> dict[str, Any]:
    """A description of a transform file, ready for JSON.

    Returns:
        "kind" (affine, displacement field or composite), "direction", "space" (of the file),
        "units" and "parts" in the order in which they are applied to a point; a part has "kind",
        and "matrix_ras", or "grid" (RAS) and "max_displacement_mm".

    Raises:
        InputError: If the file cannot be read.
    """
    path = Path(path)
    parts = [_describe_part(part) for part in _read_parts(path)]
    plain = not _is_field(path) and affines.read_plain(path) is not None
    return {
        "kind": parts[0]["kind"] if len(parts) == 1 else "composite",
        "direction": _DIRECTION,
        "space": "RAS" if plain else "LPS",
        "units": "mm",
        "parts": parts,
    }


def _write_parts(parts: list[sitk.AffineTransform | Field], path: Path) -> None:
    if extension(path) not in _COMPOSITES:
        raise OutputError(
            f"{path} cannot be written: a composite transform is HDF5.", "End its name in .h5."
        )
    with affines.HDF5_LOCK:
        write_h5(parts, path)


def _rotated(matrix: Tensor, vectors: Tensor | None) -> Tensor | None:
    if vectors is None:
        return None
    return rotate(matrix[:3, :3], vectors)


def _read_parts(file: TransformFile) -> list[Warp | Tensor]:
    """Matrices (RAS) and displacements (affine the identity) in the order a point meets them."""
    path, inverted = file if isinstance(file, tuple) else (file, False)
    path = Path(path)
    parts = _parts_of(path)
    if not inverted:
        return parts
    if any(isinstance(part, Warp) for part in parts):
        raise InputError(
            f"{path} holds a displacement, which cannot be inverted on reading.",
            "Give the file of the inverse instead, such as inverse_warp.nii.gz.",
        )
    return [torch.linalg.inv(part) for part in reversed(parts) if isinstance(part, Tensor)]


def _parts_of(path: Path) -> list[Warp | Tensor]:
    if _is_field(path):
        return [_deformation(*read_displacement(path))]
    plain = affines.read_plain(path)
    if plain is not None:
        return [plain]
    with affines.HDF5_LOCK:
        known = read_h5(path) if affines.is_hdf5(path) else None
    if known is not None:
        parts = [_deformation(*part) if isinstance(part, tuple) else part for part in known]
        return parts[::-1]  # the last group is applied first
    transform = affines.read_transform(path)
    if transform.GetTransformEnum() != sitk.sitkComposite:
        return [_part(transform, path)]
    composite = sitk.CompositeTransform(transform)
    composite.FlattenTransform()
    last = composite.GetNumberOfTransforms() - 1
    return [_part(composite.GetNthTransform(n), path) for n in range(last, -1, -1)]


def _part(transform: sitk.Transform, path: Path) -> Warp | Tensor:
    if transform.GetTransformEnum() == sitk.sitkDisplacementField:
        image = sitk.DisplacementFieldTransform(transform).GetDisplacementField()
        return _deformation(*field_from_itk(image, path))
    if not transform.IsLinear():
        raise InputError(
            f"{path} holds a {transform.GetName()}, which regcli does not read.",
            "Turn it into a displacement field (SimpleITK.TransformToDisplacementField).",
        )
    return affines.from_itk(transform, path)


def _deformation(space: Space, displacement: Tensor) -> Warp:
    return Warp(space, torch.eye(4, dtype=torch.float64), displacement)


def _is_field(path: Path) -> bool:
    return extension(path) in FIELD_FILES


def _describe_part(part: Warp | Tensor) -> dict[str, Any]:
    if not isinstance(part, Warp):
        return {"kind": "affine", "matrix_ras": part.tolist()}
    space, u = part.space, part.displacement
    longest = 0.0 if u is None else float(u[0].square().sum(0).max().sqrt())
    grid = {
        "shape": list(space.shape),
        "spacing_mm": list(space.spacing),
        "origin_ras": space.affine[:3, 3].tolist(),
        "codes": space.codes,
    }
    return {"kind": "displacement field", "grid": grid, "max_displacement_mm": longest}
