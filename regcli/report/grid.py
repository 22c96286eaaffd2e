"""The deformed grid: lines of the fixed grid where the deformation takes them, seen in a plane."""

import numpy as np
import torch
from torch import Tensor

from regcli.report.planes import Plane
from regcli.warp import Warp

_LINES = 36  # along the longer side
_POINTS = 3  # from one crossing to the next


def deformed_grid(plane: Plane, warp: Warp) -> list[np.ndarray]:
    """Lines x + u(x), projected onto the plane.

    Args:
        plane: Where.
        warp: Its affine part is left out: the lines lie where the moving image is that the affine
            alone has carried.

    Returns:
        (N, 2) each, pixels to the right and downwards from the top left corner of the picture;
        no lines if there is no displacement.
    """
    if warp.displacement is None:
        return []
    height = plane.size[1]
    step = max(1.0, max(plane.size) / _LINES)
    columns, rows = (_places(n, step) for n in plane.size)
    x, y = (_places(n, step / _POINTS) for n in plane.size)
    upwards = [torch.stack([c.expand_as(y), y], dim=1) for c in columns]
    sideways = [torch.stack([x, r.expand_as(x)], dim=1) for r in rows]
    lines = [*upwards, *sideways]
    moved = _deformed(torch.cat(lines), plane, warp)
    moved = torch.stack([moved[:, 0] + 0.5, height - 0.5 - moved[:, 1]], dim=1).numpy()
    return np.split(moved, np.cumsum([len(line) for line in lines])[:-1])


def _places(pixels: int, step: float) -> Tensor:
    """From the first pixel's centre at most to that of the last."""
    return torch.arange(0, pixels - 0.999, step, dtype=torch.float64)


def _deformed(points: Tensor, plane: Plane, warp: Warp) -> Tensor:
    """Pixels (N, 2) to the right and upwards, carried by x + u(x)."""
    across, up = plane.axes
    voxels = torch.zeros(len(points), 3, dtype=torch.float64)
    voxels[:, across], voxels[:, up] = points[:, 0], points[:, 1]
    alone = Warp(warp.space, torch.eye(4, dtype=torch.float64), warp.displacement)
    moved = plane.space.world_to_voxel(alone(plane.space.voxel_to_world(voxels)).cpu())
    return moved[:, [across, up]]
