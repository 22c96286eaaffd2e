import itertools
import time
from dataclasses import replace

import phantoms
import pytest
import torch
from weightfiles import NARROW, WIDE, write_weights

from regcli.check import Masks
from regcli.errors import InputError
from regcli.image import Image, Space, rearrange, transform_points
from regcli.models.registration import Watch
from regcli.ops.jacobian import digital_determinants
from regcli.pipeline import CROSS, SAME, register
from regcli.recipe import RegisterRecipe
from regcli.warp import Warp

HEAD = Space((26, 28, 24), torch.diag(torch.tensor([2.0, 2.0, 2.0, 1.0])).double())
SMALL = Space((20, 22, 18), torch.diag(torch.tensor([3.0, 2.5, 2.8, 1.0])).double())
FLAT = Space((48, 54, 1), torch.diag(torch.tensor([-2.0, 1.8, 4.0, 1.0])).double())
DIFFEO = RegisterRecipe(metric=("lncc",), iterations=(20, 10), levels=(2, 1))


def recipe(transform="diffeo", **values):
    return RegisterRecipe(transform=transform, **values)


def error(result, pair):
    """Mean distance from the truth at points of the brain, mm."""
    return float((result.warp(pair.points) - pair.phi(pair.points)).norm(dim=1).mean())


def linear_error(result, pair):
    """The error before the deformable stage, mm."""
    return error(replace(result, warp=Warp(result.warp.space, result.linear)), pair)


def least_determinant(result):
    u = result.warp.displacement
    return float(digital_determinants(result.warp.space.vectors_to_voxel(u))[0].min())


def points(space, count=1000):
    draw = torch.Generator().manual_seed(0)
    last = torch.tensor(space.shape) - 1
    return space.voxel_to_world(torch.rand(count, 3, generator=draw).double() * last)


def apart(one, other, x):
    """Largest distance between two results' maps, both ways, mm."""
    forth = (one.warp(x) - other.warp(x)).norm(dim=1).max()
    y = one.warp(x)
    back = (one.inverse(y) - other.inverse(y)).norm(dim=1).max()
    return max(float(forth), float(back))


def stored(image, axes, flips):
    """The same image with its voxels stored in another order."""
    index = torch.zeros(4, 4, dtype=torch.float64)
    index[3, 3] = 1
    for new, old in enumerate(axes):
        index[old, new] = -1 if flips[new] else 1
        index[old, 3] = image.space.shape[old] - 1 if flips[new] else 0
    i, j, k = (image.space.shape[old] for old in axes)
    space = Space((i, j, k), image.space.affine @ index)
    return Image(rearrange(image.data, image.space, space), space)


ORDERS = list(
    itertools.product(itertools.permutations(range(3)), itertools.product((False, True), repeat=3))
)


def test_a_deformation_is_found_without_folds(space):
    pair = phantoms.pair(space)
    for transform, init in (("diffeo", "auto"), ("freeform", "header")):
        result = register(pair.fixed, pair.moving, recipe(transform, init=init))
        assert result.metrics == SAME
        assert result.stopped == "done"
        assert error(result, pair) < 0.8 * linear_error(result, pair)
        if transform == "diffeo":
            assert least_determinant(result) > 0


def test_a_result_holds_what_it_says():
    pair = phantoms.pair(SMALL)
    result = register(pair.fixed, pair.moving, DIFFEO)
    x = pair.points
    back = result.inverse(result.warp(x))
    assert float((back - x).norm(dim=1).mean()) < 0.3  # a tenth of a voxel
    assert float(result.inverse_error.max()) < 0.1
    moved = result.warp.apply(pair.moving, SMALL)
    assert torch.equal(result.moved.data, moved.data)
    assert result.moved.space is pair.fixed.space
    assert torch.equal(result.linear, result.warp.affine)
    assert {t.stage for t in result.traces} == {"rigid", "similarity", "affine", "diffeo"}
    before, after = (
        float((image.data - pair.fixed.data).square().mean())
        for image in (pair.moving, result.moved)
    )
    assert after < 0.5 * before


def test_the_order_of_the_voxels_in_the_file_does_not_matter():
    """Each of the 48 orders of either image, with a different one of the other."""
    space = Space((11, 13, 10), torch.diag(torch.tensor([5.0, 4.5, 5.2, 1.0])).double())
    pair = phantoms.pair(space)
    wish = replace(DIFFEO, init="header", iterations=(3,), levels=(1,))
    wanted = register(pair.fixed, pair.moving, wish)
    assert float(wanted.warp.displacement.abs().max()) > 0.5
    x = points(space)
    for n, order in enumerate(ORDERS):
        fixed, moving = stored(pair.fixed, *order), stored(pair.moving, *ORDERS[(5 * n + 7) % 48])
        result = register(fixed, moving, wish)
        assert result.warp.space.shape == fixed.space.shape
        assert apart(wanted, result, x) < 1e-3, order


def test_turning_the_world_of_both_turns_the_result():
    pair = phantoms.pair(SMALL)
    turn = torch.from_numpy(phantoms.phantom.turned(37, (0.5, 1.0, -0.7)))
    turn[:3, 3] = torch.tensor([40.0, -25.0, 60.0])
    fixed, moving = (
        Image(image.data, image.space.moved(turn)) for image in (pair.fixed, pair.moving)
    )
    one, other = (register(f, m, DIFFEO) for f, m in ((pair.fixed, pair.moving), (fixed, moving)))
    x = points(SMALL)
    wanted = transform_points(turn, one.warp(x))
    gap = (other.warp(transform_points(turn, x)) - wanted).norm(dim=1).max()
    assert float(gap) < 1e-3


@pytest.mark.parametrize("transform", ["diffeo", "freeform"])
def test_a_slice_is_registered_in_its_plane(transform):
    pair = phantoms.pair(FLAT)
    result = register(pair.fixed, pair.moving, recipe(transform))
    assert error(result, pair) < 0.8 * linear_error(result, pair)
    assert result.warp.displacement.shape == (1, 3, *FLAT.shape)
    assert float(result.warp.displacement[:, 2].abs().max()) == 0  # the slice is axial
    if transform == "diffeo":
        assert least_determinant(result) > 0


def corrupted(image, at):
    """The image with a bright box somewhere, and the mask that leaves the box out."""
    data, mask = image.data.clone(), torch.ones_like(image.data)
    box = (0, *(slice(c - 3, c + 4) for c in at))
    data[box] = 3 * float(data.max())
    mask[box] = 0
    return Image(data, image.space), mask


@pytest.mark.parametrize("side", ["fixed", "moving"])
@pytest.mark.parametrize("metric", ["lncc", "mind"])
def test_a_mask_hides_a_lesion(side, metric):
    pair = phantoms.pair(HEAD)
    wish = replace(DIFFEO, metric=(metric,), init="header")
    clean = register(pair.fixed, pair.moving, wish)
    image, mask = corrupted(getattr(pair, side), (9, 17, 14))
    other = replace(pair, **{side: image})
    hidden, seen = (
        register(other.fixed, other.moving, wish, masks=masks)
        for masks in (Masks(**{side: mask}), Masks())
    )
    assert error(hidden, pair) < 1.6 * error(clean, pair)  # of points in the box, too
    assert error(hidden, pair) < 0.8 * error(seen, pair)


def test_a_mask_of_ones_changes_nothing():
    pair = phantoms.pair(SMALL)
    ones = torch.ones_like(pair.fixed.data)
    plain = register(pair.fixed, pair.moving, DIFFEO)
    masked = register(pair.fixed, pair.moving, DIFFEO, masks=Masks(ones, ones))
    assert apart(plain, masked, points(SMALL)) < 0.02


def test_masks_that_cannot_be_used_are_refused():
    pair = phantoms.pair(SMALL)
    for side in ("fixed", "moving"):
        with pytest.raises(InputError, match=f"The {side} mask is empty"):
            empty = torch.zeros_like(pair.fixed.data)
            register(pair.fixed, pair.moving, DIFFEO, masks=Masks(**{side: empty}))
        with pytest.raises(InputError, match=f"The {side} mask has"):
            other = torch.ones(1, 4, 5, 6)
            register(pair.fixed, pair.moving, DIFFEO, masks=Masks(**{side: other}))


def test_init_none_deforms_without_moving():
    pair = phantoms.pair(HEAD, linear=False)
    result = register(pair.fixed, pair.moving, replace(DIFFEO, init="none"))
    assert torch.equal(result.linear, torch.eye(4, dtype=torch.float64))
    assert {t.stage for t in result.traces} == {"diffeo"}
    before = float((pair.points - pair.phi(pair.points)).norm(dim=1).mean())
    assert error(result, pair) < 0.8 * before
    far = torch.eye(4, dtype=torch.float64)
    far[0, 3] = 500
    with pytest.raises(InputError, match="do not overlap"):
        moving = Image(pair.moving.data, HEAD.moved(far))
        register(pair.fixed, moving, replace(DIFFEO, init="none"))


@pytest.mark.parametrize("init", ["header", "moments"])
def test_init_names_where_it_starts_from(init):
    pair = phantoms.pair(SMALL)
    result = register(pair.fixed, pair.moving, recipe("affine", init=init))
    assert error(result, pair) < 1.5
    started = [note for note in result.notes if "started from" in note]
    assert len(started) == 1
    assert ("header" in started[0]) == (init == "header")


def test_a_matrix_to_start_from_is_used():
    """Farther away than any start that is tried without it could reach by itself."""
    pair = phantoms.pair(SMALL)
    turn = torch.from_numpy(phantoms.phantom.turned(75, (1.0, 0.4, -0.3)))
    moving = Image(pair.moving.data, pair.moving.space.moved(turn))
    result = register(pair.fixed, moving, recipe("affine", init="start.mat"), initial=turn)
    off = result.warp(pair.points) - transform_points(turn, pair.phi(pair.points))
    assert float(off.norm(dim=1).mean()) < 1.5
    assert not [note for note in result.notes if "started from" in note]


@pytest.mark.parametrize("transform", ["affine", "diffeo"])
def test_a_time_limit_returns_the_best_so_far(transform):
    pair = phantoms.pair(SMALL)
    past = Watch(lambda stage, share: None, deadline=time.monotonic())
    result = register(pair.fixed, pair.moving, recipe(transform), watch=past)
    assert result.stopped == "time"
    assert result.warnings
    assert torch.isfinite(result.moved.data).all()
    calls = []

    def report(stage, share):
        calls.append(stage)

    class Late(Watch):
        @property
        def expired(self):
            return calls.count("diffeo") > 5

    if transform == "diffeo":
        late = register(pair.fixed, pair.moving, recipe(transform), watch=Late(report))
        assert late.stopped == "time"
        assert sum(t.solution.steps for t in late.traces if t.stage == "diffeo") in (5, 6)
        assert error(late, pair) < linear_error(late, pair)
        assert least_determinant(late) > 0


def test_progress_rises_from_0_to_1():
    pair, seen = phantoms.pair(SMALL), {}
    watch = Watch(lambda stage, share: seen.setdefault(stage, []).append(share))
    register(pair.fixed, pair.moving, DIFFEO, watch=watch)
    for stage in ("rigid", "similarity", "affine", "diffeo"):
        assert seen[stage] == sorted(seen[stage])
        assert seen[stage][-1] == 1
    assert all(0 <= share <= 1 for shares in seen.values() for share in shares)


@pytest.mark.parametrize("transform", ["affine", "diffeo", "freeform"])
def test_runs_have_equal_bits_on_any_number_of_threads(transform):
    pair = phantoms.pair(SMALL, contrast="cross")
    results = [
        register(pair.fixed, pair.moving, recipe(transform, init="header", threads=threads))
        for threads in (1, 2, 2)
    ]
    for other in results[1:]:
        assert torch.equal(results[0].linear, other.linear)
        assert torch.equal(results[0].moved.data, other.moved.data)
        if transform != "affine":
            assert torch.equal(results[0].warp.displacement, other.warp.displacement)
            assert torch.equal(results[0].inverse.displacement, other.inverse.displacement)


def test_volumes_that_torch_would_share_among_threads_have_equal_bits_too():
    space = Space((38, 40, 36), torch.diag(torch.tensor([4.0, 4.0, 4.0, 1.0])).double())
    pair = phantoms.pair(space, linear=False)
    one, two = (
        register(pair.fixed, pair.moving, recipe("diffeo", init="none", threads=n)) for n in (1, 2)
    )
    assert one.metrics == SAME
    assert torch.equal(one.warp.displacement, two.warp.displacement)


def test_different_contrasts_are_compared_by_mind():
    space = Space((40, 44, 38), torch.diag(torch.tensor([4.2, 4.2, 4.2, 1.0])).double())
    pair = phantoms.pair(space, contrast="cross")
    result = register(pair.fixed, pair.moving, recipe())
    assert result.metrics == CROSS
    assert any("different contrasts" in note for note in result.notes)
    assert error(result, pair) < 0.8 * linear_error(result, pair)


@pytest.mark.parametrize("metric", ["ssd", "ncc", "lncc", "mi", "mind"])
def test_every_metric_brings_a_pair_together(metric):
    pair = phantoms.pair(SMALL)
    before = float((pair.points - pair.phi(pair.points)).norm(dim=1).mean())
    affine = register(pair.fixed, pair.moving, recipe("affine", metric=(metric,)))
    assert error(affine, pair) < 0.8 * before
    result = register(pair.fixed, pair.moving, replace(DIFFEO, metric=(metric,)))
    assert error(result, pair) < 0.95 * linear_error(result, pair)


def test_dimensions_that_do_not_fit_are_refused():
    pair, flat = phantoms.pair(SMALL), phantoms.pair(FLAT)
    with pytest.raises(InputError, match="2-D"):
        register(flat.fixed, pair.moving, DIFFEO)


def test_a_single_step_on_every_level_is_enough_to_help():
    pair = phantoms.pair(SMALL)
    result = register(pair.fixed, pair.moving, replace(DIFFEO, iterations=(1, 1)))
    assert [t.solution.steps for t in result.traces if t.stage == "diffeo"] == [1, 1]
    assert 0 < float(result.warp.displacement.abs().max()) < 10


def test_the_smoothness_of_weights_acts_where_their_features_do(tmp_path):
    pair = phantoms.pair(HEAD)

    def roughness(smoothness, usual):
        path = write_weights(tmp_path / "mine.safetensors", volumes=usual, smoothness=smoothness)
        quick = recipe(weights=str(path), init="none", iterations=(5,), levels=(1,))
        u = register(pair.fixed, pair.moving, quick).warp.displacement
        return float(u.diff(dim=2).square().mean())

    assert roughness(0.3, WIDE) > 1.2 * roughness(3.0, WIDE)
    assert roughness(0.3, NARROW) == roughness(3.0, NARROW)  # registered classically
