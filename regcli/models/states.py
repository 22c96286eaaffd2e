"""States: what a learned registration iterates on, and how a network's step is applied to it.

A step is nothing where the network's map has its fixed point, however steps are applied: the same
weights register with any of these.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from regcli.ops.field import compose, exponentiate
from regcli.ops.filter import gaussian

Map = Callable[[Tensor], Tensor]


class State(ABC):
    """A family of maps that a network's steps move through.

    Attributes:
        vector: Whether sums of states are states, as all solvers but plain iteration need.
        folds: Whether its maps may fold.
        tol_rms: Residual that counts as none, voxels.
    """

    vector: ClassVar[bool]
    folds: ClassVar[bool]
    tol_rms: ClassVar[float]

    @abstractmethod
    def displacement(self, y: Tensor) -> Tensor:
        """Of the map that a state stands for, (1, 3, I, J, K) voxels."""

    @abstractmethod
    def onward(self, y: Tensor, g: Map) -> Tensor:
        """The state after a step.

        Args:
            y: The state.
            g: The network's map of displacements to displacements.
        """


@dataclass(frozen=True)
class Displacement(State):
    """freeform: y is the displacement, and steps are added, as in training."""

    vector = True
    folds = True
    tol_rms = 0.002

    def displacement(self, y: Tensor) -> Tensor:
        """See State."""
        return y

    def onward(self, y: Tensor, g: Map) -> Tensor:
        """See State."""
        return g(y)


@dataclass(frozen=True)
class Velocity(State):
    """diffeo: y is a velocity v, the map exp(v), its inverse exp(-v); steps are added to v.

    Attributes:
        squarings: Of exp.
        sigma: Of the smoothing of each step, voxels: without it, fine detail of v would fold.
    """

    squarings: int = 7
    sigma: float = 1.0
    vector = True
    folds = False
    tol_rms = 0.004  # steps of .03 that shrink by a hundredth each are far from their end

    def displacement(self, y: Tensor) -> Tensor:
        """See State."""
        return exponentiate(y, self.squarings)

    def onward(self, y: Tensor, g: Map) -> Tensor:
        """See State."""
        u = self.displacement(y)
        return y + gaussian(g(u) - u, self.sigma)


@dataclass(frozen=True)
class Composed(State):
    """composed: y is the displacement, and exp of each step is composed before it.

    Attributes:
        squarings: Of exp.
        sigma: Of the smoothing of each step, voxels.
    """

    squarings: int = 4
    sigma: float = 1.0
    vector = False
    folds = False
    tol_rms = 0.004

    def displacement(self, y: Tensor) -> Tensor:
        """See State."""
        return y

    def onward(self, y: Tensor, g: Map) -> Tensor:
        """See State."""
        return compose(y, exponentiate(gaussian(g(y) - y, self.sigma), self.squarings))
