"""Free-form deformation by cubic B-splines: few numbers, on a grid of control points in mm."""

import itertools
import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from regcli.image import Box, Space
from regcli.ops.field import capped, extend_field
from regcli.ops.match import Quadratic, additive
from regcli.ops.newton import conjugate_gradients, damping_of, product
from regcli.ops.penalty import Penalty
from regcli.ops.twogrid import factors, restrict
from regcli.transforms.base import Deformable
from regcli.transforms.grids import onto_grid, same_corners

_ITERATIONS = 12  # of conjugate gradients
_HALVED = 4  # voxels between control points, from which half of them per axis show what they do
_HIDDEN = 0.1  # of the largest singular value: below it, control points hardly show
_ROUNDING = 1e-6  # of a control interval
Matrices = tuple[Tensor, Tensor, Tensor]


@dataclass(frozen=True)
class BSpline(Deformable):
    """u(x) = sum over control points c of y_c beta(x / s - c), beta the cubic B-spline.

    y is (1, 3, i, j, k), voxels of the image's grid. Control points lie `spacing` apart from the
    grid's first voxel on, one before it and enough behind its last. On coarse levels they are 2, 4,
    8... times as far apart: at least two voxels.

    Attributes:
        spacing: s, mm, on levels whose voxels are at most half as large.
        cap: Longest step, voxels.

    Source: Rueckert et al., TMI 1999; subdivision: Catmull and Clark, CAD 1978.
    """

    spacing: float = 5.0
    cap: float = 1.0
    folds: ClassVar[bool] = True

    def identity(self, space: Space, device: torch.device | str = "cpu") -> Tensor:
        """See Transform."""
        return torch.zeros(1, 3, *self._nodes(space, self._coarseness(space)), device=device)

    def parts(self, y: Tensor, space: Space) -> tuple[Tensor, Tensor | None]:
        """See Transform."""
        return torch.eye(3, 4, dtype=torch.float64), self.displacement(y, space)

    def displacement(self, y: Tensor, space: Space) -> Tensor:
        """See Deformable."""
        return spread(y, self.basis(y, space))

    def tangent(self, d: Tensor, space: Space) -> Tensor:
        """See Deformable: the nearest spline, but for control points that hardly show inside."""
        basis = self.basis(self.identity(space), space)
        i, j, k = (torch.linalg.pinv(B.double(), rtol=_HIDDEN).to(d) for B in basis)
        return spread(d, (i, j, k))

    def step(
        self, y: Tensor, model: Quadratic, penalty: Penalty | None, space: Space, damping: float
    ) -> Tensor:
        """See Transform: by conjugate gradients on control points."""
        assert penalty is not None
        u, rough = penalty.u, penalty
        model, fine = penalty.onto(additive(model, u)), self.basis(y, space)
        g = model.g + penalty.times(u)
        A, mu, basis = model.A, damping_of(model, damping), fine
        if self._apart(y, space) >= _HALVED:
            i, j, k = (_paired(B) if n > 1 else B for B, n in zip(fine, space.shape, strict=True))
            g, A, mu, rough = restrict(g), restrict(A), mu * math.prod(factors(u)), penalty.halved()
            basis = (i, j, k)

        def multiply(p: Tensor) -> Tensor:
            d = spread(p, basis)
            return gather(product(A, d) + rough.times(d) + mu * d, basis)

        # splines overlap: what their matrix would be if they did not is no preconditioner. That of
        # the voxels is, between the values that control points stand for.
        own = A[:, [0, 3, 5]] + rough.bound() / 2 + mu
        i, j, k = (_solved(B) for B in basis)
        values = (i, j, k)

        def precondition(r: Tensor) -> Tensor:
            return gather(spread(r, values) / own, values)

        r = gather(g, basis).neg_()
        d = conjugate_gradients(multiply, precondition, r, _ITERATIONS)
        return capped(d.contiguous(), self.cap)

    def retract(self, y: Tensor, delta: Tensor, space: Space) -> Tensor:
        """See Transform."""
        return y + delta

    def resize(self, y: Tensor, old: Space, new: Space) -> Tensor:
        """See Transform; control points are doubled where the new grid allows it: exactly.

        On a grid with other corners it is the nearest spline.
        """
        if not same_corners(old, new):
            return self.tangent(onto_grid(self.displacement(y, old), old, new), new)
        ratios = [
            (b - 1) / (a - 1) if a > 1 else 1.0 for a, b in zip(old.shape, new.shape, strict=True)
        ]
        coarseness = self._coarseness_of(y, old)
        y = y * torch.tensor(ratios, device=y.device).to(y).view(1, 3, 1, 1, 1)
        for now in reversed(range(self._coarseness(new), coarseness)):
            i, j, k = (
                _subdivision(n, device=y.device)[:m] if solid else torch.ones(1, 1).to(y)
                for n, m, solid in zip(y.shape[2:], self._nodes(new, now), new.solid, strict=True)
            )
            y = spread(y, (i, j, k))
        return y

    def extend(self, y: Tensor, box: Box) -> Tensor:
        """See Transform."""
        return extend_field(self.displacement(y, box.part), box.start, box.space.shape)

    def basis(self, y: Tensor, space: Space) -> Matrices:
        """(I, i), (J, j) and (K, k): what each control point gives to each voxel, per axis."""
        apart = self.spacing * 2 ** self._coarseness_of(y, space)
        i, j, k = (
            _cubic(torch.arange(n) * (h / apart), count).to(y) if n > 1 else torch.ones(1, 1).to(y)
            for n, h, count in zip(space.shape, space.spacing, y.shape[2:], strict=True)
        )
        return i, j, k

    def _coarseness(self, space: Space) -> int:
        """How often the spacing is doubled, so that control points are two voxels apart or more."""
        largest = max(h for h, solid in zip(space.spacing, space.solid, strict=True) if solid)
        return max(0, math.ceil(math.log2(2 * largest / self.spacing) - _ROUNDING))

    def _coarseness_of(self, y: Tensor, space: Space) -> int:
        """How often it is doubled for y: the least that has as many control points."""
        for coarseness in itertools.count():
            if self._nodes(space, coarseness) == tuple(y.shape[2:]):
                return coarseness
        raise AssertionError

    def _apart(self, y: Tensor, space: Space) -> float:
        """Voxels between control points, on the axis where they are fewest."""
        apart = self.spacing * 2 ** self._coarseness_of(y, space)
        return min(apart / h for h, solid in zip(space.spacing, space.solid, strict=True) if solid)

    def _nodes(self, space: Space, coarseness: int) -> tuple[int, int, int]:
        apart = self.spacing * 2**coarseness
        i, j, k = (
            max(1, math.ceil((n - 1) * h / apart - _ROUNDING)) + 3 if n > 1 else 1
            for n, h in zip(space.shape, space.spacing, strict=True)
        )
        return i, j, k


def spread(y: Tensor, basis: Matrices) -> Tensor:
    """Values at voxels: (1, C, i, j, k) and (I, i), (J, j), (K, k) to (1, C, I, J, K)."""
    (_, C, i, j, k), (Bi, Bj, Bk) = y.shape, basis
    out = (y.reshape(-1, k) @ Bk.T).reshape(C * i, j, -1)
    out = (Bj @ out).reshape(C, i, -1)
    return (Bi @ out).reshape(1, C, len(Bi), len(Bj), len(Bk))


def gather(values: Tensor, basis: Matrices) -> Tensor:
    """The transpose of `spread`: (1, C, I, J, K) to (1, C, i, j, k)."""
    return spread(values, (basis[0].T, basis[1].T, basis[2].T))


def _cubic(points: Tensor, count: int) -> Tensor:
    """(N, count): beta(p - c) of points (N,) for control points c = -1, 0, ..., count - 2."""
    t = (points[:, None] - (torch.arange(count) - 1)).abs()
    near = 2 / 3 - t.square() * (1 - t / 2)
    far = (2 - t).clamp(min=0) ** 3 / 6
    return torch.where(t < 1, near, far)


def _subdivision(count: int, device: torch.device) -> Tensor:
    """(2 count - 3, count): the same spline by control points twice as dense."""
    out = torch.zeros(2 * count - 3, count, device=device)
    for fine in range(2 * count - 3):  # number 0 lies half-way between the first two
        near = fine // 2
        if fine % 2 == 0:
            out[fine, near] = out[fine, near + 1] = 1 / 2
        else:
            out[fine, near], out[fine, near + 1], out[fine, near + 2] = 1 / 8, 6 / 8, 1 / 8
    return out


def _solved(B: Tensor) -> Tensor:
    """B (B^T B)^-1, nearly: the outermost control points hardly show inside. (I, i) to (I, i)."""
    gram = B.T @ B
    ridge = 1e-4 * gram.diagonal().max() * torch.eye(len(gram)).to(B)
    return torch.linalg.solve(gram + ridge, B.T).T


def _paired(B: Tensor) -> Tensor:
    """Rows of B, averaged over the two fine voxels of each coarse one; the last may have one."""
    whole = len(B) // 2 * 2
    return torch.cat([B[:whole].unflatten(0, (-1, 2)).mean(dim=1), B[whole:]])
