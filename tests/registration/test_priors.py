import sys
from dataclasses import replace
from pathlib import Path

import phantoms
import pytest
import torch
from conftest import SPACES

from regcli.image import Image, Space, rearrange
from regcli.ops.jacobian import digital_determinants
from regcli.recipe import RegisterRecipe
from regcli.registration.checks import Masks
from regcli.registration.pipeline import register
from regcli.registration.priors import Priors, carried
from regcli.registration.prompts import Prompts
from regcli.warp import Warp

QUICK = RegisterRecipe(metric=("lncc",), iterations=(10, 5), levels=(2, 1), model="classical")


def distance(warp, pair):
    return float((warp(pair.points) - pair.phi(pair.points)).norm(dim=1).mean())


def true_warp(pair):
    """The map of a pair on its fixed grid, with an affine of its own."""
    space = pair.fixed.space
    index = torch.cartesian_prod(*(torch.arange(n) for n in space.shape)).double()
    x = space.voxel_to_world(index)
    affine = torch.eye(4, dtype=torch.float64)
    affine[:3, :3] += 0.05 * torch.tensor([[0, 1, -1], [-1, 0, 1], [1, -1, 0]])
    affine[:3, 3] = torch.tensor([3.0, -2.0, 1.0])
    back = torch.linalg.inv(affine)
    u = pair.phi(x) @ back[:3, :3].T + back[:3, 3] - x
    return Warp(space, affine, u.float().T.reshape(1, 3, *space.shape))


def test_a_whole_map_to_start_from_is_kept_where_it_is_right(space, request):
    pair = phantoms.pair(space, noise=0.003)
    transform = "rigid" if request.node.callspec.params["space"] == "anisotropic" else "diffeo"
    start = true_warp(pair)
    recipe = RegisterRecipe(transform=transform, init="start.h5", model="classical")
    result = register(pair.fixed, pair.moving, recipe, initial=start)
    assert distance(start, pair) < 0.02
    assert distance(result.warp, pair) < 0.4
    assert any("whole map" in note for note in result.notes)
    if transform == "diffeo":
        assert {t.stage for t in result.traces} == {"diffeo"}
        u = space.vectors_to_voxel(result.warp.displacement)
        assert float(digital_determinants(u)[0].min()) > 0


@pytest.mark.parametrize("name", ["LPS", "oblique"])
def test_a_map_to_start_from_is_made_better(name):
    space = SPACES[name]
    pair = phantoms.pair(space)
    worse = replace(QUICK, init="header", levels=(2,), iterations=(3,))
    start = register(pair.fixed, pair.moving, worse).warp
    result = register(pair.fixed, pair.moving, QUICK, initial=start)
    assert distance(result.warp, pair) < 0.9 * distance(start, pair)
    assert not result.warnings
    back = result.inverse(result.warp(pair.points))
    assert float((back - pair.points).norm(dim=1).mean()) < 0.3
    again = register(pair.fixed, pair.moving, QUICK, initial=result.warp)
    one, two = (float((r.moved.data - pair.fixed.data).square().mean()) for r in (result, again))
    assert two < one


def test_a_displacement_without_its_affine_is_warned_of():
    pair = phantoms.pair(SPACES["odd"], linear=False)
    start = Warp(pair.fixed.space, torch.eye(4).double(), torch.zeros(1, 3, *SPACES["odd"].shape))
    result = register(pair.fixed, pair.moving, replace(QUICK, iterations=(1, 1)), initial=start)
    assert [text for text in result.warnings if "no affine part" in text]


def test_what_is_known_of_the_moving_image_is_carried_along(space):
    pair = phantoms.pair(space)
    mask = torch.ones_like(pair.moving.data)
    mask[:, :6] = 0
    prompts = Prompts((pair.fixed_labels, pair.moving_labels), (pair.points, pair.phi(pair.points)))
    priors = Priors(Masks(moving=mask), prompts=prompts)
    moved, known = carried(true_warp(pair), pair.fixed, pair.moving, priors)
    assert moved.space is space
    assert known.initial is None
    assert float((known.prompts.points[1] - pair.points).norm(dim=1).max()) < 0.05
    alike = known.prompts.labels[1].data == pair.fixed_labels.data
    assert float(alike.double().mean()) > 0.9
    seen = true_warp(pair).apply(Image(mask, space), space).data
    torch.testing.assert_close(known.masks.moving, seen)
    assert 0.02 < float((seen < 0.5).double().mean()) < 0.7


def test_the_map_is_stiff_where_the_user_wants_it(space):
    """The half of the file's first axis, wherever that points."""
    pair = phantoms.pair(space, linear=False)
    factor = torch.ones(1, *space.shape)
    half = space.shape[0] // 2
    factor[:, :half] = 100.0

    def roughness(rigidity):
        found = register(
            pair.fixed,
            pair.moving,
            RegisterRecipe("classical", transform="freeform", init="none", metric=("lncc",)),
            rigidity=rigidity,
        )
        slopes = space.vectors_to_voxel(found.warp.displacement).diff(dim=3).square()
        return slopes[:, :, : half - 2].mean(), slopes[:, :, half + 2 :].mean()

    (stiff, free), (was_stiff, was_free) = roughness(factor), roughness(None)
    assert float(stiff) < 0.2 * float(was_stiff)
    assert float(free) > 0.5 * float(was_free)


# every family that can be restricted, on some grid
FAMILIES = ("diffeo", "freeform", "svf", "bspline", "freeform", "diffeo")


def test_displacements_lie_along_the_axes_of_the_file_that_are_free(space, request):
    pair = phantoms.pair(space, linear=False)
    transform = FAMILIES[list(SPACES).index(request.node.callspec.params["space"])]
    recipe = RegisterRecipe(
        "classical",
        transform=transform,
        init="none",
        metric=("lncc",),
        regularizer=("elastic", "folding"),
        restrict=(1, 0, 1),
        iterations=(4, 2),
        levels=(2, 1),
    )
    result = register(pair.fixed, pair.moving, recipe)
    u = space.vectors_to_voxel(result.warp.displacement).abs().amax(dim=(2, 3, 4))[0]
    assert float(u[1]) < 1e-4
    assert min(float(u[0]), float(u[2])) > 0.3


def test_the_axes_are_those_of_the_file_however_it_is_stored():
    pair = phantoms.pair(SPACES["RAS"], linear=False)
    old = SPACES["RAS"]
    change = torch.eye(4, dtype=torch.float64)[[2, 0, 1, 3]]  # a stored axis for each of RAS
    i, j, k = (old.shape[axis] for axis in (1, 2, 0))
    stored = Space((i, j, k), old.affine @ change)
    images = (Image(rearrange(im.data, old, stored), stored) for im in (pair.fixed, pair.moving))
    recipe = RegisterRecipe(
        "classical", init="none", iterations=(3,), levels=(1,), restrict=(1, 0, 0)
    )
    u = register(*images, recipe).warp.displacement.abs().amax(dim=(2, 3, 4))[0]
    assert stored.codes == "ASR"
    assert float(u[1]) > 0.3  # mm, to the front
    assert max(float(u[0]), float(u[2])) < 1e-4


def test_a_regularizer_of_ones_own_acts(monkeypatch):
    """The one in examples/, which prices motion; the path is that of `python -m regcli` there."""
    monkeypatch.chdir(Path(__file__).parents[2] / "examples")
    monkeypatch.setattr(sys, "path", list(sys.path))
    pair = phantoms.pair(SPACES["odd"], linear=False)

    def motion(own):
        recipe = replace(QUICK, init="none", regularizer=("diffusion", *own))
        return float(register(pair.fixed, pair.moving, recipe).warp.displacement.abs().mean())

    assert motion(("small_motion:SmallMotion:weight=0.1",)) < 0.7 * motion(())
