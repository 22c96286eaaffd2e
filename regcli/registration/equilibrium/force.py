"""LearnedForce: the residual g(u) - u of an update network; zero at its equilibrium."""

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from regcli.image import Space
from regcli.nets.update import Memory, StepNet
from regcli.ops.carry import carry
from regcli.ops.correlation import correlation_derivatives
from regcli.ops.filter import box_sum, gaussian, gradient
from regcli.ops.histogram import moments
from regcli.ops.smooth import smoothed, spread, variance
from regcli.ops.totals import total
from regcli.registration.features.extract import working_grid
from regcli.registration.pyramid import Prepared
from regcli.transforms.grids import resample_field

Autocast = Callable[[], AbstractContextManager[Any]]

_RADIUS, _FLAT = 2, 1e-2  # of windows; share of the image's variance that flat ones have
_SHOWN, _CLOSE = 0.1, 2  # of the intensity range; voxels


@dataclass(frozen=True, eq=False)
class View:
    """A pair on one level's grid, as a network sees it.

    Attributes:
        space: The grid, isotropic, along the axes of the fixed image.
        fixed: (1, 1, I, J, K) in [0, 1].
        moving: (1, 1, I, J, K), carried by the affine.
        masks: Masks of both images, (1, 1, I, J, K) in [0, 1]; None where everything counts.
    """

    space: Space
    fixed: Tensor
    moving: Tensor
    masks: tuple[Tensor | None, Tensor | None] = (None, None)

    @property
    def start(self) -> Tensor:
        """No displacement, (1, 3, I, J, K)."""
        return self.fixed.new_zeros(1, 3, *self.space.shape)

    @cached_property
    def gradient(self) -> Tensor:
        """Gradient of the moving image, (1, 3, I, J, K)."""
        return gradient(self.moving)

    @cached_property
    def shown(self) -> Tensor:
        """(1, 1, I, J, K): 1 in and near the foreground of the fixed image, else 0.

        Noise around a head shows nothing, but a map that blurs it makes images more alike.
        """
        inside = gaussian(self.fixed, 1.0) > _SHOWN
        return (box_sum(inside.to(self.fixed), _CLOSE) > 0).to(self.fixed)

    def counting(self, u: Tensor) -> Tensor | None:
        """(1, 1, I, J, K), what counts where the moving image is displaced; None for everything.

        Args:
            u: (1, 3, I, J, K), voxels.
        """
        fixed, moving = self.masks
        if moving is None:
            return fixed
        moved = carry(moving, u)
        return moved if fixed is None else fixed * moved


@dataclass(frozen=True, eq=False)
class LearnedForce:
    """f(u) = g(u) - u, where g(u) = G (u + net(fixed, moving o u, u)) and G smooths a little.

    The moving image itself is moved by the whole displacement at every call. Smoothing within g
    damps what the images do not decide, without which plain iteration drifts.

    Attributes:
        net: A network without memory, the same on all levels.
        view: The pair.
        sigma: Standard deviation of G, voxels; 0 for the paper's map, g(u) = u + net(...).
        smoothness: Factor of the variance of G.
        autocast: Context that sets the network's precision.

    Source: Zhang et al., DEQReg, MICCAI 2025.
    """

    net: StepNet
    view: View
    sigma: float
    smoothness: float = 1.0
    autocast: Autocast = nullcontext

    def onward(self, u: Tensor) -> Tensor:
        """g(u): (1, 3, I, J, K) to the same, voxels."""
        u = advance(self.net, self.view, u, sigma=0.0, autocast=self.autocast)[0]
        return damped(u, self.sigma, self.smoothness)

    def __call__(self, u: Tensor) -> Tensor:
        """f(u), (1, 3, I, J, K) voxels."""
        return self.onward(u) - u


def damped(u: Tensor, sigma: float, smoothness: float) -> Tensor:
    """G u, with a factor of G's variance: (1, 3, I, J, K) to the same."""
    if smoothness == 1:
        return smoothed(u, sigma)
    return spread(u, smoothness * variance(sigma))


def advance(
    net: StepNet,
    view: View,
    u: Tensor,
    level: int = 0,
    memory: Memory = (),
    *,
    sigma: float,
    autocast: Autocast = nullcontext,
) -> tuple[Tensor, Memory]:
    """Take a step of a network.

    Args:
        net: The network.
        view: The pair.
        u: Displacement, (1, 3, I, J, K) voxels.
        level: 0 is the coarsest.
        memory: The memory that the last step on this level returned.
        sigma: Smoothing of the result, voxels.
        autocast: Context that sets the network's precision.

    Returns:
        The new displacement, and the new memory.
    """
    moved, counting = carry(view.moving, u), view.counting(u)
    shown = view.shown if counting is None else view.shown * counting
    seen = [view.fixed, moved, u]
    if net.sense == "derived":
        seen.append(_slopes(view, moved, u, shown))
    elif net.sense != "none":
        newton = net.sense == "newton"
        seen.append(_slopes(view, moved.detach(), u.detach(), shown, newton=newton))
    with autocast():
        step, memory = net(torch.cat(seen, dim=1), level, memory)
    step = step.to(u.dtype)
    # smoothing carries the displacement into regions that masks exclude
    return smoothed(u + (step if counting is None else step * counting), sigma), memory


def march(
    net: StepNet,
    levels: list[View],
    steps: int,
    sigma: float,
    autocast: Autocast = nullcontext,
) -> Iterator[Tensor]:
    """Plain steps on every level, from no displacement, with a graph if that is wanted.

    Args:
        net: The network.
        levels: Coarse to fine.
        steps: Steps on each level.
        sigma: Smoothing after every step, voxels.
        autocast: Context that sets the network's precision.

    Yields:
        The displacement after each step on the finest level, (1, 3, I, J, K) voxels.
    """
    for level, u in every_step(net, levels, steps, sigma, autocast):
        if level == len(levels) - 1:
            yield u


def every_step(
    net: StepNet,
    levels: list[View],
    steps: int,
    sigma: float,
    autocast: Autocast = nullcontext,
) -> Iterator[tuple[int, Tensor]]:
    """Steps on every level, as `march` takes them: the level and its displacement after each."""
    u, memory = levels[0].start, ()
    for level, view in enumerate(levels):
        if level:
            u, memory = resample_field(u, levels[level - 1].space, view.space), ()
        for _ in range(steps):
            u, memory = advance(net, view, u, level, memory, sigma=sigma, autocast=autocast)
            yield level, u


def _slopes(view: View, moved: Tensor, u: Tensor, shown: Tensor, *, newton: bool = False) -> Tensor:
    """Gradient of 1 - local correlation with respect to the displacement: (1, 3, I, J, K).

    Windows are of 5 voxels. With `newton`, the damped step by which each voxel alone would lower
    it, voxels.
    """
    floor = _FLAT * moments(view.fixed, shown)[1]
    _, slope, curvature = correlation_derivatives(view.fixed, moved, shown, _RADIUS, floor)
    gradient = carry(view.gradient, u)
    if not newton:
        return slope * gradient
    blunt = curvature * gradient.square().sum(dim=1, keepdim=True)
    # of what is shown: empty background must not matter
    usual = total(blunt * shown) / total(shown).clamp(min=1)
    return -slope * gradient / (blunt + usual.to(blunt).clamp(min=1e-9))


def views(
    fixed: Prepared,
    moving: Prepared,
    affine: Tensor,
    *,
    spacings_mm: tuple[float, ...],
    multiple: int,
) -> list[View]:
    """A pair on isotropic grids that cover the fixed image.

    Args:
        fixed: Image.
        moving: Image.
        affine: (4, 4) fixed world to moving world: the moving image is carried by it.
        spacings_mm: Voxel sizes, coarse to fine.
        multiple: Factor by which the network coarsens its input.
    """
    still, out = torch.eye(4, dtype=torch.float64), []
    for spacing in spacings_mm:
        grid, seen, masks = working_grid(fixed.space, spacing, multiple), [], []
        for image, matrix in ((fixed, still), (moving, affine)):
            whole = replace(image, weight=None).onto(grid, matrix)
            # what an image does not cover shows nothing
            seen.append(whole.data if whole.weight is None else whole.data * whole.weight)
            mask = image.weight
            masks.append(
                mask if mask is None else Prepared(image.space, mask).onto(grid, matrix).data
            )
        out.append(View(grid, seen[0], seen[1], (masks[0], masks[1])))
    return out


def spacings(finest_mm: float, levels: int) -> tuple[float, ...]:
    """Voxel sizes of levels, coarse to fine, each half of the one before."""
    return tuple(finest_mm * 2.0**n for n in reversed(range(levels)))


def rms(field: Tensor) -> Tensor:
    """Root mean square length of the vectors of a field, voxels: ()."""
    return field.norm() / math.sqrt(field.numel() / 3)
