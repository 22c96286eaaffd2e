"""Dense displacement fields: Compositional (diffeo) composes its steps, Freeform adds them."""

from dataclasses import dataclass

import torch
from torch import Tensor

from regcli.image import Space
from regcli.ops import newton
from regcli.ops.field import compose, compose_again, resize_field
from regcli.ops.filter import box_sum, gaussian
from regcli.ops.jacobian import least_determinant
from regcli.ops.match import Quadratic, additive
from regcli.transforms.base import Transform

# The least of the ten determinants that a diffeo may have: above 0, so that rounding on the way
# to a file and back cannot fold it.
_LEAST = 0.02
_SOFTER = (2.0, 5.0)  # smoothing of a step where it would fold, voxels, tried in turn
_NONE = (None, None, None, None)  # and then none of the step there
_ITERATIONS = 8  # of conjugate gradients: at 8 the step is within a few percent of the solution


@dataclass(frozen=True)
class Compositional(Transform):
    """phi = (Id + d_1) o (Id + d_2) o ...: small smooth steps, so that the map never folds.

    y is the displacement u, (1, 3, I, J, K) voxels. Steps are capped, smoothed after capping
    (before it, they fold more than added steps do), and smoothed more where they would fold.

    Attributes:
        cap: Longest step, voxels.
        sigma: Smoothing of each step, voxels.
    """

    cap: float = 0.7
    sigma: float = 0.5

    def identity(self, space: Space) -> Tensor:
        """See Transform."""
        return torch.zeros(1, 3, *space.shape)

    def parts(self, y: Tensor, space: Space) -> tuple[Tensor, Tensor | None]:
        """See Transform."""
        return torch.eye(3, 4, dtype=torch.float64), y

    def energy(self, y: Tensor, stiffness: Tensor) -> Tensor:
        """See Transform."""
        return newton.diffuse(y, stiffness)[1]

    def step(
        self, y: Tensor, model: Quadratic, stiffness: Tensor, space: Space, damping: float
    ) -> Tensor:
        """See Transform."""
        d = newton.solve(model, y, stiffness, damping, _ITERATIONS)
        return gaussian(_capped(d, self.cap), self.sigma)

    def retract(self, y: Tensor, delta: Tensor, space: Space) -> Tensor:
        """See Transform."""
        u = compose(y, delta)
        least = least_determinant(u)
        for sigma in (*_SOFTER, *_NONE):
            folded = least < _LEAST
            if not folded.any():
                return u
            near = _near(folded)
            delta = _softened(delta, near, sigma)
            u = compose_again(y, delta, near > 0, u)
            touched = box_sum((near > 0).to(torch.float32), 1) > 0
            least = least_determinant(u, touched, least)
        return y if (least < _LEAST).any() else u

    def resize(self, y: Tensor, old: Space, new: Space) -> Tensor:
        """See Transform."""
        return unfolded(resize_field(y, new.shape))


@dataclass(frozen=True)
class Freeform(Transform):
    """phi = Id + u, steps added to u, (1, 3, I, J, K) voxels; it may fold where images ask for it.

    Attributes:
        cap: Longest step, voxels.
    """

    cap: float = 1.0

    def identity(self, space: Space) -> Tensor:
        """See Transform."""
        return torch.zeros(1, 3, *space.shape)

    def parts(self, y: Tensor, space: Space) -> tuple[Tensor, Tensor | None]:
        """See Transform."""
        return torch.eye(3, 4, dtype=torch.float64), y

    def energy(self, y: Tensor, stiffness: Tensor) -> Tensor:
        """See Transform."""
        return newton.diffuse(y, stiffness)[1]

    def step(
        self, y: Tensor, model: Quadratic, stiffness: Tensor, space: Space, damping: float
    ) -> Tensor:
        """See Transform."""
        d = newton.solve(additive(model, y), y, stiffness, damping, _ITERATIONS)
        return _capped(d, self.cap)

    def retract(self, y: Tensor, delta: Tensor, space: Space) -> Tensor:
        """See Transform."""
        return y + delta

    def resize(self, y: Tensor, old: Space, new: Space) -> Tensor:
        """See Transform."""
        return resize_field(y, new.shape)


def unfolded(u: Tensor) -> Tensor:
    """u, smoothed around its folds until the strict test finds none.

    Interpolating a field onto a finer grid can fold single voxels of it.

    Args:
        u: (1, 3, I, J, K), voxels.
    """
    while (folded := least_determinant(u) < _LEAST).any():
        u = u + _near(folded) * (0.95 * gaussian(u, 1.5) - u)
    return u


def _capped(d: Tensor, cap: float) -> Tensor:
    length = d.norm(dim=1, keepdim=True)
    return d * (cap / length.clamp(min=cap))


def _softened(delta: Tensor, near: Tensor, sigma: float | None) -> Tensor:
    """The step, smoothed near folds, or faded to nothing there if sigma is None.

    Smoothing lets the region move on as a whole; stopping it there instead costs 1 to 2 points
    of Dice, because it never recovers.
    """
    smooth = torch.zeros_like(delta) if sigma is None else gaussian(delta, sigma)
    return delta + near * (smooth - delta)


def _near(folded: Tensor) -> Tensor:
    """1 around folded voxels, falling smoothly to 0: (1, 1, I, J, K)."""
    near = (box_sum(folded.to(torch.float32), 3) > 0.5).to(torch.float32)
    near = gaussian(near, 1.5).clamp(0, 1)
    return torch.where(near > 1e-3, near, 0.0)
