import math

import torch

from regcli.train.losses import segmentation_loss

DRAW = torch.Generator().manual_seed(0)


def levels(types, count, sharpness):
    """Scores that say `types`, at three levels."""
    out = []
    for step in (4, 2, 1):
        one_hot = torch.nn.functional.one_hot(types[:, 0, ::step, ::step, ::step], count)
        out.append(sharpness * one_hot.movedim(-1, 1).to(torch.float64))
    return out


def test_certain_and_right_costs_nothing():
    types = torch.randint(4, (2, 1, 9, 13, 9), generator=DRAW)
    assert float(segmentation_loss(levels(types, 4, 50.0), types)) < 1e-6


def test_undecided_scores_cost_the_logarithm_of_their_number():
    types = torch.full((1, 1, 9, 9, 9), 2)
    # one type alone: its Dice with a quarter of every voxel is 2 / 4 / (1 + 1 / 4), nearly
    found = float(segmentation_loss(levels(types, 4, 0.0), types))
    sizes = ((0.2, 27), (0.3, 125), (1.0, 729))
    wanted = sum(w * (math.log(4) + 1 - (n / 2 + 1) / (1.25 * n + 1)) for w, n in sizes) / 1.5
    assert abs(found - wanted) < 1e-9


def test_the_gradient_is_right():
    types = torch.randint(3, (1, 1, 5, 5, 5), generator=DRAW)
    scores = [torch.randn(1, 3, n, n, n, generator=DRAW, dtype=torch.float64) for n in (2, 3, 5)]
    for s in scores:
        s.requires_grad_()
    assert torch.autograd.gradcheck(lambda *s: segmentation_loss(list(s), types), scores)


def test_a_small_type_is_heard():
    types = torch.ones(1, 1, 9, 9, 9, dtype=torch.int64)
    types[..., 4, 4, 4] = 2
    right, wrong = levels(types, 3, 8.0), levels(types.clamp(max=1), 3, 8.0)
    gap = segmentation_loss(wrong, types) - segmentation_loss(right, types)
    assert float(gap) > 0.5  # though a single voxel in 729 differs
