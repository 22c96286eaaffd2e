"""Small volumes of noise on awkward grids: odd, thin, and of one slice."""

import torch

SHAPES = [(11, 9, 10), (5, 16, 7), (13, 12, 1), (1, 9, 8), (2, 3, 4)]


def noise(shape, channels=1, seed=0):
    """fixed, moved and weight: noise in [0, 1], a third of the weights zero."""
    draw = torch.Generator().manual_seed(seed)
    fixed, moved = torch.rand(2, 1, channels, *shape, generator=draw)
    weight = (1.5 * torch.rand(1, 1, *shape, generator=draw) - 0.5).clamp(min=0)
    return fixed, 0.5 * fixed + 0.5 * moved, weight
