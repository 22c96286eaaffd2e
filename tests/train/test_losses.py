import math

import pytest
import torch

from regcli.train.losses import (
    fold_loss,
    landmark_loss,
    likeness_loss,
    overlap_loss,
    segmentation_loss,
)

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


def ball(shift=0.0, n=15):
    axes = torch.meshgrid(*(torch.arange(float(n)) - n // 2,) * 3, indexing="ij")
    return (axes[0] - shift).square() + axes[1].square() + axes[2].square()


def shift(by, n=15):
    u = torch.zeros(1, 3, n, n, n)
    u[:, 0] = by
    return u


def test_overlap_is_perfect_where_labels_meet_and_pulls_towards_it():
    fixed, moving = ((ball(s) < 16).long()[None, None] for s in (0.0, 2.0))
    assert float(overlap_loss(fixed, moving, shift(2.0))) < 1e-6
    u = shift(0.5).requires_grad_()
    overlap_loss(fixed, moving, u).backward()
    assert float(u.grad[:, 0].sum()) < 0  # more displacement lowers the loss


def test_types_that_neither_shows_do_not_count():
    one = torch.zeros(1, 1, 5, 5, 5, dtype=torch.int64)
    one[..., 1:4, 1:4, 1:4] = 7
    assert float(overlap_loss(one, one, torch.zeros(1, 3, 5, 5, 5))) < 1e-6


def test_likeness_knows_no_brightness_and_pulls_images_together():
    fixed, moving = ((-ball(s) / 30).exp()[None, None] for s in (0.0, 2.0))
    weight = torch.ones_like(fixed)
    there = likeness_loss(fixed, 3 * moving + 1, shift(2.0), weight)
    away = likeness_loss(fixed, 3 * moving + 1, shift(0.0), weight)
    assert float(there) < 0.7 * float(away)
    u = shift(0.5).requires_grad_()
    likeness_loss(fixed, moving, u, weight).backward()
    assert float(u.grad[:, 0].sum()) < 0


def test_landmarks_are_as_far_off_as_they_are():
    points = torch.tensor([[3.0, 4.0, 5.0], [7.5, 8.25, 2.0], [11.0, 3.0, 12.0]]).double()
    gone = points + torch.tensor([2.0, 0.0, 0.0]).double()
    assert float(landmark_loss(points, gone, shift(2.0))) < 1e-5
    u = shift(0.5).requires_grad_()
    loss = landmark_loss(points, gone, u)
    assert float(loss.detach()) == pytest.approx(1.5, abs=1e-5)
    loss.backward()
    assert float(u.grad[:, 0].sum()) == pytest.approx(-1.0, abs=1e-5)


def test_folds_cost_and_volume_does_not():
    assert float(fold_loss(shift(3.0))) == 0
    n = 9
    u = torch.zeros(1, 3, n, n, n)
    u[:, 0] = -1.5 * torch.arange(float(n)).view(-1, 1, 1)  # phi turns the axis round
    assert float(fold_loss(u)) == pytest.approx(0.7, abs=1e-5)


def mixed(scores=None):
    """Two types of grey, of which one map tells only that it is one of them."""
    types = torch.zeros(1, 1, 9, 9, 9, dtype=torch.int64)
    types[..., 2:5, :, :], types[..., 5:8, :, :] = 2, 3
    coarse = torch.where(types > 0, 4, 0)
    scores = levels(types, 4, 0.0) if scores is None else scores
    return types, coarse, scores


def test_a_set_of_types_is_learned_by_the_sum_of_their_probabilities():
    types, coarse, scores = mixed()
    for level, step in zip(scores, (4, 2, 1), strict=True):
        grey = (types[:, 0, ::step, ::step, ::step] > 0).float()
        level[:, 0], level[:, 1] = 50 * (1 - grey), -50
        level[:, 2], level[:, 3] = 50 * grey, 50 * grey - 3  # never mind which of the two
    assert float(segmentation_loss(scores, coarse, [(2, 3)])) < 1e-6
    assert float(segmentation_loss(scores, types, [(2, 3)])) > 0.1


def test_types_of_a_set_have_no_slope_where_just_the_set_is_known():
    """Moving probability from one to the other changes nothing."""
    _, coarse, scores = mixed()
    scores = [level.requires_grad_() for level in scores]
    segmentation_loss(scores, coarse, [(2, 3)]).backward()
    for level in scores:
        torch.testing.assert_close(level.grad[:, 2], level.grad[:, 3])
        assert float(level.grad[:, 2].abs().max()) > 0


def test_gradients_of_sets_are_right():
    torch.manual_seed(0)
    _, coarse, _ = mixed()
    scores = [torch.randn(1, 4, n, n, n, dtype=torch.float64) for n in (3, 5, 9)]
    for level in scores:
        level.requires_grad_()
    assert torch.autograd.gradcheck(
        lambda *s: segmentation_loss(list(s), coarse, [(2, 3)]), scores, fast_mode=True
    )


@pytest.mark.parametrize("finest", [(0, 0, 0), (1, 0, 1), (1, 1, 1)])
def test_every_second_voxel_of_the_finest_level_is_judged_by_its_own_type(finest):
    types, _, _ = mixed()
    scores = levels(types, 4, 50.0)
    i, j, k = finest
    picked = [*scores[:2], scores[2][..., i::2, j::2, k::2]]
    assert float(segmentation_loss(picked, types, (), finest)) < 1e-6
