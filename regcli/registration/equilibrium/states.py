"""States: the variables of a fixed-point iteration, and how a network's step updates them.

A step is nothing where the network's map has its fixed point, however steps are applied: the same
weights register with any of these.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from regcli.image import Space
from regcli.ops.field import compose, exponentiate
from regcli.ops.filter import gaussian
from regcli.transforms.bspline import BSpline
from regcli.transforms.geodesic import Geodesic

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
    def displacement(self, y: Tensor, space: Space) -> Tensor:
        """The displacement of the map that a state parametrizes, (1, 3, I, J, K) voxels."""

    @abstractmethod
    def onward(self, y: Tensor, g: Map, space: Space) -> Tensor:
        """The state after a step.

        Args:
            y: The state, (1, 3, I, J, K).
            g: The network's map of displacements to displacements.
            space: The grid of both.
        """


@dataclass(frozen=True)
class Displacement(State):
    """freeform: y is the displacement, and steps are added, as in training."""

    vector = True
    folds = True
    tol_rms = 0.002

    def displacement(self, y: Tensor, space: Space) -> Tensor:
        """See State."""
        return y

    def onward(self, y: Tensor, g: Map, space: Space) -> Tensor:
        """See State."""
        return g(y)


@dataclass(frozen=True)
class Velocity(State):
    """diffeo and svf: y is a velocity v, the map exp(v), its inverse exp(-v); steps are added to v.

    Attributes:
        squarings: Squarings of the exponential.
        sigma: Smoothing of each step, voxels; without it, fine detail of v would fold.
        symmetric: Whether both images move instead and meet half-way, see SymmetricSteps.
    """

    squarings: int = 7
    sigma: float = 1.0
    symmetric: bool = False
    vector = True
    folds = False
    tol_rms = 0.004  # steps of .03 that shrink by a hundredth each are far from their end

    def displacement(self, y: Tensor, space: Space) -> Tensor:
        """See State."""
        return exponentiate(y, self.squarings)

    def onward(self, y: Tensor, g: Map, space: Space) -> Tensor:
        """See State."""
        u = self.displacement(y, space)
        return y + gaussian(g(u) - u, self.sigma)


@dataclass(frozen=True)
class Composed(State):
    """composed: y is the displacement, and exp of each step is composed before it.

    Attributes:
        squarings: Squarings of the exponential.
        sigma: Smoothing of each step, voxels.
    """

    squarings: int = 4
    sigma: float = 1.0
    vector = False
    folds = False
    tol_rms = 0.004

    def displacement(self, y: Tensor, space: Space) -> Tensor:
        """See State."""
        return y

    def onward(self, y: Tensor, g: Map, space: Space) -> Tensor:
        """See State."""
        return compose(y, exponentiate(gaussian(g(y) - y, self.sigma), self.squarings))


@dataclass(frozen=True)
class GeodesicState(State):
    """geodesic: y is the momentum at the start of a geodesic, and steps are added to it.

    It is smoothed where the path would fold: without that, two of six T1 pairs at 2 mm diverged.

    Attributes:
        width: Width of the kernel, mm; see Geodesic.
        steps: In time.
        sigma: Smoothing of each step, voxels.
    """

    width: float = 2.5
    steps: int = 5
    sigma: float = 1.0
    vector = True
    folds = False
    tol_rms = 0.004

    def displacement(self, y: Tensor, space: Space) -> Tensor:
        """See State."""
        return Geodesic(self.width, self.steps).shoot(y, space).displacement

    def onward(self, y: Tensor, g: Map, space: Space) -> Tensor:
        """See State."""
        path = Geodesic(self.width, self.steps)
        u = path.shoot(y, space).displacement
        return path.retract(y, gaussian(g(u) - u, self.sigma), space)


@dataclass(frozen=True)
class Spline(State):
    """bspline: y is the displacement of a cubic B-spline; after every step, the nearest one.

    Attributes:
        spacing: Distance of the control points, mm; see BSpline.
    """

    spacing: float = 5.0
    vector = True
    folds = True
    tol_rms = 0.002

    def displacement(self, y: Tensor, space: Space) -> Tensor:
        """See State."""
        return y

    def onward(self, y: Tensor, g: Map, space: Space) -> Tensor:
        """See State."""
        return BSpline(self.spacing).nearest(g(y), space)
