"""Linear maps: translation, rigid, similarity or affine, steps composed by the exponential map.

y is one (4, 4) float64 matrix, fixed world to fixed world in mm: it means the same on every level.
Steps are combinations of the family's generators about the middle of the grid, along its axes, so
that turning both images together turns the result and nothing else.
"""

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from regcli.image import Box, Space
from regcli.ops.histogram import index_moments
from regcli.ops.match import Quadratic
from regcli.ops.penalty import Penalty
from regcli.transforms.base import Transform


@dataclass(frozen=True)
class Linear(Transform):
    """One family of linear maps.

    Attributes:
        family: "translation", "rigid", "similarity" or "affine".
    """

    family: str

    def identity(self, space: Space, device: torch.device | str = "cpu") -> Tensor:
        """See Transform."""
        return torch.eye(4, dtype=torch.float64)

    def parts(self, y: Tensor, space: Space) -> tuple[Tensor, Tensor | None]:
        """See Transform."""
        return (torch.linalg.inv(space.affine) @ y @ space.affine)[:3], None

    def step(
        self, y: Tensor, model: Quadratic, penalty: Penalty | None, space: Space, damping: float
    ) -> Tensor:
        """See Transform; the (4, 4) generator of a one-parameter group, damped as by Marquardt."""
        g, H = _moments(model)
        generators, B = _directions(self.family, space)
        g, H = B.T @ g, B.T @ H @ B
        diagonal = H.diagonal()
        damped = H + torch.diag(damping * diagonal + 1e-9 * diagonal.max() + 1e-30)
        p = torch.linalg.solve(damped, -g)
        return torch.einsum("n,nab->ab", p, generators)

    def retract(self, y: Tensor, delta: Tensor, space: Space) -> Tensor:
        """See Transform."""
        return y @ torch.linalg.matrix_exp(delta)

    def resize(self, y: Tensor, old: Space, new: Space) -> Tensor:
        """See Transform."""
        return y

    def extend(self, y: Tensor, box: Box) -> Tensor:
        """See Transform."""
        return y


@lru_cache(maxsize=8)  # of the steps on one level, each would make them again
def _directions(family: str, space: Space) -> tuple[Tensor, Tensor]:
    """A family's generators in world mm, (n, 4, 4), and what each does to voxels, (12, n)."""
    axes = frame(space)
    local, to_voxel = _generators(family, space.solid), torch.linalg.inv(space.affine) @ axes
    basis = to_voxel @ local @ torch.linalg.inv(to_voxel)
    return axes @ local @ torch.linalg.inv(axes), basis[:, :3].flatten(1).T


def frame(space: Space) -> Tensor:
    """(4, 4) from mm along the grid's axes about its middle to the world: a rigid map."""
    U, _, V = torch.linalg.svd(space.affine[:3, :3] / torch.tensor(space.spacing))
    out = torch.eye(4, dtype=torch.float64)
    out[:3, :3] = U @ V
    out[:3, 3] = space.centre
    return out


def _generators(family: str, solid: tuple[bool, bool, bool]) -> Tensor:
    """(n, 4, 4) generators in the frame; those that leave a 2-D image's plane are left out.

    Rotations and zooms are per 100 mm, so that a unit of each moves the head's edge about as far
    as a unit of translation does.
    """
    out = []

    def add(*entries: tuple[int, int, float]) -> None:
        if all(solid[a] and (b == 3 or solid[b]) for a, b, _ in entries):
            G = torch.zeros(4, 4, dtype=torch.float64)
            for a, b, value in entries:
                G[a, b] = value
            out.append(G)

    for axis in range(3):
        add((axis, 3, 1.0))
    if family in ("rigid", "similarity"):
        for a, b in ((0, 1), (0, 2), (1, 2)):
            add((a, b, -0.01), (b, a, 0.01))
    if family == "similarity":
        add(*((axis, axis, 0.01) for axis in range(3) if solid[axis]))
    if family == "affine":
        for a in range(3):
            for b in range(3):
                add((a, b, 0.01))
    return torch.stack(out)


def _moments(model: Quadratic) -> tuple[Tensor, Tensor]:
    """Gradient (12,) and Hessian (12, 12) of the energy by P, d(x) = P (x, 1), P (3, 4) rows first.

    Sums over voxels of g_c X_a and A_cd X_a X_b with X = (i, j, k, 1), axis by axis.
    """
    sums = torch.cat([index_moments(model.g[0]), index_moments(model.A[0])])  # (9, 3, 3, 3)
    of = torch.tensor([(1, 0, 0), (0, 1, 0), (0, 0, 1), (0, 0, 0)])  # exponents of X
    g = sums[:3][:, *of.T]  # (3, 4)
    blocks = sums[3:][:, *(of[:, None] + of).movedim(-1, 0)]  # (6, 4, 4)
    H = blocks[torch.tensor([[0, 1, 2], [1, 3, 4], [2, 4, 5]])].movedim(2, 1)  # (3, 4, 3, 4)
    return g.flatten(), H.reshape(12, 12)
