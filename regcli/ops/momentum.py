"""coadjoint: how a map carries the momentum of a geodesic."""

import torch
from torch import Tensor

from regcli.ops.backends import reference
from regcli.ops.backends.choose import backend
from regcli.ops.backends.numba import coadjoint as loops
from regcli.ops.backends.numba.memory import empty
from regcli.ops.backends.numba.slabs import run
from regcli.ops.sample import sample

Triple = tuple[float, float, float]


def coadjoint(momentum: Tensor, back: Tensor, spacing: Triple) -> Tensor:
    """det(D) D^T m(psi(x)) with psi = Id + back and D = D psi: the coadjoint action of psi^-1.

    Args:
        momentum: m, (1, 3, I, J, K), components as vectors in voxels have them.
        back: Displacement of psi, (1, 3, I, J, K) voxels.
        spacing: mm; the transpose is that of vectors in mm.

    Returns:
        (1, 3, I, J, K).
    """
    m = sample(momentum, back)
    size = torch.tensor(spacing, dtype=torch.float32).square()
    if backend(m, back) != "numba":
        D = reference.jacobian(back)
        h = size.to(m).view(1, 3, 1, 1, 1)
        out = torch.einsum("bcdijk,bcijk->bdijk", D, h * m) / h
        return out * reference.determinant(D)[:, None]
    out = empty(*m.shape)
    run(loops.coadjoint, m.shape[2], back[0].numpy(), m[0].numpy(), size.numpy(), out[0].numpy())
    return out
