"""Maps that may not fold: steps are softened where they would, fields smoothed where they do."""

from collections.abc import Callable

import torch
from torch import Tensor

from regcli.ops.filter import box_sum, gaussian
from regcli.ops.jacobian import least_determinant
from regcli.ops.twogrid import average, blend, restrict, touched_rows

# A step, the rows it has changed in since it was last applied (None for all), and what that gave:
# y after it, and its displacement, or several that may not fold.
Stepped = tuple[Tensor, Tensor]
Apply = Callable[[Tensor, Tensor | None, Stepped | None], Stepped]

# The least of the ten determinants that such a map may have: above 0, so that rounding on the way
# to a file and back cannot fold it.
_LEAST = 0.02
# Where a step would fold, it is smoothed by these sigmas, voxels, in turn, and then faded to none;
# the regions grow by so many voxels of half the grid, for folds wander to the rim of what stops.
_REPAIRS = ((2.0, 1), (5.0, 2), (None, 1), (None, 2), (None, 4), (None, 8), (None, 16))


def stepped(y: Tensor, delta: Tensor, apply: Apply, *, local: bool) -> Tensor:
    """y after a step, which is softened where the map would fold; y itself if nothing helps.

    Args:
        y: Of a map without folds.
        delta: The step, (1, 3, I, J, K) voxels.
        apply: How steps are applied to y.
        local: Whether the map changes only where a step does.
    """
    result = apply(delta, None, None)
    least = _least(result[1])
    asks = _asks(y)
    for sigma, reach in _REPAIRS:
        folded = least[:, None] < _LEAST
        if asks and not folded.any():
            return result[0]
        near = _near(folded, reach)
        delta = _softened(delta, near, sigma)
        i, j, k = delta.shape[2:]
        rows = touched_rows(near, (i, j, k)) if local else None
        result = apply(delta, rows, result)
        least = _least(result[1], rows, least)
    folded = (least < _LEAST).any()
    if asks:
        return y if folded else result[0]
    return torch.where(folded, y, result[0])


def unfolded(y: Tensor, displaced: Callable[[Tensor], Tensor] | None = None) -> Tensor:
    """y, smoothed around the folds of its map until the strict test finds none.

    Interpolating a field onto a finer grid can fold single voxels of it.

    Args:
        y: (1, 3, I, J, K), voxels.
        displaced: The displacements that y stands for, if it is none itself. What is rough may then
            lie away from the fold: with every pass, more around it is smoothed.
    """
    reach = 1
    while True:
        u = displaced(y) if displaced else y
        finite = torch.isfinite(u.sum(dim=(0, 1)))[None, None]
        folded = (_least(u)[:, None] < _LEAST) | ~finite
        if not folded.any():
            return y
        y = blend(y.clone(), 0.95 * _near(folded, reach), gaussian(average(y), 0.75))
        reach += displaced is not None


def _least(u: Tensor, rows: Tensor | None = None, earlier: Tensor | None = None) -> Tensor:
    """The least determinant of all displacements (B, 3, I, J, K) at a voxel: (1, I, J, K)."""
    if len(u) == 1:
        return least_determinant(u, rows, earlier)
    return least_determinant(u).amin(dim=0, keepdim=True)


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
    near = (box_sum(restrict(folded), reach) > 0.5).to(torch.float32)
    near = gaussian(near, 0.75).clamp_(0, 1)
    return torch.where(near > 1e-3, near, 0.0)
