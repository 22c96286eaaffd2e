"""Landmarks: squared distances of corresponding points, felt by all that lies around them."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from regcli.image import Space
from regcli.ops.match import Quadratic
from regcli.ops.sample import Shape, sample_points

_REACH_MM = 4.0  # sigma of a landmark's neighbourhood
_LEAST = 0.7  # the same in voxels, at least: on a coarse grid some voxels must feel it
_CUT = 2.5  # sigmas
_PAIRS = ((0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2))


@dataclass(frozen=True, eq=False)
class Landmarks:
    """weight / 2 sum over points k and voxels x of G(x - p_k) |phi(p_k) - q_k|^2, mm.

    What pulls at a point alone would make a spike: the voxels around it, by a Gaussian G of peak 1,
    are asked to move as it should.

    Attributes:
        fixed: p, (N, 3) voxels of the fixed grid.
        moving: q, (N, 3) voxels of the moving grid.
        axes: (3, 3), a step of a moving voxel along each axis in mm.
        index: (N, P) of voxels around each point, in a flat fixed grid.
        share: (N, P), G there.
        weight: Per mm^2.
    """

    fixed: Tensor
    moving: Tensor
    axes: Tensor
    index: Tensor
    share: Tensor
    weight: float

    def onto(self, model: Quadratic, u: Tensor | None, matrix: Tensor) -> Quadratic:
        """The model with this energy added, in its memory.

        Args:
            model: For a displacement composed before the map.
            u: (1, 3, I, J, K) voxels; None for none.
            matrix: (3, 4) fixed voxel to moving voxel, after u.
        """
        matrix, x = matrix.to(self.fixed), self.fixed
        r, J = x @ matrix[:, :3].T + matrix[:, 3] - self.moving, torch.eye(3).to(x)
        if u is not None:
            r = r + sample_points(u, x).to(x) @ matrix[:, :3].T
            slopes = [sample_points(u, x + h) - sample_points(u, x - h) for h in 0.5 * J]
            J = J + torch.stack(slopes, dim=2).to(x)  # (N, 3, 3), row = component
        r, J = r @ self.axes.T, (self.axes @ matrix[:, :3] @ J).expand(len(x), 3, 3)
        g = self.weight * torch.einsum("nca,nc->na", J, r)
        H = self.weight * (J.mT @ J)
        A = torch.stack([H[:, a, b] for a, b in _PAIRS], dim=1)
        for total, part in ((model.g, g), (model.A, A)):
            spread = (part.T[:, :, None] * self.share).flatten(1)  # (3 or 6, N P)
            total.view(total.shape[1], -1).index_add_(1, self.index.flatten(), spread.to(total))
        value = 0.5 * self.weight * (r.square().sum(1) * self.share.sum(1)).sum()
        return Quadratic(model.value + value, model.g, model.A)


def landmarks(
    fixed: Tensor, moving: Tensor, space: Space, axes: Tensor, weight: float, device: torch.device
) -> Landmarks:
    """Corresponding points on a fixed grid.

    Args:
        fixed: (N, 3) voxels of `space`; those outside it are left out.
        moving: (N, 3) voxels of the moving grid.
        space: The fixed grid.
        axes: (3, 3), a step of a moving voxel along each axis in mm.
        weight: Per mm^2.
        device: Where to compute.
    """
    last = torch.tensor(space.shape, dtype=torch.float64) - 1
    inside = ((fixed >= -0.5) & (fixed <= last + 0.5)).all(dim=1)
    fixed, moving = fixed[inside].to(torch.float64), moving[inside].to(torch.float64)
    sigma = torch.tensor([max(_REACH_MM / h, _LEAST) for h in space.spacing], dtype=torch.float64)
    sigma = torch.where(last > 0, sigma, 0.0)
    ranges = [torch.arange(-math.ceil(_CUT * s), math.ceil(_CUT * s) + 1) for s in sigma.tolist()]
    voxels = fixed.round()[:, None] + torch.cartesian_prod(*ranges)  # (N, P, 3)
    distance = (voxels - fixed[:, None]) / sigma.clamp(min=1e-9) * (last > 0)
    share = torch.exp(-0.5 * distance.square().sum(2))
    share = torch.where(((voxels >= 0) & (voxels <= last)).all(dim=2), share, 0.0)
    index = _flat(voxels.clamp(min=torch.zeros(3), max=last).long(), space.shape)
    parts = (t.to(device) for t in (fixed, moving, axes.to(torch.float64), index, share))
    p, q, axes, index, share = parts
    return Landmarks(p, q, axes, index, share, weight)


def _flat(voxels: Tensor, shape: Shape) -> Tensor:
    return (voxels[..., 0] * shape[1] + voxels[..., 1]) * shape[2] + voxels[..., 2]
