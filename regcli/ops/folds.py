"""Volumes that nearly vanish: what they cost, and how voxels should move to restore them."""

import itertools

import torch
from torch import Tensor

from regcli.ops.jacobian import least_determinant
from regcli.ops.match import Quadratic

_ENTRIES = ((0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2))


def small_volumes(u: Tensor, least: float, weight: Tensor) -> Quadratic:
    """Model of weight / 2 sum of max(0, least - det)^2, for steps that are added to u.

    The determinants are the eight of one-sided differences. Each takes four voxels; their Hessian
    of rank one is replaced by blocks at these voxels that are at least as large. Work is done for
    voxels below `least` alone, which are few; a GPU is waited for, to count them.

    Args:
        u: (1, 3, I, J, K), voxels.
        least: Of a determinant that costs nothing.
        weight: () or (1, 1, I, J, K).
    """
    shape, strides = u.shape[2:], (u.shape[3] * u.shape[4], u.shape[4], 1)
    flat = u.reshape(3, -1).T  # (N, 3)
    g, A = torch.zeros_like(flat), flat.new_zeros(len(flat), 6)
    value = torch.zeros((), dtype=torch.float64, device=u.device)
    x = (least_determinant(u)[0].flatten() < least).nonzero()[:, 0]
    w = weight.expand(1, 1, *shape).flatten()[x] if weight.dim() else weight.to(u)
    places = torch.stack(torch.unravel_index(x, shape), dim=1)
    last = torch.tensor(shape, device=u.device) - 1
    for signs in itertools.product(*((1, -1) if n > 1 else (0,) for n in shape)):
        there = places + torch.tensor(signs, device=u.device)
        inside = ((there >= 0) & (there <= last)).all(dim=1)
        sides = [(axis, side) for axis, side in enumerate(signs) if side]
        nodes = [(x + side * strides[axis]).clamp(0, len(flat) - 1) for axis, side in sides]
        columns = list(torch.eye(3).to(flat).expand(len(x), 3, 3).unbind(dim=2))  # of the Jacobian
        for (axis, side), node in zip(sides, nodes, strict=True):
            columns[axis] = columns[axis] + side * (flat[node] - flat[x])
        cofactors = [torch.linalg.cross(columns[a - 2], columns[a - 1]) for a in range(3)]
        short = (least - (columns[0] * cofactors[0]).sum(1)).clamp(min=0) * inside
        value = value + 0.5 * (w * short.square()).sum(dtype=torch.float64)
        slopes = [side * cofactors[axis] for axis, side in sides]  # of the determinant, by nodes
        slopes.append(-torch.stack(slopes).sum(dim=0))
        for node, slope in zip([*nodes, x], slopes, strict=True):
            block = torch.stack([slope[:, a] * slope[:, b] for a, b in _ENTRIES], dim=1)
            g.index_add_(0, node, -(w * short)[:, None] * slope)
            A.index_add_(0, node, (w * (short > 0) * len(slopes))[:, None] * block)
    return Quadratic(value, g.T.reshape(1, 3, *shape), A.T.reshape(1, 6, *shape))
