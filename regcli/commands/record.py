"""A result folder's own record, regcli.json: read it, and keep it from being lost."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from regcli.errors import InputError, OutputError, RecipeError
from regcli.image import Space
from regcli.io import warps
from regcli.io.outputs import SIDECAR
from regcli.warp import Warp


def spare_result(out: Path) -> None:
    """Refuse a folder whose regcli.json would be lost, whatever --force says.

    Raises:
        OutputError: If the folder holds a registration.
    """
    if (out / SIDECAR).exists():
        raise OutputError(
            f"{out} holds a registration, whose record would be lost.",
            "Choose another folder with -o.",
        )


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
        fixed, moving = (_space(report[side]) for side in ("fixed", "moving"))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{sidecar} is not the record of a complete registration.",
            "Give the folder that regcli register wrote.",
        ) from error
    return warps.read_warp([composite]), fixed, moving


def read_map(transforms: Sequence[Path]) -> tuple[Warp, Space | None, Space | None]:
    """The map that -t names, and the grids of its fixed and moving images, if a file says them.

    Args:
        transforms: A result folder, its regcli.json, or ITK files in ANTs order.

    Raises:
        InputError: If they are not a result or transform files.
        RecipeError: If a result is joined with other transforms.
    """
    first = transforms[0]
    if not holds_result(first):
        phi = warps.read_warp(list(transforms))
        return phi, phi.space if phi.displacement is not None else None, None
    if len(transforms) > 1:
        raise RecipeError(
            f"{first} is a whole result and cannot be joined with other transforms.",
            "Give its composite.h5 in a list of files instead.",
        )
    return read_result(first)


def holds_result(path: Path) -> bool:
    """Whether a path names a result folder or its record, and not a transform file."""
    return path.is_dir() or path.suffix == ".json"


def _space(side: dict[str, Any]) -> Space:
    i, j, k = (int(n) for n in side["shape"])
    affine = torch.tensor(side["affine"], dtype=torch.float64)
    if affine.shape != (4, 4) or float(torch.linalg.det(affine)) == 0:
        raise ValueError("no affine")
    return Space((i, j, k), affine)
