"""What a user asks of learned steps: prompts, regularizers, free axes, strength of smoothing."""

import math
from dataclasses import replace

import phantoms
import pytest
import torch
from weightfiles import write_steps

from regcli.energy.regularizers import Diffusion
from regcli.errors import RecipeError
from regcli.evaluate.metrics import dice
from regcli.image import Space
from regcli.ops.jacobian import jacobian_determinant
from regcli.ops.smooth import smoothed, spread, variance
from regcli.recipe import RegisterRecipe
from regcli.registration.equilibrium.force import View
from regcli.registration.equilibrium.stage import asked
from regcli.registration.pipeline import register
from regcli.registration.priors import Priors
from regcli.registration.prompts import Prompts
from regcli.registry import LINEAR, TRANSFORMS

GRID = Space((24, 26, 22), torch.diag(torch.tensor([4.0, 4.0, 4.0, 1.0])).double())
HALVES = (slice(None), slice(None), slice(0, 9)), (slice(None), slice(None), slice(15, None))
EYE = torch.eye(4).double()


@pytest.fixture(scope="module")
def steps(tmp_path_factory):
    """Steps that have learned nothing are those of demons."""
    path = tmp_path_factory.mktemp("weights") / "steps.safetensors"
    return RegisterRecipe(model="deq", weights=str(write_steps(path)), init="none")


@pytest.fixture(scope="module")
def pair():
    return phantoms.pair(GRID, linear=False)


@pytest.fixture(scope="module")
def free(steps, pair):
    """What freeform finds if nothing is asked; tests only read it."""
    return register(pair.fixed, pair.moving, replace(steps, transform="freeform"))


def error(result, pair, points):
    return float((result.warp(points) - pair.phi(points)).norm(dim=1).mean())


def roughness(result):
    u = result.warp.displacement
    return sum(float(u.diff(dim=axis).square().sum()) for axis in (2, 3, 4))


def test_landmarks_help_where_images_alone_go_astray(space, tmp_path):
    """Noise of a quarter of the brightest tissue: other points are held to the truth."""
    pair = phantoms.pair(space, linear=False, noise=0.2)
    path = write_steps(tmp_path / "here.safetensors", spacing_mm=3.0)
    recipe = RegisterRecipe(model="deq", weights=str(path), init="none", iterations=(12,))
    known = Prompts(points=(pair.points[:20], pair.phi(pair.points[:20])))
    alone = register(pair.fixed, pair.moving, recipe)
    guided = register(pair.fixed, pair.moving, recipe, prompts=known)
    assert error(guided, pair, pair.points[20:]) < 0.7 * error(alone, pair, pair.points[20:])
    assert error(guided, pair, pair.points[:20]) < 0.5 * error(alone, pair, pair.points[:20])


@pytest.mark.parametrize("transform", ["freeform", "diffeo"])
def test_named_labels_meet_and_the_others_do_not_suffer(steps, transform):
    pair = phantoms.pair(GRID, linear=False, noise=0.1)
    codes = pair.fixed_labels.data.unique().tolist()
    sizes = {c: int((pair.fixed_labels.data == c).sum()) for c in codes if c}
    named = sorted(sizes, key=lambda code: sizes[code])[-3:-1]

    def only(image):
        return replace(image, data=image.data * torch.isin(image.data, torch.tensor(named)))

    prompts = Prompts(labels=(only(pair.fixed_labels), only(pair.moving_labels)))
    recipe, found = replace(steps, transform=transform, iterations=(24,)), []
    for priors in (None, prompts):
        result = register(pair.fixed, pair.moving, recipe, prompts=priors)
        moved = result.warp.apply(pair.moving_labels, GRID, "label").data[0]
        found.append(dice(pair.fixed_labels.data[0], moved))
    before, after = found
    assert all(1 - after[c] < 0.6 * (1 - before[c]) for c in named)
    others = [c for c in sizes if c not in named]
    assert sum(after[c] for c in others) > sum(before[c] for c in others) - 0.01 * len(others)


@pytest.mark.parametrize("transform", sorted({*TRANSFORMS} - {*LINEAR, "geodesic"}))
def test_nothing_moves_along_an_axis_that_is_not_free(steps, pair, transform):
    recipe = replace(steps, transform=transform, restrict=(1, 0, 1), iterations=(4,))
    u = register(pair.fixed, pair.moving, recipe).warp.displacement
    assert [bool(u[:, axis].any()) for axis in range(3)] == [True, False, True]


def test_axes_are_those_of_the_file(space, tmp_path):
    pair = phantoms.pair(space, linear=False)
    path = write_steps(tmp_path / "here.safetensors", spacing_mm=2.0, levels=1)
    recipe = RegisterRecipe(
        model="deq", weights=str(path), init="none", restrict=(0, 1, 1), iterations=(3,)
    )
    u = register(pair.fixed, pair.moving, recipe).warp.displacement
    u = space.vectors_to_voxel(u).abs().amax(dim=(0, 2, 3, 4))
    assert float(u[0]) < 1e-4 < 0.1 < float(u[1:].min())


def test_smoothness_is_a_factor_of_the_networks_own(steps, pair, free):
    freeform = replace(steps, transform="freeform")
    rough = [
        roughness(register(pair.fixed, pair.moving, replace(freeform, smoothness=factor)))
        for factor in (0.3, 4.0)
    ]
    assert rough[0] > 1.1 * roughness(free) > 1.3 * rough[1]
    twice = [
        register(pair.fixed, pair.moving, replace(freeform, **more))
        for more in ({"smoothness": 2.0}, {"regularizer": ("diffusion:weight=0.3",)})
    ]
    torch.testing.assert_close(*(r.warp.displacement for r in twice))


def test_other_regularizers_take_its_place(steps, pair, free):
    freeform = replace(steps, transform="freeform", iterations=(12,))
    found = [
        register(pair.fixed, pair.moving, replace(freeform, regularizer=(name,)))
        for name in ("bending", "elastic", "tv")
    ]
    for result in found:  # of about the same strength, and as good
        assert 0.3 < roughness(result) / roughness(free) < 3
        assert error(result, pair, pair.points) < 1.3 * error(free, pair, pair.points)
        assert not torch.equal(result.warp.displacement, free.warp.displacement)


def test_a_price_on_folds_is_heeded(steps):
    pair = phantoms.pair(GRID, linear=False, noise=0.3)
    recipe = replace(steps, transform="freeform", smoothness=0.2, iterations=(20,))
    folds = []
    for names in (("diffusion",), ("diffusion", "folding")):
        result = register(pair.fixed, pair.moving, replace(recipe, regularizer=names))
        u = GRID.vectors_to_voxel(result.warp.displacement)
        folds.append(int((jacobian_determinant(u) <= 0).sum()))
    assert folds[1] < 0.5 * folds[0]


def test_a_map_of_smoothness_says_where(steps, pair):
    factor = torch.ones(1, *GRID.shape)
    factor[:, :12] = 50.0
    recipe = replace(steps, transform="freeform", iterations=(12,))
    u = register(pair.fixed, pair.moving, recipe, rigidity=factor).warp.displacement
    plain = register(pair.fixed, pair.moving, recipe, rigidity=torch.ones_like(factor))
    rough = [d.diff(dim=3).square() for d in (u, plain.warp.displacement)]
    stiff, soft = (float(rough[0][part].sum() / rough[1][part].sum()) for part in HALVES)
    assert stiff < 0.5 * soft


def test_the_step_of_a_regularizer_is_the_filter_that_it_should_be():
    """Of a wave along an axis, diffusion leaves k / (k + w |1 - e^(i q)|^2)."""
    space = Space((64, 16, 16), EYE)
    wave = 0.1 * torch.cos(2 * math.pi * (torch.arange(64) + 0.5) / 32)  # even at both ends
    u = wave.view(1, 1, -1, 1, 1).expand(1, 3, *space.shape).contiguous()
    priors = Priors(rigidity=torch.ones(1, *space.shape))
    heeds = asked(RegisterRecipe(model="deq"), priors, space)
    image = torch.zeros(1, 1, *space.shape)
    out = heeds.after(lambda u: u, View(space, image, image), EYE)(u)
    left = 0.5 / (0.5 + Diffusion().weight * (2 - 2 * math.cos(2 * math.pi / 32)))
    torch.testing.assert_close(out, left * u, atol=2e-4, rtol=0)


def test_smoothing_has_the_variance_that_was_asked():
    impulse = torch.zeros(1, 1, 41, 1, 1)
    impulse[:, :, 20] = 1
    x = torch.arange(41) - 20.0
    for wanted in (0.1, 0.6, 1.3, 5.0):
        found = spread(impulse, wanted).flatten()
        assert float(found.sum()) == pytest.approx(1, abs=1e-4)
        assert float((found * x.square()).sum()) == pytest.approx(wanted, rel=0.05)
    torch.testing.assert_close(spread(impulse, variance(1.2)), smoothed(impulse, 1.2))
    assert variance(0.0) == 0


def test_what_weights_cannot_heed_is_refused(tmp_path, pair):
    def refuse(match, file, prompts=None, **changes):
        recipe = RegisterRecipe(model="deq", weights=str(file), init="none", **changes)
        with pytest.raises(RecipeError, match=match):
            register(pair.fixed, pair.moving, recipe, prompts=prompts)

    known = Prompts(points=(pair.points[:4], pair.points[:4]))
    unroll = write_steps(tmp_path / "u.safetensors", model="unroll")
    refuse("--use-points has no effect with the weights", unroll, known)
    for name, value in (("smoothness", 2.0), ("restrict", (1, 0, 1)), ("regularizer", ("tv",))):
        refuse(f"--{name} has no effect with the weights", unroll, **{name: value})
    sharp = write_steps(tmp_path / "s.safetensors", sigma=0.0)
    refuse("nothing to scale", sharp, smoothness=2.0)
