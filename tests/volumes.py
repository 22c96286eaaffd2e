"""Small volumes of noise on awkward grids: odd, thin, and of one slice."""

import torch

SHAPES = [(11, 9, 10), (5, 16, 7), (13, 12, 1), (1, 9, 8), (2, 3, 4)]


def noise(shape, channels=1, seed=0):
    """fixed, moved and weight: noise in [0, 1], a third of the weights zero."""
    draw = torch.Generator().manual_seed(seed)
    fixed, moved = torch.rand(2, 1, channels, *shape, generator=draw)
    weight = (1.5 * torch.rand(1, 1, *shape, generator=draw) - 0.5).clamp(min=0)
    return fixed, 0.5 * fixed + 0.5 * moved, weight


def windows_one_by_one(fixed, moved, weight, radius, floor):
    """sum_x w (1 - rho) and the sums of w / |m|^2 over windows that hold a voxel, in float64."""
    total, curvature = torch.zeros((), dtype=torch.float64), torch.zeros_like(weight)
    for x in weight[0, 0].nonzero().tolist():
        window = tuple(slice(max(c - radius, 0), c + radius + 1) for c in x)
        f, m, w = (t[0, 0][window].flatten() for t in (fixed, moved, weight))
        n = w.sum()
        if float(n) < 2:
            continue
        f, m = f - (w * f).sum() / n, m - (w * m).sum() / n
        ff, mm = (w * f * f).sum() + n * floor, (w * m * m).sum() + n * floor
        fm = (w * f * m).sum() + n * floor
        here = weight[0, 0][tuple(x)]
        total = total + here * (1 - fm / (ff * mm).sqrt())
        curvature[0, 0][window] += here / mm.detach()
    return total, weight * curvature
