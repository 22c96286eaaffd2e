"""Quadratic forms of a field's differences, of which regularizers are made."""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from regcli.ops.twogrid import average

Axes = tuple[str, str, str]
Triple = tuple[float, float, float]
# What becomes of a field along an axis: nothing, the mean of neighbours, their difference, the
# difference of differences. The last three have one, one and two values fewer there.
SHORTER = {"": 0, "m": 1, "d": 1, "dd": 2}
_LARGEST = {"": 1.0, "m": 1.0, "d": 2.0, "dd": 4.0}  # sums of the coefficients' absolute values


@dataclass(frozen=True)
class Part:
    """A difference of one component.

    Attributes:
        component: Of the field.
        axes: What is done along each axis, see SHORTER.
        scale: Factor.
    """

    component: int
    axes: Axes
    scale: float


@dataclass(frozen=True, eq=False)
class Stencil:
    """weight / 2 sum_x share (sum of the parts at x)^2.

    Attributes:
        parts: With as many values along each axis as one another.
        weight: Factor.
        share: (1, 1, I, J, K), a factor at every voxel of the field; None for one everywhere.
    """

    parts: tuple[Part, ...]
    weight: float
    share: Tensor | None = None

    def fits(self, shape: tuple[int, ...]) -> bool:
        """Whether a grid has enough voxels along each axis."""
        return all(
            n > SHORTER[what]
            for part in self.parts
            for n, what in zip(shape, part.axes, strict=True)
        )

    def value(self, u: Tensor) -> Tensor:
        """The penalty of a field (1, 3, I, J, K): () float64."""
        e = self._sum(u)
        return 0.5 * (e * self._weighted(e)).sum(dtype=torch.float64)

    def onto(self, out: Tensor, p: Tensor) -> None:
        """Add the form's matrix times p to `out`, both (1, 3, I, J, K)."""
        e = self._weighted(self._sum(p))
        for part in self.parts:
            back = transposed(e * part.scale if part.scale != 1 else e, part.axes)
            out[:, part.component : part.component + 1].add_(back)

    def bound_onto(self, out: Tensor) -> None:
        """Add the sums of the absolute values of the matrix's rows to `out` (1, 3, I, J, K)."""
        most = sum(
            abs(part.scale) * math.prod(_LARGEST[what] for what in part.axes) for part in self.parts
        )
        lengths = (n - SHORTER[w] for n, w in zip(out.shape[2:], self.parts[0].axes, strict=True))
        e = self._weighted(out.new_full((1, 1, *lengths), most))
        for part in self.parts:
            i, j, k = ({"d": "a", "dd": "aa"}.get(what, what) for what in part.axes)
            back = transposed(e * abs(part.scale), (i, j, k))
            out[:, part.component : part.component + 1].add_(back)

    def halved(self, factors: list[int]) -> "Stencil":
        """The form on a grid with `factors` as large voxels, of a field that is smooth there."""

        def scale(part: Part) -> float:
            orders = (what.count("d") for what in part.axes)
            return part.scale / math.prod(f**n for f, n in zip(factors, orders, strict=True))

        return Stencil(
            tuple(replace(part, scale=scale(part)) for part in self.parts),
            self.weight * math.prod(factors),
            None if self.share is None else average(self.share),
        )

    def _sum(self, u: Tensor) -> Tensor:
        total: Tensor | None = None
        for part in self.parts:
            e = applied(u[:, part.component : part.component + 1], part.axes)
            e = e * part.scale if part.scale != 1 else e
            total = e if total is None else total + e
        assert total is not None
        return total

    def _weighted(self, e: Tensor) -> Tensor:
        if self.share is None:
            return e * self.weight
        share = self.share
        for axis, what in enumerate(self.parts[0].axes):
            if what == "dd":
                share = share.narrow(axis + 2, 1, share.shape[axis + 2] - 2)
            elif what:
                share = _done(share, axis + 2, "m")
        return e * share * self.weight


def along(what: dict[int, str]) -> Axes:
    """Taps along the named axes; the identity along the others."""
    i, j, k = (what.get(axis, "") for axis in range(3))
    return i, j, k


def applied(u: Tensor, axes: Axes) -> Tensor:
    """A field (1, C, I, J, K) after what is done along each axis."""
    for axis, what in enumerate(axes):
        u = _done(u, axis + 2, what)
    return u


def transposed(e: Tensor, axes: Axes) -> Tensor:
    """The transpose of `applied`, of a field that has values where that gives some."""
    for axis, what in enumerate(axes):
        e = _transposed(e, axis + 2, what)
    return e


def _done(u: Tensor, axis: int, what: str) -> Tensor:
    if not what:
        return u
    n = u.shape[axis]
    if what == "dd":
        return _done(_done(u, axis, "d"), axis, "d")
    first, second = u.narrow(axis, 0, n - 1), u.narrow(axis, 1, n - 1)
    return second - first if what == "d" else (second + first).mul_(0.5)


def _transposed(e: Tensor, axis: int, what: str) -> Tensor:
    """The transpose of what `_done` does; "a" and "aa" are "d" and "dd" of absolute values."""
    if not what:
        return e
    if len(what) == 2:
        return _transposed(_transposed(e, axis, what[0]), axis, what[0])
    n = e.shape[axis]
    shape = list(e.shape)
    shape[axis] = n + 1
    out, part = e.new_zeros(shape), 0.5 * e if what == "m" else e
    out.narrow(axis, 1, n).add_(part)
    out.narrow(axis, 0, n).add_(part, alpha=-1.0 if what == "d" else 1.0)
    return out
