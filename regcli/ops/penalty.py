"""Penalty: what a regularizer says near a displacement, and the Gauss-Newton step that heeds it."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from regcli.ops.match import Quadratic
from regcli.ops.newton import (
    conjugate_gradients,
    damping_of,
    diffuse,
    elastic_force,
    inner_diagonal,
    product,
    two_grid,
)
from regcli.ops.stencils import Stencil
from regcli.ops.twogrid import factors, prolong, restrict
from regcli.ops.volume import divergence_onto

_ITERATIONS, _FINE = 8, 4  # of conjugate gradients on half the grid, and then on the grid


@dataclass(frozen=True, eq=False)
class Penalty:
    """Regularization near u: value, force, and the Hessian R of steps that are added to u.

    It is u . R u / 2, R being springs between neighbours, the squared divergence and stencils, and
    an offset with a force; besides, whatever else has a force and a Hessian at voxels. Steps
    composed before the map are taken for steps that are added.

    Attributes:
        u: (1, 3, I, J, K), voxels.
        stiffness: (3, 3) of springs, see `Diffusion.stiffness`; the fastest part.
        stencils: The rest of R, on any device.
        offset: () float64, what the value is beside u . R u / 2.
        pull: (1, 3, I, J, K), what the force is beside R u; None for nothing.
        bulk: Weight of the squared divergence in R, see `divergence_onto`: of volumes on the CPU.
        voxels: g and A at voxels, and their value; None for none.
        axes: Along which u may change; where it may not, it is zero.
    """

    u: Tensor
    stiffness: Tensor
    stencils: tuple[Stencil, ...] = ()
    offset: Tensor = field(default_factory=lambda: torch.zeros((), dtype=torch.float64))
    pull: Tensor | None = None
    bulk: float = 0.0
    voxels: Quadratic | None = None
    axes: tuple[bool, bool, bool] = (True, True, True)

    @property
    def value(self) -> Tensor:
        """() float64."""
        value = self.offset.to(self.u.device) + diffuse(self.u, self.stiffness)[1]
        if self.bulk:
            value = value + 0.5 * divergence_onto(torch.empty_like(self.u), self.u, self.bulk)
        for stencil in self.stencils:
            value = value + stencil.value(self.u)
        return value if self.voxels is None else value + self.voxels.value

    def times(self, p: Tensor) -> Tensor:
        """R p, without what is at voxels: (1, 3, I, J, K) to the same."""
        out = elastic_force(p, self.stiffness, self.bulk)
        for stencil in self.stencils:
            stencil.onto(out, p)
        return along(out, self.axes)

    def bound(self) -> Tensor:
        """(1, 3, I, J, K), such as sums of the absolute values of R's rows: R is at most this."""
        out = torch.zeros_like(self.u)
        out += 2 * inner_diagonal(self.stiffness, self.bulk).to(out).view(1, 3, 1, 1, 1)
        for stencil in self.stencils:
            stencil.bound_onto(out)
        return out

    def halved(self) -> "Penalty":
        """R on half the grid, of what is smooth, with u = 0."""
        steps = factors(self.u)
        # a coarse difference is spread over two fine ones, in each of the rows of fine voxels
        share = torch.tensor(steps).prod() / torch.tensor(steps).square()
        bulk = self.bulk * float(share.mean())  # of volumes: all steps are 2
        coarse = (s.halved(steps) for s in self.stencils)
        u = torch.zeros_like(restrict(self.u))
        stencils = tuple(s for s in coarse if s.fits(u.shape[2:]))
        return Penalty(u, self.stiffness * share, stencils, bulk=bulk, axes=self.axes)

    def onto(self, model: Quadratic) -> Quadratic:
        """A model of steps that are added, with what is no R u, and along `axes` alone."""
        if self.pull is not None:
            model = replace(model, g=model.g + self.pull)
        if self.voxels is not None:
            model = added(model, self.voxels)
        if all(self.axes):
            return model
        both = [a and b for i, a in enumerate(self.axes) for b in self.axes[i:]]
        return Quadratic(model.value, along(model.g, self.axes), along(model.A, both))


def together(penalties: list[Penalty], axes: tuple[bool, bool, bool]) -> Penalty:
    """The sum of penalties of one displacement, which may change along the axes that are true."""
    first, *others = penalties
    for other in others:
        voxels = other.voxels or first.voxels
        if first.voxels is not None and other.voxels is not None:
            voxels = added(first.voxels, other.voxels)
        pulls = [pull for pull in (first.pull, other.pull) if pull is not None]
        first = replace(
            first,
            stiffness=first.stiffness + other.stiffness,
            bulk=first.bulk + other.bulk,
            stencils=first.stencils + other.stencils,
            offset=first.offset + other.offset,
            pull=sum(pulls[1:], pulls[0]) if pulls else None,
            voxels=voxels,
        )
    return replace(first, axes=axes)


def added(one: Quadratic, other: Quadratic) -> Quadratic:
    """The sum of two models."""
    return Quadratic(one.value + other.value, one.g + other.g, one.A + other.A)


def along(values: Tensor, keep: Sequence[bool]) -> Tensor:
    """Fields with the channels to keep, and zero in the others.

    Args:
        values: (1, C, I, J, K).
        keep: Of C.
    """
    if all(keep):
        return values
    return values * torch.tensor(keep, device=values.device).view(1, -1, 1, 1, 1)


def newton_step(model: Quadratic, penalty: Penalty, damping: float) -> Tensor:
    """d of (A + R + mu) d = -(g + R u), nearly; what is smooth in it is found on half the grid.

    Args:
        model: g and A of steps that are added to u.
        penalty: R and u.
        damping: mu, relative to the mean diagonal of A.

    Returns:
        (1, 3, I, J, K), voxels.
    """
    model, u = penalty.onto(model), penalty.u
    # divergences tie the axes to one another, so that those of two_grid must all be free
    if not penalty.stencils and (all(penalty.axes) or not penalty.bulk):
        return two_grid(model, u, penalty.stiffness, damping, _ITERATIONS, penalty.bulk)
    mu, force = damping_of(model, damping), model.g + penalty.times(u)
    half, size = penalty.halved(), torch.tensor(factors(u)).prod().to(u)
    d = _solved(-restrict(force), restrict(model.A), half, mu * size, _ITERATIONS)
    i, j, k = u.shape[2:]
    d = prolong(d, (i, j, k))
    r = force.add_(product(model.A, d)).add_(penalty.times(d)).add_(mu * d).neg_()
    return d.add_(_solved(r, model.A, penalty, mu, _FINE))


def _solved(r: Tensor, A: Tensor, penalty: Penalty, mu: Tensor, iterations: int) -> Tensor:
    """(A + R + mu)^-1 r by conjugate gradients."""
    diagonal = penalty.bound().add_(A[:, [0, 3, 5]]).add_(mu)

    def multiply(p: Tensor) -> Tensor:
        return product(A, p).add_(penalty.times(p)).add_(mu * p)

    return conjugate_gradients(multiply, lambda r: r / diagonal, r, iterations)
