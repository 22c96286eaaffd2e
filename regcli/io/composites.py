"""ITK's HDF5 composites, as ITK lays them out, but with vectors in float32.

ITK's own writer holds every vector in float64 and copies the field several times; a reader of ITK
converts. Group 0 names the composite, groups 1, 2, ... hold its parts: `TransformFixedParameters`
of a field are size, origin, spacing and direction, `TransformParameters` its vectors with the
component fastest, then x. Old versions of ITK spell both without the first s.
"""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import SimpleITK as sitk
import torch
from torch import Tensor

from regcli.errors import InputError, OutputError
from regcli.image import Space
from regcli.io.affines import checked
from regcli.io.displacements import field_of
from regcli.io.header import LPS

_FIELD, _AFFINE = "DisplacementFieldTransform_", "AffineTransform_"
_SIGNS = (-1.0, -1.0, 1.0)
_TEXT = h5py.string_dtype("ascii")
Field = tuple[Space, Tensor]


def write_h5(parts: list[sitk.AffineTransform | Field], path: Path) -> None:
    """Write affines (LPS) and displacement fields (RAS mm) as one composite.

    Args:
        parts: In the order of the groups: the last is applied first to a point.
        path: Of the file.

    Raises:
        OutputError: If it cannot be written.
    """
    try:
        with h5py.File(path, "w", libver="earliest") as file:
            for name in ("HDFVersion", "ITKVersion", "OSName", "OSVersion"):
                file[name] = _text("0" if name.startswith("OS") else h5py.version.hdf5_version)
            file["TransformGroup/0/TransformType"] = _text("CompositeTransform_double_3_3")
            for number, part in enumerate(parts, start=1):
                group = file.create_group(f"TransformGroup/{number}")
                if isinstance(part, tuple):
                    _write_field(group, *part)
                else:
                    group["TransformType"] = _text("AffineTransform_double_3_3")
                    group["TransformFixedParameters"] = np.array(part.GetFixedParameters())
                    group["TransformParameters"] = np.array(part.GetParameters())
    except OSError as error:
        raise OutputError(
            f"{path} cannot be written: {error}.", "Check the folder and its disk."
        ) from error


def read_h5(path: Path) -> list[Tensor | Field] | None:
    """The parts of a composite of 3-D affines (RAS matrices) and fields, in the order of groups.

    Returns:
        None if it holds anything else, or is damaged: ITK itself must read it then.

    Raises:
        InputError: If a field is damaged.
    """
    try:
        with h5py.File(path, "r") as file:
            groups: Any = file["TransformGroup"]
            kinds = [_kind(groups, number) for number in range(len(groups))]
            if not kinds[0].startswith("CompositeTransform_") or len(kinds) == 1:
                return None
            if not all(k.startswith((_FIELD, _AFFINE)) and k.endswith("_3_3") for k in kinds[1:]):
                return None
            return [
                (_read_field if kind.startswith(_FIELD) else _read_affine)(groups[f"{n}"], path)
                for n, kind in enumerate(kinds[1:], start=1)
            ]
    except (OSError, LookupError, ValueError):
        return None  # damaged: ITK says how


def _kind(groups: Any, number: int) -> str:
    text = groups.get(f"{number}/TransformType")
    return "" if text is None else np.ravel(text[()])[0].decode("ascii", "replace")


def _read_affine(group: Any, path: Path) -> Tensor:
    fixed, moving = (np.asarray(values, np.float64) for values in _parameters(group))
    lps, middle = np.eye(4), fixed[:3]
    lps[:3, :3] = moving[:9].reshape(3, 3)
    lps[:3, 3] = moving[9:] + middle - lps[:3, :3] @ middle
    return checked(torch.from_numpy(LPS @ lps @ LPS), path)


def _parameters(group: Any) -> tuple[Any, Any]:
    start = "Transform" if "TransformParameters" in group else "Tranform"
    return group[f"{start}FixedParameters"], group[f"{start}Parameters"]


def _text(value: str) -> np.ndarray:
    return np.array([value], dtype=_TEXT)


def _write_field(group: Any, space: Space, u: Tensor) -> None:
    affine = LPS @ space.affine.numpy()
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    direction = (affine[:3, :3] / spacing).ravel()
    group["TransformType"] = _text(f"{_FIELD}double_3_3")
    fixed = (np.array(space.shape), affine[:3, 3], spacing, direction)
    group["TransformFixedParameters"] = np.concatenate(fixed).astype(np.float64)
    i, j, k = space.shape
    values = group.create_dataset("TransformParameters", (3 * i * j * k,), "<f4")
    source = u[0].permute(3, 2, 1, 0).numpy()  # (K, J, I, 3), a view
    plane = np.empty((j, i, 3), np.float32)
    for n in range(k):  # by planes, so that no second field is ever in memory
        np.multiply(source[n], np.array(_SIGNS, np.float32), out=plane)
        values[n * plane.size : (n + 1) * plane.size] = plane.ravel()


def _read_field(group: Any, path: Path) -> Field:
    fixed, values = _parameters(group)
    fixed = np.asarray(fixed, np.float64)
    shape = tuple(int(n) for n in fixed[:3]) if fixed.size == 18 else (0, 0, 0)
    if min(shape) < 1 or 3 * np.prod(shape) != values.size:
        raise InputError(f"{path} holds a field that contradicts its size.", "Fetch it again.")
    affine = np.eye(4)
    affine[:3, :3] = fixed[9:].reshape(3, 3) * fixed[6:9]
    affine[:3, 3] = fixed[3:6]
    stored = np.empty(values.size, np.float32)
    values.read_direct(stored)
    lps = torch.from_numpy(stored).view(*shape[::-1], 3).permute(3, 2, 1, 0)
    return field_of(lps, flip=True, affine=LPS @ affine, path=path)
