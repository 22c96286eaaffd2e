"""What training lowers."""

import torch
from torch import Tensor
from torch.nn import functional as F

_LEVELS = (0.2, 0.3, 1.0)  # of levels 4, 2 and 1: the finest decides


def segmentation_loss(scores: list[Tensor], types: Tensor) -> Tensor:
    """Cross entropy and soft Dice of types, at every level.

    Args:
        scores: (B, C, i, j, k) of levels 4, 2 and 1.
        types: (B, 1, I, J, K) int64, on the finest grid; every level sees those at its voxels.
    """
    total = scores[0].new_zeros(())
    for level, weight in zip(scores, _LEVELS, strict=True):
        step = (types.shape[2] - 1) // max(level.shape[2] - 1, 1) or 1
        total = total + weight * _one_level(level, types[..., ::step, ::step, ::step])
    return total / sum(_LEVELS)


def _one_level(scores: Tensor, types: Tensor) -> Tensor:
    flat, truth = scores.flatten(2), types.flatten(2)  # (B, C, N), (B, 1, N)
    count = scores.new_zeros(scores.shape[:2])
    count.scatter_add_(1, truth[:, 0], torch.ones_like(truth[:, 0], dtype=count.dtype))
    # small structures would not be heard otherwise; their square root keeps large ones audible
    loud = torch.where(count > 0, count.clamp(min=1).rsqrt(), 0.0)
    loud = loud / (loud * count).sum(dim=1, keepdim=True)
    log = F.log_softmax(flat, dim=1)
    chosen = log.gather(1, truth)[:, 0]  # (B, N)
    entropy = -(loud.gather(1, truth[:, 0]) * chosen).sum(dim=1)
    overlap = torch.zeros_like(count).scatter_add(1, truth[:, 0], chosen.exp())
    dice = (2 * overlap + 1) / (log.exp().sum(dim=2) + count + 1)
    there = (count > 0).to(dice)
    there[:, 0] = 0
    return (entropy + 1 - (dice * there).sum(dim=1) / there.sum(dim=1).clamp(min=1)).mean()
