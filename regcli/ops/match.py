"""Second-order models of an energy: its force and Gauss-Newton Hessian at every voxel."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from regcli.ops.kernels import reference
from regcli.ops.kernels.cpu import match as loops
from regcli.ops.kernels.cpu.memory import empty
from regcli.ops.kernels.cpu.slabs import run


@dataclass(frozen=True, eq=False)
class Quadratic:
    """E(phi o (Id + d)) is about value + sum_x g . d + d . A d / 2, for a small displacement d.

    Attributes:
        value: () float64, the energy, summed over voxels.
        g: (1, 3, I, J, K), the force, per voxel.
        A: (1, 6, I, J, K), the Hessian's entries 00 01 02 11 12 22.
    """

    value: Tensor
    g: Tensor
    A: Tensor

    def plus(self, other: "Quadratic") -> "Quadratic":
        """The model of the sum of both energies, in this model's memory."""
        return Quadratic(self.value + other.value, self.g.add_(other.g), self.A.add_(other.A))


def squares(moved: Tensor, fixed: Tensor, weight: Tensor, scale: float) -> Quadratic:
    """Model of scale / 2 sum_x w sum_c (moved - fixed)^2.

    Args:
        moved: (1, C, I, J, K).
        fixed: (1, C, I, J, K).
        weight: w, (1, 1, I, J, K).
        scale: Factor of the energy.
    """
    if moved.device.type != "cpu":
        r = moved - fixed
        value = 0.5 * scale * (weight * r.square()).sum(dtype=torch.float64)
        return _assemble(value, moved, scale * weight * r, scale * weight.expand_as(r))
    m, f = (t[0].permute(1, 2, 3, 0).contiguous().numpy() for t in (moved, fixed))
    shape = m.shape[:3]
    g, a = empty(1, 3, *shape), empty(1, 6, *shape)
    loss = np.empty(shape[0])
    w = weight[0, 0].contiguous().numpy()
    run(loops.squares, shape[0], m, f, w, scale, g[0].numpy(), a[0].numpy(), loss)
    return Quadratic(torch.tensor(loss.sum(), dtype=torch.float64), g, a)


def pointwise(value: Tensor, moved: Tensor, slope: Tensor, curvature: Tensor) -> Quadratic:
    """Model of an energy of one channel from dE/dmoved and a curvature >= 0 at every voxel.

    Args:
        value: () the energy.
        moved: (1, 1, I, J, K).
        slope: (1, 1, I, J, K).
        curvature: (1, 1, I, J, K).
    """
    if moved.device.type != "cpu":
        return _assemble(value, moved, slope, curvature)
    shape = moved.shape[2:]
    g, a = empty(1, 3, *shape), empty(1, 6, *shape)
    arrays = (t[0, 0].contiguous().numpy() for t in (moved, slope, curvature))
    run(loops.force, shape[0], *arrays, g[0].numpy(), a[0].numpy())
    return Quadratic(value, g, a)


def _assemble(value: Tensor, moved: Tensor, slope: Tensor, curvature: Tensor) -> Quadratic:
    D = reference.gradient(moved)  # (1, C, 3, I, J, K)
    g = (slope[:, :, None] * D).sum(1)
    pairs = [(0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2)]
    A = torch.stack([(curvature * D[:, :, p] * D[:, :, q]).sum(1) for p, q in pairs], dim=1)
    return Quadratic(value, g, A)


def additive(model: Quadratic, displacement: Tensor) -> Quadratic:
    """The model of E(Id + u + d) from that of E((Id + u) o (Id + d)).

    Args:
        model: For a displacement composed before the map.
        displacement: u, (1, 3, I, J, K), voxels.
    """
    if displacement.device.type != "cpu":
        return _additive_reference(model, displacement)
    g, A = empty(*model.g.shape), empty(*model.A.shape)
    arrays = (t[0].numpy() for t in (displacement, model.g, model.A, g, A))
    run(loops.additive, displacement.shape[2], *arrays)
    return Quadratic(model.value, g, A)


def _additive_reference(model: Quadratic, displacement: Tensor) -> Quadratic:
    J = reference.jacobian(displacement)
    det = reference.determinant(J)[:, None, None]
    a, b, c = J.unbind(1)
    rows = [torch.linalg.cross(p, q, dim=1) for p, q in ((b, c), (c, a), (a, b))]
    # det J^-1 as cross products: at a fold, the inverse need not exist
    B = torch.stack(rows, dim=2) / torch.where(det < 0, det.clamp(max=-0.1), det.clamp(min=0.1))
    A = model.A[:, [0, 1, 2, 1, 3, 4, 2, 4, 5]].unflatten(1, (3, 3))
    A = torch.einsum("bcpijk,bcdijk,bdqijk->bpqijk", B, A, B).flatten(1, 2)
    g = torch.einsum("bcpijk,bcijk->bpijk", B, model.g)
    return Quadratic(model.value, g, A[:, [0, 1, 2, 4, 5, 8]])
