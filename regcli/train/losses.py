"""Losses of training: labels, images, landmarks, smoothness and folds."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from regcli.nets.base import Corner, every_other
from regcli.ops.carry import carry
from regcli.ops.correlation import correlation_derivatives
from regcli.ops.histogram import moments
from regcli.ops.jacobian import jacobian_determinant
from regcli.ops.sample import sample
from regcli.ops.totals import total

_RADIUS = 2  # windows of 5 voxels
_FLAT = 1e-2  # share of the image's variance added to that of every window: flat ones say nothing
_LEVELS = (0.2, 0.3, 1.0)  # of levels 4, 2 and 1: the finest decides


def segmentation_loss(
    scores: list[Tensor],
    classes: Tensor,
    sets: Sequence[Sequence[int]] = (),
    finest: Corner | None = None,
) -> Tensor:
    """Cross entropy and soft Dice of types, at every level.

    Label maps differ in detail. Where one only says that a voxel is of some set of types, the sum
    of their probabilities is what is learned.

    Args:
        scores: (B, C, i, j, k) of levels 4, 2 and 1.
        classes: (B, 1, I, J, K) int64, on the finest grid; every level sees those at its voxels.
            Below C, a type; from there on, one of the sets.
        sets: Types that the classes from C on stand for.
        finest: First of those voxels, every second along each axis, that the scores of the finest
            level are of; None for all.

    Returns:
        ().
    """
    total = scores[0].new_zeros((), dtype=_wide(scores[0]))
    for n, (level, weight) in enumerate(zip(scores, _LEVELS, strict=True)):
        step = (classes.shape[2] - 1) // max(level.shape[2] - 1, 1) or 1
        truth = classes[..., ::step, ::step, ::step]
        if finest is not None and n == len(scores) - 1:
            truth = every_other(classes, finest)
        total = total + weight * _one_level(level, truth, sets)
    return total / sum(_LEVELS)


def _one_level(scores: Tensor, classes: Tensor, sets: Sequence[Sequence[int]]) -> Tensor:
    rows = scores.flatten(2).transpose(1, 2).to(_wide(scores))  # (B, N, C)
    truth = classes.flatten(2).transpose(1, 2)  # (B, N, 1)
    log = F.log_softmax(rows, dim=2)
    count = log.new_zeros(len(log), log.shape[2] + len(sets))
    count.scatter_add_(1, truth[..., 0], torch.ones_like(truth[..., 0], dtype=count.dtype))
    judged = count > 0
    judged[:, 0] = False  # the background
    for n, members in enumerate(sets, start=rows.shape[2]):
        some = count[:, n] > 0
        summed = log[..., list(members)].logsumexp(2, keepdim=True) if some.any() else log[..., :1]
        log = torch.cat([log, summed], dim=2)
        # what is found of a type where just a set is known may be right: its overlap says nothing
        judged[:, list(members)] &= ~some[:, None]
        judged[:, n] &= 0 not in members
    # small structures would not be heard otherwise; their square root keeps large ones audible
    loud = torch.where(count > 0, count.clamp(min=1).rsqrt(), 0.0)
    loud = loud / (loud * count).sum(dim=1, keepdim=True)
    chosen = log.gather(2, truth)[..., 0]  # (B, N)
    entropy = -(loud.gather(1, truth[..., 0]) * chosen).sum(dim=1)
    overlap = torch.zeros_like(count).scatter_add(1, truth[..., 0], chosen.exp())
    dice = (2 * overlap + 1) / (log.exp().sum(dim=1) + count + 1)
    judged = judged.to(dice)
    return (entropy + 1 - (dice * judged).sum(dim=1) / judged.sum(dim=1).clamp(min=1)).mean()


def _wide(scores: Tensor) -> torch.dtype:
    """The type for logarithms of probabilities: bfloat16 would lose the rare ones."""
    return torch.promote_types(scores.dtype, torch.float32)


def overlap_loss(fixed: Tensor, moving: Tensor, displacement: Tensor) -> Tensor:
    """1 - mean soft Dice of the types that either map shows, the background left out.

    Args:
        fixed: (1, 1, I, J, K) int64.
        moving: (1, 1, I, J, K) int64.
        displacement: u, (1, 3, I, J, K) voxels.
    """
    shown = torch.cat([fixed, moving]).unique()
    shown = shown[shown != 0].view(1, -1, 1, 1, 1)
    truth, other = ((types == shown).to(torch.float32) for types in (fixed, moving))
    moved = carry(other, displacement)
    common, sizes = ((f(moved, truth)).sum(dim=(2, 3, 4)) for f in (torch.mul, torch.add))
    return 1 - ((2 * common + 1) / (sizes + 1)).mean()


def likeness_loss(fixed: Tensor, moving: Tensor, displacement: Tensor, weight: Tensor) -> Tensor:
    """1 - mean squared local correlation in windows of 5 voxels, over what counts.

    Args:
        fixed: (1, 1, I, J, K).
        moving: (1, 1, I, J, K).
        displacement: u, (1, 3, I, J, K) voxels.
        weight: (1, 1, I, J, K).
    """
    a, b = fixed, carry(moving, displacement)
    width = [5 if n > 1 else 1 for n in a.shape[2:]]
    stack = torch.cat([a, b, a * a, b * b, a * b], dim=1)
    means = F.avg_pool3d(stack, width, 1, [n // 2 for n in width], count_include_pad=False)
    ma, mb, aa, bb, ab = means.unbind(dim=1)
    floor = 1e-4  # of a squared range: flat windows say nothing
    rho = (ab - ma * mb).square() / ((aa - ma * ma + floor) * (bb - mb * mb + floor))
    return 1 - (rho * weight[:, 0]).sum() / weight.sum().clamp(min=1)


def map_loss(
    fixed: Tensor, moving: Tensor, displacement: Tensor, weight: Tensor, smoothness: float
) -> Tensor:
    """The unsupervised loss of a displacement.

    Args:
        fixed: (1, 1, I, J, K) in [0, 1].
        moving: (1, 1, I, J, K) in [0, 1].
        displacement: u, (1, 3, I, J, K) voxels.
        weight: (1, 1, I, J, K), what counts.
        smoothness: Weight of the mean squared difference between neighbours, mean over axes.

    Returns:
        (): mean of 1 - local correlation over what counts, and roughness.
    """
    unlike = _Unlike.apply(carry(moving, displacement), fixed, weight)
    axes = [d for d in (2, 3, 4) if displacement.shape[d] > 1]
    rough = torch.stack([displacement.diff(dim=d).square().sum(dim=1).mean() for d in axes]).mean()
    return unlike + smoothness * rough


class _Unlike(torch.autograd.Function):
    """1 - correlation in windows of 5 voxels, weighted mean; slopes in closed form."""

    @staticmethod
    def forward(ctx: Any, moved: Tensor, fixed: Tensor, weight: Tensor) -> Tensor:
        floor = _FLAT * moments(fixed, weight)[1]
        arguments = (fixed, moved.detach(), weight, _RADIUS, floor)
        value, slope, _ = correlation_derivatives(*arguments)
        count = total(weight).clamp(min=1)
        ctx.save_for_backward(slope / count.to(slope))
        return (value / count).to(moved)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None, None]:
        (slope,) = ctx.saved_tensors
        return grad_outputs[0] * slope, None, None


def landmark_loss(fixed: Tensor, moving: Tensor, displacement: Tensor) -> Tensor:
    """Mean distance of where fixed landmarks go from the moving ones, voxels.

    Args:
        fixed: (N, 3) voxels.
        moving: (N, 3) voxels.
        displacement: u, (1, 3, I, J, K) voxels.
    """
    start = fixed.to(displacement)
    offsets = start.clone()
    offsets[:, 0] -= torch.arange(len(start)).to(start)  # sample counts points along an axis
    gone = sample(displacement, offsets.T.reshape(1, 3, -1, 1, 1))[0, :, :, 0, 0].T
    return (start + gone - moving.to(displacement)).norm(dim=1).mean()


def fold_loss(displacement: Tensor, least: float = 0.2) -> Tensor:
    """How far central-difference determinants fall below `least`, mean over voxels.

    Overlap alone always asks for more deformation; this is what it costs.

    Args:
        displacement: u, (1, 3, I, J, K) voxels.
        least: Determinant that costs nothing.
    """
    return (least - jacobian_determinant(displacement)).clamp(min=0).mean()
