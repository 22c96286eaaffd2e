"""Geodesics of diffeomorphisms (LDDMM): the map is shot by an initial momentum (EPDiff)."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from regcli.image import Box, Space
from regcli.ops.field import capped, compose, extend_field
from regcli.ops.filter import gaussian
from regcli.ops.match import Quadratic
from regcli.ops.momentum import coadjoint
from regcli.ops.penalty import Penalty, newton_step
from regcli.ops.sample import sample
from regcli.transforms.base import LEAST_SMOOTHING, Deformable
from regcli.transforms.grids import onto_grid
from regcli.transforms.unfold import unfolded

_RESOLVED = 1.25  # voxels: a narrower kernel lets momentum of single voxels fold the path
Triple = tuple[float, float, float]


@dataclass(frozen=True, eq=False)
class Path:
    """A geodesic from the identity.

    Attributes:
        displacement: At its end, (1, 3, I, J, K) voxels.
        energies: (steps + 1,) float64, mm^5: the integral of m . K m / 2, on the way. It is
            conserved, but for what a grid loses; empty if it was not asked for.
    """

    displacement: Tensor
    energies: Tensor


@dataclass(frozen=True)
class Geodesic(Deformable):
    """phi is the end of the path phi' = v(phi), v = K m, on which phi carries a momentum m.

    y is the momentum at the start, (1, 3, I, J, K) voxels; K is a Gaussian. A step d composed
    before phi is added to y, so that the velocity at the start changes by K d: d, smoothed, as
    steps are in other families. Where the path would fold, y is smoothed: to soften the step
    alone, which folds far from where it is, cost 1 point of Dice and twice the time.

    Attributes:
        width: Sigma of K, mm, on grids that resolve it, else 1.25 voxels.
        steps: In time, each by the midpoint rule.
        cap: Longest step, voxels.

    Source: Miller, Trouve, Younes, JMIV 2006; Vialard et al., IJCV 2012.
    """

    width: float = 2.5
    steps: int = 5
    cap: float = 0.7
    folds: ClassVar[bool] = False

    def identity(self, space: Space, device: torch.device | str = "cpu") -> Tensor:
        """See Transform."""
        return torch.zeros(1, 3, *space.shape, device=device)

    def parts(self, y: Tensor, space: Space) -> tuple[Tensor, Tensor | None]:
        """See Transform."""
        return torch.eye(3, 4, dtype=torch.float64), self.displacement(y, space)

    def displacement(self, y: Tensor, space: Space) -> Tensor:
        """See Deformable."""
        return self.shoot(y, space).displacement

    def shoot(self, y: Tensor, space: Space, *, watch: bool = False) -> Path:
        """Follow the geodesic that starts with momentum y.

        Args:
            y: (1, 3, I, J, K), voxels.
            space: Its grid.
            watch: Whether to measure the energy on the way.
        """
        ahead, back, dt = torch.zeros_like(y), torch.zeros_like(y), 1 / self.steps
        m, energies = y, []
        for step in range(self.steps):
            m = coadjoint(y, back, space.spacing) if step else y
            v = self._velocity(m, space)
            if watch:
                energies.append(_energy(m, v, space))
            half = compose(back, v * (-dt / 2)) if step else v * (-dt / 2)
            v = self._velocity(coadjoint(y, half, space.spacing), space)
            back = compose(back, _flowed(v, -dt))
            ahead = compose(_flowed(v, dt), ahead)
        if watch:
            m = coadjoint(y, back, space.spacing)
            energies.append(_energy(m, self._velocity(m, space), space))
        return Path(ahead, torch.stack(energies) if watch else torch.empty(0))

    def in_words(self, y: Tensor, space: Space) -> str:
        """The energy of y's path, and how well it is conserved."""
        energies = self.shoot(y, space, watch=True).energies
        if not float(energies[0]):
            return "The geodesic goes nowhere: its momentum is zero."
        drift = float((energies / energies[0] - 1).abs().max())
        return (
            f"The geodesic's energy is {float(energies[0]):.4g} mm^5 at its start, and within "
            f"{drift:.1%} of that on its way."
        )

    def step(
        self, y: Tensor, model: Quadratic, penalty: Penalty | None, space: Space, damping: float
    ) -> Tensor:
        """See Transform."""
        assert penalty is not None
        d = newton_step(model, penalty, damping)
        return capped(d, self.cap)

    def tangent(self, d: Tensor, space: Space) -> Tensor:
        """See Deformable: detail that K hides would never come to an end."""
        return gaussian(d, LEAST_SMOOTHING)

    def retract(self, y: Tensor, delta: Tensor, space: Space) -> Tensor:
        """See Transform."""
        return self._unfolded(y + delta, space)

    def resize(self, y: Tensor, old: Space, new: Space) -> Tensor:
        """See Transform; where the new grid resolves a narrower kernel, the velocity is kept."""
        was, now = self._widths(old), self._widths(new)
        i, j, k = (
            math.sqrt(max(a * a - b * b, 0.0)) / h
            for a, b, h in zip(was, now, new.spacing, strict=True)
        )
        return self._unfolded(gaussian(onto_grid(y, old, new), (i, j, k)), new)

    def extend(self, y: Tensor, box: Box) -> Tensor:
        """See Transform."""
        u = self.displacement(y, box.part)
        return unfolded(extend_field(u, box.start, box.space.shape))

    def _unfolded(self, y: Tensor, space: Space) -> Tensor:
        return unfolded(y, lambda m: self.displacement(m, space))

    def _velocity(self, momentum: Tensor, space: Space) -> Tensor:
        i, j, k = (w / h for w, h in zip(self._widths(space), space.spacing, strict=True))
        return gaussian(momentum, (i, j, k))

    def _widths(self, space: Space) -> Triple:
        i, j, k = (
            min(max(self.width, _RESOLVED * h), n * h)  # wider than the image is as good as that
            for n, h in zip(space.shape, space.spacing, strict=True)
        )
        return i, j, k


def _flowed(v: Tensor, time: float) -> Tensor:
    """Displacement of exp(time v), to the second order."""
    return sample(v, v * (time / 2)).mul_(time)


def _energy(m: Tensor, v: Tensor, space: Space) -> Tensor:
    size = torch.tensor(space.spacing, device=m.device).square().view(1, 3, 1, 1, 1)
    return 0.5 * math.prod(space.spacing) * (size * m * v).sum(dtype=torch.float64)
