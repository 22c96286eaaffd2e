"""Determinants of a displacement field's Jacobian, and the strict test for folds."""

import torch
from torch import Tensor

from regcli.ops.backends import reference
from regcli.ops.backends.choose import backend, triton
from regcli.ops.backends.numba import jacobian as loops
from regcli.ops.backends.numba.memory import empty
from regcli.ops.backends.numba.slabs import as_rows, run


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
        run(loops.folds, u.shape[2], u[b].numpy(), least[b].numpy(), volume[b].numpy())
    broken = ~torch.isfinite(u).all(dim=1)  # what is no number must not pass for a map
    least[broken], volume[broken] = -torch.inf, 1.0
    return least.to(displacement.device), volume.to(displacement.device)


def least_determinant(
    displacement: Tensor, rows: Tensor | None = None, out: Tensor | None = None
) -> Tensor:
    """The least of the ten determinants alone, which is six times as fast.

    Args:
        displacement: (B, 3, I, J, K), voxels.
        rows: (I, J) bool, the rows along the last axis where it may have changed; None for all.
        out: What this gave before the change: it is overwritten.

    Returns:
        (B, I, J, K).
    """
    where = backend(displacement)
    if where == "triton":
        return triton("jacobian").least(displacement)
    if where == "reference":
        return digital_determinants(displacement)[0]
    out = empty(displacement.shape[0], *displacement.shape[2:]) if out is None else out
    for b in range(displacement.shape[0]):
        u = displacement[b].to(torch.float32).contiguous().numpy()
        run(loops.least, u.shape[1], u, as_rows(rows), out[b].numpy())
    return out


def jacobian_determinant(displacement: Tensor) -> Tensor:
    """det(I + Du), central differences, one-sided at the edges.

    Args:
        displacement: (B, 3, I, J, K), voxels. In mm the determinant is the same.

    Returns:
        (B, I, J, K).
    """
    where = backend(displacement)
    if where == "triton":
        return triton("jacobian").determinants(displacement)
    if where == "reference":
        return reference.determinant(reference.jacobian(displacement))
    out = empty(displacement.shape[0], *displacement.shape[2:])
    for b in range(displacement.shape[0]):
        u = displacement[b].to(torch.float32).contiguous().numpy()
        run(loops.determinants, u.shape[1], u, out[b].numpy())
    return out
