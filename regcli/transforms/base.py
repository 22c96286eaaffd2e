"""Transform: a family of maps of the fixed space to itself, parametrised by one tensor y."""

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor

from regcli.image import Box, Space
from regcli.ops.match import Quadratic
from regcli.ops.penalty import Penalty

# Sigma of the smoothing of a network's steps, voxels: by half of that, the equilibrium of a
# phantom has a spectral radius of 1.1 instead of 1.0.
LEAST_SMOOTHING = 1.0


class Transform(ABC):
    """The operations of a solver on a map, whatever its parameters are.

    A step comes from a model of the energy in a small displacement composed before the map, and
    is applied by `retract`; nothing else knows whether steps are added or composed.
    """

    @abstractmethod
    def identity(self, space: Space, device: torch.device | str = "cpu") -> Tensor:
        """y of the identity on a grid; dense ones lie on the device, a matrix on the processor."""

    @abstractmethod
    def parts(self, y: Tensor, space: Space) -> tuple[Tensor, Tensor | None]:
        """phi(x) = M (x + u(x)) on the grid: M (3, 4) voxel to voxel, u (1, 3, I, J, K) or None."""

    @abstractmethod
    def step(
        self, y: Tensor, model: Quadratic, penalty: Penalty | None, space: Space, damping: float
    ) -> Tensor:
        """The damped Gauss-Newton step of model + regularization; shape of y's tangent.

        Args:
            y: Where the model holds.
            model: Of the similarity, on the grid.
            penalty: Regularization of y's displacement, which it holds; None if y has none.
            space: The grid.
            damping: Levenberg's mu, relative to the mean diagonal of the Hessian.
        """

    @abstractmethod
    def retract(self, y: Tensor, delta: Tensor, space: Space) -> Tensor:
        """The map after a step."""

    @abstractmethod
    def resize(self, y: Tensor, old: Space, new: Space) -> Tensor:
        """The same map on another level's grid."""

    @abstractmethod
    def extend(self, y: Tensor, box: Box) -> Tensor:
        """The map on the grid that y's box was cut from: a matrix, or a displacement (voxels)."""


class Deformable(Transform):
    """A family of maps that have a displacement, so that a network's steps can drive them, too.

    Attributes:
        folds: Whether its maps may fold.
    """

    folds: ClassVar[bool]

    @abstractmethod
    def displacement(self, y: Tensor, space: Space) -> Tensor:
        """The displacement of the map: (1, 3, I, J, K) voxels."""

    @abstractmethod
    def tangent(self, d: Tensor, space: Space) -> Tensor:
        """The step, for `retract`, that composes a small displacement before the map.

        Args:
            d: (1, 3, I, J, K), voxels; it is smoothed as suits the family.
            space: The grid.

        Returns:
            Shape of y's tangent.
        """
