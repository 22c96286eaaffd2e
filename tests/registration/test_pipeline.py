import functools
import time
from dataclasses import replace

import phantoms
import pytest
import torch
from weightfiles import NARROW, WIDE, write_weights

from regcli.errors import InputError
from regcli.image import Image, Space, transform_points
from regcli.ops.jacobian import digital_determinants
from regcli.recipe import RegisterRecipe
from regcli.registration.checks import Masks
from regcli.registration.levels import Watch
from regcli.registration.pipeline import register
from regcli.registration.stages import CROSS, SAME
from regcli.registry import FOLDLESS
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


# what every family does on every grid is in transforms/test_contract.py
OTHERS = {"LAS": "svf", "oblique": "geodesic", "anisotropic": "bspline"}


def test_a_deformation_is_found_without_folds(space, request):
    pair = phantoms.pair(space)
    other = OTHERS.get(request.node.callspec.params["space"], "freeform")
    for transform, init in (("diffeo", "auto"), (other, "header")):
        result = register(pair.fixed, pair.moving, recipe(transform, init=init))
        assert result.metrics == SAME
        assert result.stopped == "done"
        assert error(result, pair) < 0.8 * linear_error(result, pair)
        if transform in FOLDLESS:
            assert least_determinant(result) > 0
        assert any("energy" in note for note in result.notes) == (transform == "geodesic")


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


@pytest.mark.parametrize("transform", ["diffeo", "freeform", "svf", "geodesic", "bspline"])
def test_a_slice_is_registered_in_its_plane(transform):
    pair = phantoms.pair(FLAT)
    wish = replace(DIFFEO, transform=transform, metric=("auto",), init="header")
    result = register(pair.fixed, pair.moving, wish)
    assert error(result, pair) < 0.8 * linear_error(result, pair)
    assert result.warp.displacement.shape == (1, 3, *FLAT.shape)
    assert float(result.warp.displacement[:, 2].abs().max()) == 0  # the slice is axial
    if transform in FOLDLESS:
        assert least_determinant(result) > 0


@functools.cache
def clean_error(pair, wish):
    return error(register(pair.fixed, pair.moving, wish), pair)


@pytest.mark.parametrize("side", ["fixed", "moving"])
@pytest.mark.parametrize("metric", ["lncc", "mind"])
def test_a_mask_hides_a_lesion(side, metric):
    pair = phantoms.pair(HEAD)
    wish = replace(DIFFEO, metric=(metric,), init="header")
    image, mask = phantoms.corrupted(getattr(pair, side), (9, 17, 14))
    other = replace(pair, **{side: image})
    hidden, seen = (
        register(other.fixed, other.moving, wish, masks=masks)
        for masks in (Masks(**{side: mask}), Masks())
    )
    assert error(hidden, pair) < 1.6 * clean_error(pair, wish)  # of points in the box, too
    assert error(hidden, pair) < 0.8 * error(seen, pair)


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
    register(pair.fixed, pair.moving, replace(DIFFEO, init="header"), watch=watch)
    for stage in ("rigid", "similarity", "affine", "diffeo"):
        assert seen[stage] == sorted(seen[stage])
        assert seen[stage][-1] == 1
    assert all(0 <= share <= 1 for shares in seen.values() for share in shares)


def test_different_contrasts_are_compared_by_mind():
    space = Space((40, 44, 38), torch.diag(torch.tensor([4.2, 4.2, 4.2, 1.0])).double())
    pair = phantoms.pair(space, contrast="cross")
    result = register(pair.fixed, pair.moving, recipe(init="header"))
    assert result.metrics == CROSS
    assert any("different contrasts" in note for note in result.notes)
    assert error(result, pair) < 0.8 * linear_error(result, pair)


@pytest.mark.parametrize("metric", ["ssd", "ncc", "lncc", "mi", "mind"])
def test_every_metric_brings_a_pair_together(metric):
    pair = phantoms.pair(SMALL)
    before = float((pair.points - pair.phi(pair.points)).norm(dim=1).mean())
    affine = register(pair.fixed, pair.moving, recipe("affine", metric=(metric,), init="header"))
    assert error(affine, pair) < 0.8 * before
    wish = replace(DIFFEO, metric=(metric,), init="header")
    result = register(pair.fixed, pair.moving, wish)
    # the phantoms' smooth map would be met more closely by diffusion alone
    assert error(result, pair) < 0.98 * linear_error(result, pair)


def test_dimensions_that_do_not_fit_are_refused():
    pair, flat = phantoms.pair(SMALL), phantoms.pair(FLAT)
    with pytest.raises(InputError, match="2-D"):
        register(flat.fixed, pair.moving, DIFFEO)


def test_a_single_step_on_every_level_is_enough_to_help():
    pair = phantoms.pair(SMALL)
    result = register(pair.fixed, pair.moving, replace(DIFFEO, init="header", iterations=(1, 1)))
    assert [t.solution.steps for t in result.traces if t.stage == "diffeo"] == [1, 1]
    assert 0 < float(result.warp.displacement.abs().max()) < 10


def test_maps_are_as_smooth_whatever_weights_say_of_their_training(tmp_path):
    pair = phantoms.pair(HEAD)

    def roughness(smoothness, usual):
        path = write_weights(tmp_path / "mine.safetensors", volumes=usual, smoothness=smoothness)
        quick = recipe(weights=str(path), init="none", iterations=(5,), levels=(1,))
        u = register(pair.fixed, pair.moving, quick).warp.displacement
        return float(u.diff(dim=2).square().mean())

    assert roughness(0.3, WIDE) == roughness(3.0, WIDE) != roughness(0.3, NARROW)
