"""Dense displacement fields: Compositional (diffeo) composes its steps, Freeform adds them."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from regcli.image import Box, Space
from regcli.ops.field import capped, compose, extend_field
from regcli.ops.filter import gaussian
from regcli.ops.match import Quadratic, additive
from regcli.ops.penalty import Penalty, newton_step
from regcli.transforms.base import LEAST_SMOOTHING, Deformable
from regcli.transforms.grids import onto_grid
from regcli.transforms.unfold import Stepped, stepped, unfolded


@dataclass(frozen=True)
class Compositional(Deformable):
    """phi = (Id + d_1) o (Id + d_2) o ...: small smooth steps, so that the map never folds.

    y is the displacement u, (1, 3, I, J, K) voxels. Steps are capped, smoothed after capping
    (before it, they fold more than added steps do), and smoothed more where they would fold.

    Attributes:
        cap: Longest step, voxels.
        sigma: Smoothing of each step, voxels.
    """

    cap: float = 0.7
    sigma: float = 0.5
    folds: ClassVar[bool] = False

    def identity(self, space: Space, device: torch.device | str = "cpu") -> Tensor:
        """See Transform."""
        return torch.zeros(1, 3, *space.shape, device=device)

    def parts(self, y: Tensor, space: Space) -> tuple[Tensor, Tensor | None]:
        """See Transform."""
        return torch.eye(3, 4, dtype=torch.float64), y

    def displacement(self, y: Tensor, space: Space) -> Tensor:
        """See Deformable."""
        return y

    def step(
        self, y: Tensor, model: Quadratic, penalty: Penalty | None, space: Space, damping: float
    ) -> Tensor:
        """See Transform."""
        assert penalty is not None
        d = newton_step(model, penalty, damping)
        return gaussian(capped(d, self.cap), self.sigma)

    def tangent(self, d: Tensor, space: Space) -> Tensor:
        """See Deformable."""
        return gaussian(d, max(self.sigma, LEAST_SMOOTHING))

    def retract(self, y: Tensor, delta: Tensor, space: Space) -> Tensor:
        """See Transform."""

        def apply(delta: Tensor, rows: Tensor | None, earlier: Stepped | None) -> Stepped:
            u = compose(y, delta, rows, earlier[0] if earlier else None)
            return u, u

        return stepped(y, delta, apply, local=True)

    def resize(self, y: Tensor, old: Space, new: Space) -> Tensor:
        """See Transform."""
        return unfolded(onto_grid(y, old, new))

    def extend(self, y: Tensor, box: Box) -> Tensor:
        """See Transform."""
        return unfolded(extend_field(y, box.start, box.space.shape))


@dataclass(frozen=True)
class Freeform(Deformable):
    """phi = Id + u, steps added to u, (1, 3, I, J, K) voxels; it may fold where images ask for it.

    Attributes:
        cap: Longest step, voxels.
    """

    cap: float = 1.0
    folds: ClassVar[bool] = True

    def identity(self, space: Space, device: torch.device | str = "cpu") -> Tensor:
        """See Transform."""
        return torch.zeros(1, 3, *space.shape, device=device)

    def parts(self, y: Tensor, space: Space) -> tuple[Tensor, Tensor | None]:
        """See Transform."""
        return torch.eye(3, 4, dtype=torch.float64), y

    def displacement(self, y: Tensor, space: Space) -> Tensor:
        """See Deformable."""
        return y

    def step(
        self, y: Tensor, model: Quadratic, penalty: Penalty | None, space: Space, damping: float
    ) -> Tensor:
        """See Transform."""
        assert penalty is not None
        d = newton_step(additive(model, y), penalty, damping)
        return capped(d, self.cap)

    def tangent(self, d: Tensor, space: Space) -> Tensor:
        """See Deformable."""
        return d

    def retract(self, y: Tensor, delta: Tensor, space: Space) -> Tensor:
        """See Transform."""
        return y + delta

    def resize(self, y: Tensor, old: Space, new: Space) -> Tensor:
        """See Transform."""
        return onto_grid(y, old, new)

    def extend(self, y: Tensor, box: Box) -> Tensor:
        """See Transform."""
        return extend_field(y, box.start, box.space.shape)
