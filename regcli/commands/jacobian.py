"""jacobian_files: how a warp changes volumes, as maps and numbers."""

import csv
import json
import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from regcli.commands.record import holds_result, read_map, spare_result
from regcli.errors import InputError, RecipeError
from regcli.evaluate.metrics import jacobian_summary, log_determinant
from regcli.image import Image, Space
from regcli.io.images import read_image, write_image
from regcli.io.outputs import open_outputs
from regcli.ops.jacobian import jacobian_determinant
from regcli.warp import Warp

OUTPUTS = ("jacobian.nii.gz", "log_jacobian.nii.gz", "jacobian.json", "jacobian.csv")


def jacobian_files(
    path: Path, out: Path, *, mask: Path | None = None, total: bool = False, force: bool = False
) -> dict[str, Any]:
    """Write the determinant of a warp's Jacobian, its logarithm, and a summary of both.

    Args:
        path: A result folder, its regcli.json, a displacement field or a composite transform.
        out: Folder for OUTPUTS.
        mask: Image on the warp's grid: where the summary is taken.
        total: Multiply the maps by the affine's determinant.
        force: Replace what is there.

    Returns:
        What jacobian.json holds.

    Raises:
        InputError: If the transform is linear, or a file cannot be used.
        RecipeError: If `total` is asked of a file without an affine.
    """
    spare_result(out)
    warp = read_deformation(path)
    if total and not holds_result(path) and torch.equal(warp.affine, torch.eye(4).to(warp.affine)):
        raise RecipeError(
            f"--total has no effect: {path} holds no affine.",
            "Leave it out, or give a result folder or its composite.h5.",
        )
    inside = None if mask is None else read_inside(mask, warp.space)
    with open_outputs(out, OUTPUTS, force=force) as folder:
        assert warp.displacement is not None
        numbers = measure(warp, inside) | {"warp": str(path), "mask": mask and str(mask)}
        det = jacobian_determinant(warp.space.vectors_to_voxel(warp.displacement))
        det = det * numbers["affine_determinant"] if total else det
        write_image(Image(det, warp.space), folder.stage(OUTPUTS[0]))
        write_image(Image(log_determinant(det), warp.space), folder.stage(OUTPUTS[1]))
        summary = numbers | {"maps": "total" if total else "deformation", "outputs": list(OUTPUTS)}
        folder.stage(OUTPUTS[2]).write_text(json.dumps(summary, indent=1), encoding="utf-8")
        with folder.stage(OUTPUTS[3]).open("w", newline="", encoding="utf-8") as file:
            table = csv.writer(file)
            table.writerows([list(numbers), list(numbers.values())])
        folder.commit(OUTPUTS)
    return summary


def read_deformation(path: Path) -> Warp:
    """The map of a result folder or a file, which must deform.

    Raises:
        InputError: If it is linear or cannot be read.
    """
    warp = read_map([path])[0]
    if warp.displacement is None:
        determinant = float(torch.linalg.det(warp.affine[:3, :3]))
        raise InputError(
            f"{path} is linear: its determinant is {determinant:.6g} everywhere.",
            "Give a deformable result.",
        )
    return warp


def measure(warp: Warp, inside: Tensor | None) -> dict[str, Any]:
    """Folds and stretch of a map's deformation, in numbers that JSON can hold.

    Args:
        warp: With a displacement.
        inside: (I, J, K) bool on its grid; default everywhere.
    """
    assert warp.displacement is not None
    found = jacobian_summary(warp.displacement, warp.space, inside)
    # JSON knows no infinity, which absurd displacements reach
    numbers: dict[str, Any] = {k: v if math.isfinite(v) else None for k, v in found.items()}
    return numbers | {"affine_determinant": float(torch.linalg.det(warp.affine[:3, :3]))}


def read_inside(path: Path, space: Space) -> Tensor:
    """Read a mask on this grid, (I, J, K) bool: true above 0.

    Raises:
        InputError: If it cannot be read or has another grid.
    """
    file = read_image(path, constant=True)
    if not file.image.space.agrees(space, tolerance_mm=0.1):
        raise InputError(
            f"{path} is not on the grid of the warp, {'x'.join(map(str, space.shape))} voxels.",
            "Give a mask with the shape and header of the fixed image.",
        )
    return file.image.data[0] > 0
