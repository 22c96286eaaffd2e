"""Registration by steps, from images and weights to a displacement, on every kind of grid."""

from dataclasses import replace
from pathlib import Path

import phantoms
import pytest
import torch
from safetensors.torch import load_file
from weightfiles import STEP_FACTS, write_steps, write_weights

from regcli.errors import InputError, RecipeError, WeightsError
from regcli.image import Image, Space
from regcli.ops.jacobian import least_determinant
from regcli.recipe import RegisterRecipe
from regcli.registration.checks import Masks
from regcli.registration.equilibrium.stage import steps
from regcli.registration.features.model import load
from regcli.registration.levels import Watch
from regcli.registration.pipeline import register
from regcli.registry import FIXED_POINTS, LINEAR, TRANSFORMS
from regcli.train.checkpoint import write_tensors

GRID = Space((30, 32, 28), torch.diag(torch.tensor([4.0, 4.0, 4.0, 1.0])).double())
SMALL = Space((24, 26, 22), GRID.affine)  # half of the voxels, for what is no matter of accuracy


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return str(write_steps(tmp_path_factory.mktemp("weights") / "steps.safetensors"))


@pytest.fixture(scope="module")
def plain(weights):
    """What the weights find without further options; tests only read it."""
    pair = phantoms.pair(GRID, linear=False)
    return register(pair.fixed, pair.moving, recipe(weights))


@pytest.fixture(scope="module")
def free(weights):
    pair = phantoms.pair(SMALL, linear=False)
    return register(pair.fixed, pair.moving, recipe(weights, transform="freeform"))


def recipe(weights, **changes):
    return RegisterRecipe(model="deq", weights=weights, init="none", **changes)


def error_mm(result, pair):
    """Mean distance of where the map takes points of the brain from where they belong."""
    wanted = pair.phi(pair.points)
    return float((result.warp(pair.points) - wanted).norm(dim=1).mean())


def test_it_finds_the_map_on_every_grid(space, weights):
    """Steps that have learned nothing are those of demons: they find half of a map this fine."""
    pair = phantoms.pair(space, linear=False)
    start = float((pair.phi(pair.points) - pair.points).norm(dim=1).mean())
    spacing = 0.7 * min(space.spacing)
    file = write_steps(Path(weights).with_name("here.safetensors"), spacing_mm=spacing)
    result = register(pair.fixed, pair.moving, recipe(str(file)))
    assert error_mm(result, pair) < 0.6 * start
    assert result.weights is not None and result.weights[0] == "here"


@pytest.mark.parametrize("name", [n for n in TRANSFORMS if n not in LINEAR])
def test_transforms_agree_and_only_freeform_may_fold(weights, free, name):
    pair = phantoms.pair(SMALL, linear=False)
    found = register(pair.fixed, pair.moving, recipe(weights, transform=name))
    u, v = (r.warp.displacement for r in (found, free))
    assert float((u - v).norm(dim=1).mean()) < 0.8  # mm, a fifth of a voxel
    if name != "freeform":
        assert float(least_determinant(SMALL.vectors_to_voxel(u)).min()) > 0


def test_solvers_agree(tmp_path):
    pair = phantoms.pair(GRID, linear=False)
    file = write_steps(tmp_path / "coarse.safetensors", spacing_mm=8.0, levels=1)
    found = {
        name: register(
            pair.fixed, pair.moving, recipe(str(file), iterations=(200,), tol=1e-4, solver=name)
        )
        for name in FIXED_POINTS
    }
    plain = found["picard"].warp.displacement
    for result in found.values():
        assert float((result.warp.displacement - plain).norm(dim=1).mean()) < 0.5
        trace = result.traces[-1].solution
        assert len(trace.residuals) - 1 == trace.steps <= 200


def test_an_image_in_other_millimetres_and_axes_gives_the_same_map(weights, plain):
    """The same pair stored with flipped and permuted axes."""
    pair = phantoms.pair(GRID, linear=False)
    wanted = plain.warp(pair.points)

    def turned(image):
        change = torch.tensor(
            [[0.0, -1, 0, image.space.shape[0] - 1], [0, 0, 1, 0], [1, 0, 0, 0], [0, 0, 0, 1]]
        ).double()
        # new index (a, b, c) is old (I - 1 - b, c, a)
        i, j, k = image.space.shape
        data = image.data.flip(1).permute(0, 3, 1, 2).contiguous()
        return Image(data, Space((k, i, j), image.space.affine @ change))

    found = register(turned(pair.fixed), turned(pair.moving), recipe(weights)).warp(pair.points)
    assert float((found - wanted).norm(dim=1).max()) < 0.05


def test_networks_made_for_some_steps_take_just_them(tmp_path):
    pair = phantoms.pair(SMALL, linear=False)
    file = write_steps(tmp_path / "u.safetensors", model="unroll", steps=3, levels=3)
    found = register(pair.fixed, pair.moving, recipe(str(file)))
    assert [t.solution.steps for t in found.traces] == [3, 3, 3]
    assert not any(t.solution.converged for t in found.traces)
    assert any("made for 3 (unroll)" in note for note in found.notes)
    residuals = [t.solution.residuals for t in found.traces]
    assert all(len(own) == 3 and own[0] == 1 > own[1] for own in residuals)
    assert residuals[0] != residuals[1] != residuals[2]
    longer = register(pair.fixed, pair.moving, recipe(str(file), iterations=(5,)))
    assert [t.solution.steps for t in longer.traces] == [5, 5, 5]
    others = (("transform", "bspline"), ("transform", "diffeo:sigma=2"))
    for option, value in (("solver", "anderson"), ("tol", 1e-4), ("diagnose", True), *others):
        with pytest.raises(RecipeError, match=f"--{option} .*has no effect with the weights u"):
            register(pair.fixed, pair.moving, recipe(str(file), **{option: value}))


def test_every_level_of_a_network_has_its_own_weights(tmp_path):
    pair = phantoms.pair(SMALL, linear=False)
    said = {"model": "gradirn", "network": "gradirn", "levels": 3, "steps": 2}
    file = write_steps(tmp_path / "g.safetensors", **said)
    values, lengths = load_file(file), []
    for rates in ([0.0, 0.0, 0.0], [0.0, 0.0, 0.3], [0.3, 0.0, 0.0]):
        values["rates"] = torch.tensor(rates)
        write_tensors(file, values, STEP_FACTS | said)
        found = register(pair.fixed, pair.moving, recipe(str(file), transform="freeform"))
        lengths.append(float(found.warp.displacement.norm(dim=1).mean()))
    assert lengths[0] < 0.01 < min(lengths[1:])
    assert lengths[1] != lengths[2]


@pytest.mark.parametrize("model", ["deq", "unroll"])
def test_steps_that_lead_nowhere_are_an_error_of_the_weights(tmp_path, model):
    pair = phantoms.pair(SMALL, linear=False)
    file = write_steps(tmp_path / "n.safetensors", model=model)
    values = load_file(file)
    values["rate"] = values["rate"] * 1e38
    write_tensors(file, values, STEP_FACTS | {"model": model})
    with pytest.raises(WeightsError, match=r"NaN|out of the image"):
        register(pair.fixed, pair.moving, recipe(str(file)))


@pytest.mark.parametrize("side", ["fixed", "moving"])
def test_a_mask_hides_a_lesion(weights, plain, side):
    pair = phantoms.pair(GRID, linear=False)
    image, mask = phantoms.corrupted(getattr(pair, side), (9, 15, 12))
    other = replace(pair, **{side: image})
    hidden, seen = (
        register(other.fixed, other.moving, recipe(weights), masks=masks)
        for masks in (Masks(**{side: mask}), Masks())
    )
    assert error_mm(hidden, pair) < 1.4 * error_mm(plain, pair)  # of points in the box, too
    assert error_mm(hidden, pair) < 0.8 * error_mm(seen, pair)


@pytest.mark.parametrize("name", ["gradirn", "riir", "voxelmorph"])
def test_every_kind_of_network_of_steps_registers(tmp_path, name):
    pair = phantoms.pair(SMALL, linear=False)
    levels = 3 if name == "gradirn" else 1
    file = write_steps(
        tmp_path / "b.safetensors", model=name, network=name, levels=levels, steps=2, sigma=0.0
    )
    found = register(pair.fixed, pair.moving, recipe(str(file)))
    assert bool(found.warp.displacement.isfinite().all())


@pytest.mark.slow
def test_the_certificate_tells_an_equilibrium_from_a_stop_on_the_way(weights, plain):
    pair = phantoms.pair(GRID, linear=False)
    many, few = (
        register(pair.fixed, pair.moving, recipe(weights, iterations=(n,), diagnose=True))
        for n in (60, 2)
    )
    assert many.diagnosis.residual_voxels < 0.2 * few.diagnosis.residual_voxels
    assert many.diagnosis.path_independence_voxels < few.diagnosis.path_independence_voxels
    assert 0.5 < many.diagnosis.spectral_radius < 1.1
    assert many.diagnosis.p99_voxels >= many.diagnosis.residual_voxels
    assert plain.diagnosis is None


def test_a_limit_of_one_step_is_one_step(weights):
    pair = phantoms.pair(SMALL, linear=False)
    one, two = (
        register(pair.fixed, pair.moving, recipe(weights, iterations=(n,))).warp.displacement
        for n in (1, 2)
    )
    assert float(one.norm(dim=1).mean()) > 0.05
    assert not torch.equal(one, two)


def test_tolerances_change_in_proportion(tmp_path):
    pair = phantoms.pair(GRID, linear=False)
    file = str(write_steps(tmp_path / "coarse.safetensors", spacing_mm=8.0, levels=1))
    usual, same, loose, tight = (
        sum(
            t.solution.steps
            for t in register(pair.fixed, pair.moving, recipe(file, tol=tol)).traces
        )
        for tol in (0.0, 1e-3, 5e-3, 2e-4)
    )
    assert loose < usual == same < tight


def test_a_time_limit_leaves_the_best_so_far(weights):
    pair = phantoms.pair(SMALL, linear=False)
    watch = Watch(lambda stage, share: None, deadline=0.0)
    found = register(pair.fixed, pair.moving, recipe(weights), watch=watch)
    assert found.stopped == "time"
    assert any("time limit" in warning for warning in found.warnings)


def test_progress_only_rises(weights):
    shares = []
    watch = Watch(lambda stage, share: shares.append(share) if stage == "deq" else None)
    pair = phantoms.pair(SMALL, linear=False)
    register(pair.fixed, pair.moving, recipe(weights), watch=watch)
    assert shares == sorted(shares)
    assert shares[0] < 0.1 and shares[-1] == 1


def test_other_contrasts_are_warned_of(weights):
    pair = phantoms.pair(GRID, linear=False, contrast="cross")
    found = register(pair.fixed, pair.moving, recipe(weights, iterations=(1,)))
    assert any("different contrasts" in warning for warning in found.warnings)


def test_a_slice_is_refused(weights):
    flat = Space((40, 44, 1), torch.diag(torch.tensor([4.0, 4.0, 4.0, 1.0])).double())
    pair = phantoms.pair(flat, linear=False)
    with pytest.raises(InputError, match="3-D"):
        register(pair.fixed, pair.moving, recipe(weights))


@pytest.mark.parametrize(
    "facts",
    [
        {"levels": 0},
        {"steps": 0},
        {"sigma": -1.0},
        {"sigma": float("nan")},
        {"spacing_mm": 0.0},
        {"network": "nothing"},
        {"network": "update"},
        {"levels": None},
        {"levels": float("inf")},
    ],
    ids=str,
)
def test_weights_whose_header_does_not_fit_are_damaged(tmp_path, facts):
    file = write_steps(tmp_path / "w.safetensors")
    said = {k: v for k, v in (STEP_FACTS | facts).items() if v is not None}
    write_tensors(file, load_file(file), said)
    with pytest.raises(WeightsError, match="damaged"):
        steps(recipe(str(file)), GRID)


def test_weights_of_features_are_not_those_of_steps(tmp_path):
    file = write_weights(tmp_path / "f.safetensors")
    with pytest.raises(WeightsError, match="model 'dio'"):
        steps(recipe(str(file)), GRID)
    with pytest.raises(WeightsError, match="model 'deq'"):
        load(str(write_steps(tmp_path / "s.safetensors")))
