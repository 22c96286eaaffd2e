"""Determinants of a displacement field's Jacobian, and the strict test for folds."""

import numpy as np
import torch
from torch import Tensor

from regcli.ops.kernels import reference
from regcli.ops.kernels.cpu import field as loops
from regcli.ops.kernels.cpu.slabs import EVERYWHERE, as_bytes, run


def digital_determinants(displacement: Tensor) -> tuple[Tensor, Tensor]:
    """The strict fold test: the ten finite-difference determinants of digital diffeomorphism.

    Args:
        displacement: (B, 3, I, J, K), voxels.

    Returns:
        The least of the ten at every voxel, and the folded volume there in voxels; both
        (B, I, J, K). The map has no fold exactly where the least is positive everywhere.

    Source: Liu et al., On Finite Difference Jacobian Computation in Deformable Image
    Registration, IJCV 2024.
    """
    u = displacement.detach().to("cpu", torch.float32).contiguous()
    least, volume = (torch.empty(u.shape[0], *u.shape[2:]) for _ in range(2))
    for b in range(u.shape[0]):
        arrays = (u[b].numpy(), EVERYWHERE, least[b].numpy(), volume[b].numpy())
        run(loops.digital, u.shape[2], *arrays)
    return least.to(displacement.device), volume.to(displacement.device)


def least_determinant(
    displacement: Tensor, where: Tensor | None = None, before: Tensor | None = None
) -> Tensor:
    """The least of the ten determinants; after a change, computed anew only where it matters.

    Args:
        displacement: (1, 3, I, J, K), voxels.
        where: (1, 1, I, J, K) bool: the voxels whose determinants may have changed.
        before: (1, 1, I, J, K), what was found before the change; it is overwritten.

    Returns:
        (1, 1, I, J, K).
    """
    if where is None or before is None or displacement.device.type != "cpu":
        return digital_determinants(displacement)[0][:, None]
    arrays = (displacement[0].numpy(), as_bytes(where), before[0, 0].numpy())
    run(loops.digital, displacement.shape[2], *arrays, np.empty_like(arrays[2]))
    return before


def jacobian_determinant(displacement: Tensor) -> Tensor:
    """det(I + Du), central differences, one-sided at the edges.

    Args:
        displacement: (B, 3, I, J, K), voxels. In mm the determinant is the same.

    Returns:
        (B, I, J, K).
    """
    if displacement.device.type != "cpu" or displacement.requires_grad:
        return reference.determinant(reference.jacobian(displacement))
    out = torch.empty(displacement.shape[0], *displacement.shape[2:])
    for b in range(displacement.shape[0]):
        u = displacement[b].to(torch.float32).contiguous().numpy()
        run(loops.determinants, u.shape[1], u, out[b].numpy())
    return out
