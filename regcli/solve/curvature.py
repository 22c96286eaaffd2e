"""Derivatives of squared feature differences by the displacement, of first and second order.

The differences at a voxel depend on its own displacement alone, so the Hessian of their energy
is a symmetric 3 x 3 block per voxel: (1, 6, I, J, K), its entries 00 01 02 11 12 22. Plain torch
on top of `sample`: what goes in with a graph comes out with one.
"""

import torch
from torch import Tensor
from torch.nn import functional

from regcli.ops.sample import sample

_ENTRIES = ((0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2))


def derivative(image: Tensor, displacement: Tensor, axes: tuple[int, ...]) -> Tensor:
    """The derivative of image(x + u(x)) by u, once along each of the axes.

    Linear interpolation's slope along an axis is the difference of the two voxels around. Along
    the other axes it is interpolated, so it can be differentiated once more there; along its own
    it is constant between voxels, and jumps at them. Zero outside, where the edge is repeated.

    Args:
        image: (1, C, I, J, K).
        displacement: u, (1, 3, I, J, K) voxels.
        axes: Each at most once.

    Returns:
        (1, C, I, J, K), per voxel.
    """
    u = list(displacement.unbind(dim=1))
    for axis in axes:
        n = image.shape[2 + axis]
        x = torch.arange(n, device=image.device, dtype=displacement.dtype)
        x = x.view(-1, *[1] * (2 - axis))
        u[axis] = (x + u[axis]).floor() + 1 - x  # difference m is the one that ends at voxel m
        edges = [1 if a == axis else 0 for a in (2, 1, 0) for _ in range(2)]
        image = functional.pad(image.diff(dim=2 + axis), edges)
    return sample(image, torch.stack(u, dim=1))


def force_and_blocks(
    moving: Tensor, fixed: Tensor, displacement: Tensor, weight: Tensor, scale: float
) -> tuple[Tensor, Tensor]:
    """`ops.match.exact_squares` for autograd: its g and A, differentiable by all that they are of.

    Args:
        moving: (1, C, I, J, K).
        fixed: (1, C, I, J, K).
        displacement: u, (1, 3, I, J, K) voxels.
        weight: w, (1, 1, I, J, K).
        scale: Factor of the energy.

    Returns:
        The force (1, 3, I, J, K) and the Gauss-Newton Hessian's blocks (1, 6, I, J, K).
    """
    D = [derivative(moving, displacement, (axis,)) for axis in range(3)]
    w = scale * weight
    r = sample(moving, displacement) - fixed
    g = torch.cat([(w * r * d).sum(dim=1, keepdim=True) for d in D], dim=1)
    A = torch.cat([(w * D[a] * D[b]).sum(dim=1, keepdim=True) for a, b in _ENTRIES], dim=1)
    return g, A


def residual_blocks(
    moving: Tensor, fixed: Tensor, displacement: Tensor, weight: Tensor, scale: float
) -> Tensor:
    """The part of the Hessian that Gauss-Newton omits, scale sum_c w r_c D^2 moving_c, per voxel.

    Linear interpolation bends only across two axes, so the blocks' diagonals are zero. The jumps
    of its slope at voxel centres are no part of this: a displacement is at one by chance only.

    Args:
        moving: (1, C, I, J, K).
        fixed: (1, C, I, J, K).
        displacement: u, (1, 3, I, J, K) voxels.
        weight: w, (1, 1, I, J, K).
        scale: Factor of the energy.

    Returns:
        (1, 6, I, J, K).
    """
    pull = (sample(moving, displacement) - fixed) * (scale * weight)
    S = pull.new_zeros(1, 6, *pull.shape[2:])
    for entry, (a, b) in enumerate(_ENTRIES):
        if a != b:
            S[:, entry] = (pull * derivative(moving, displacement, (a, b))).sum(dim=1)
    return S


def times(blocks: Tensor, p: Tensor) -> Tensor:
    """Blocks (1, 6, I, J, K) times vectors (1, 3, I, J, K)."""
    a, b, c, d, e, f = blocks.unbind(1)
    x, y, z = p.unbind(1)
    rows = a * x + b * y + c * z, b * x + d * y + e * z, c * x + e * y + f * z
    return torch.stack(rows, dim=1)


def inverse(blocks: Tensor, stiffness: Tensor) -> Tensor:
    """The inverses of the blocks plus what R has on its diagonal at an inner voxel.

    Args:
        blocks: (1, 6, I, J, K), positive semidefinite.
        stiffness: (3, 3) of R, see `Diffusion.stiffness`; positive.

    Returns:
        (1, 6, I, J, K).
    """
    a, b, c, d, e, f = blocks.unbind(1)
    x, y, z = (2 * stiffness.sum(dim=1)).to(blocks)
    a, d, f = a + x, d + y, f + z
    first = d * f - e * e, c * e - b * f, b * e - c * d
    cofactors = (*first, a * f - c * c, b * c - a * e, a * d - b * b)
    return torch.stack(cofactors, dim=1) / (a * first[0] + b * first[1] + c * first[2])
