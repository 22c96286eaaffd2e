"""jacobian_files: how a warp changes volumes, as maps and numbers."""

import csv
import json
import math
from pathlib import Path
from typing import Any

import torch

from regcli.commands.record import read_result, spare_result
from regcli.errors import InputError, RecipeError
from regcli.evaluate.metrics import jacobian_summary, log_determinant
from regcli.image import Image, Space
from regcli.io import warps
from regcli.io.nifti import read_image, write_image
from regcli.io.outputs import open_outputs
from regcli.ops.jacobian import jacobian_determinant

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
    whole = path.is_dir() or path.suffix == ".json"
    warp = read_result(path)[0] if whole else warps.read_warp([path])
    if warp.displacement is None:
        determinant = float(torch.linalg.det(warp.affine[:3, :3]))
        raise InputError(
            f"{path} is linear: its determinant is {determinant:.6g} everywhere.",
            "Give a deformable result.",
        )
    if total and not whole and torch.equal(warp.affine, torch.eye(4).to(warp.affine)):
        raise RecipeError(
            f"--total has no effect: {path} holds no affine.",
            "Leave it out, or give a result folder or its composite.h5.",
        )
    inside = None if mask is None else _mask(mask, warp.space)
    with open_outputs(out, OUTPUTS, force=force) as folder:
        affine = float(torch.linalg.det(warp.affine[:3, :3]))
        det = jacobian_determinant(warp.space.vectors_to_voxel(warp.displacement))
        det = det * affine if total else det
        write_image(Image(det, warp.space), folder.stage(OUTPUTS[0]))
        write_image(Image(log_determinant(det), warp.space), folder.stage(OUTPUTS[1]))
        found = jacobian_summary(warp.displacement, warp.space, inside)
        # JSON knows no infinity, which absurd displacements reach
        numbers: dict[str, Any] = {k: v if math.isfinite(v) else None for k, v in found.items()}
        numbers |= {"affine_determinant": affine, "warp": str(path), "mask": mask and str(mask)}
        summary = numbers | {"maps": "total" if total else "deformation", "outputs": list(OUTPUTS)}
        folder.stage(OUTPUTS[2]).write_text(json.dumps(summary, indent=1), encoding="utf-8")
        with folder.stage(OUTPUTS[3]).open("w", newline="", encoding="utf-8") as file:
            table = csv.writer(file)
            table.writerows([list(numbers), list(numbers.values())])
        folder.commit(OUTPUTS)
    return summary


def _mask(path: Path, space: Space) -> torch.Tensor:
    file = read_image(path, constant=True)
    if not file.image.space.agrees(space, tolerance_mm=0.1):
        raise InputError(
            f"{path} is not on the grid of the warp, {'x'.join(map(str, space.shape))} voxels.",
            "Give a mask with the shape and header of the fixed image.",
        )
    return file.image.data[0] > 0
