"""Dense displacement fields: Compositional (diffeo) composes its steps, Freeform adds them."""

from dataclasses import dataclass

import torch
from torch import Tensor

from regcli.image import Box, Space
from regcli.ops import newton
from regcli.ops.field import capped, compose, extend_field, resize_field
from regcli.ops.filter import box_sum, gaussian
from regcli.ops.jacobian import least_determinant
from regcli.ops.match import Quadratic, additive
from regcli.ops.twogrid import average, blend, halve, touched_rows
from regcli.transforms.base import Transform

# The least of the ten determinants that a diffeo may have: above 0, so that rounding on the way
# to a file and back cannot fold it.
_LEAST = 0.02
# Where a step would fold, it is smoothed by these sigmas, voxels, in turn, and then faded to none;
# the regions grow by so many voxels of half the grid, for folds wander to the rim of what stops.
_REPAIRS = ((2.0, 1), (5.0, 2), (None, 1), (None, 2), (None, 4), (None, 8), (None, 16))
_ITERATIONS = 8  # of conjugate gradients on half the grid


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

    def identity(self, space: Space, device: torch.device | str = "cpu") -> Tensor:
        """See Transform."""
        return torch.zeros(1, 3, *space.shape, device=device)

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
        d = newton.two_grid(model, y, stiffness, damping, _ITERATIONS)
        return gaussian(capped(d, self.cap), self.sigma)

    def retract(self, y: Tensor, delta: Tensor, space: Space) -> Tensor:
        """See Transform."""
        u = compose(y, delta)
        least = least_determinant(u)
        asks = _asks(y)
        for sigma, reach in _REPAIRS:
            folded = least[:, None] < _LEAST
            if asks and not folded.any():
                return u
            near = _near(folded, reach)
            delta = _softened(delta, near, sigma)
            rows = touched_rows(near, space.shape)
            u = compose(y, delta, rows, u)
            least = least_determinant(u, rows, least)
        folded = (least < _LEAST).any()
        if asks:
            return y if folded else u
        return torch.where(folded, y, u)

    def resize(self, y: Tensor, old: Space, new: Space) -> Tensor:
        """See Transform."""
        return unfolded(resize_field(y, new.shape))

    def extend(self, y: Tensor, box: Box) -> Tensor:
        """See Transform."""
        return unfolded(extend_field(y, box.start, box.space.shape))


@dataclass(frozen=True)
class Freeform(Transform):
    """phi = Id + u, steps added to u, (1, 3, I, J, K) voxels; it may fold where images ask for it.

    Attributes:
        cap: Longest step, voxels.
    """

    cap: float = 1.0

    def identity(self, space: Space, device: torch.device | str = "cpu") -> Tensor:
        """See Transform."""
        return torch.zeros(1, 3, *space.shape, device=device)

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
        d = newton.two_grid(additive(model, y), y, stiffness, damping, _ITERATIONS)
        return capped(d, self.cap)

    def retract(self, y: Tensor, delta: Tensor, space: Space) -> Tensor:
        """See Transform."""
        return y + delta

    def resize(self, y: Tensor, old: Space, new: Space) -> Tensor:
        """See Transform."""
        return resize_field(y, new.shape)

    def extend(self, y: Tensor, box: Box) -> Tensor:
        """See Transform."""
        return extend_field(y, box.start, box.space.shape)


def unfolded(u: Tensor) -> Tensor:
    """u, smoothed around its folds until the strict test finds none.

    Interpolating a field onto a finer grid can fold single voxels of it.

    Args:
        u: (1, 3, I, J, K), voxels.
    """
    while (folded := least_determinant(u)[:, None] < _LEAST).any():
        u = blend(u.clone(), 0.95 * _near(folded, 1), gaussian(average(u), 0.75))
    return u


def _asks(y: Tensor) -> bool:
    """Whether to ask if repairs are needed; on a GPU all are made, for asking means waiting."""
    return y.device.type == "cpu"


def _softened(delta: Tensor, near: Tensor, sigma: float | None) -> Tensor:
    """The step, smoothed near folds, or faded to nothing there if sigma is None.

    Smoothing lets the region move on as a whole; stopping it there instead costs 1 to 2 points
    of Dice, because it never recovers. What is smooth is computed on half the grid.
    """
    half = average(delta)
    smooth = torch.zeros_like(half) if sigma is None else gaussian(half, sigma / 2)
    return blend(delta, near, smooth)


def _near(folded: Tensor, reach: int) -> Tensor:
    """1 around folded voxels, falling smoothly to 0, on half the grid: (1, 1, i, j, k)."""
    near = (box_sum(halve(folded), reach) > 0.5).to(torch.float32)
    near = gaussian(near, 0.75).clamp_(0, 1)
    return torch.where(near > 1e-3, near, 0.0)
