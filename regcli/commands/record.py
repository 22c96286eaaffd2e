"""A result folder's own record, regcli.json: read it, and keep it from being lost."""

import json
from pathlib import Path
from typing import Any

import torch

from regcli.errors import InputError, OutputError
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


def _space(side: dict[str, Any]) -> Space:
    i, j, k = (int(n) for n in side["shape"])
    affine = torch.tensor(side["affine"], dtype=torch.float64)
    if affine.shape != (4, 4) or float(torch.linalg.det(affine)) == 0:
        raise ValueError("no affine")
    return Space((i, j, k), affine)
