from dataclasses import replace

import phantoms
import pytest
import torch
from conftest import SPACES
from weightfiles import write_steps

from regcli.errors import RecipeError
from regcli.image import Space
from regcli.ops.jacobian import digital_determinants
from regcli.recipe import RegisterRecipe
from regcli.registration.normalize import prepare
from regcli.registration.pipeline import register
from regcli.registration.prompts import Prompts
from regcli.registration.symmetric import mean_affine, midpoint
from regcli.warp import Warp

SYMMETRIC = RegisterRecipe(
    "classical",
    symmetric=True,
    init="none",
    metric=("lncc",),
    iterations=(10, 6),
    levels=(2, 1),
)


def distance(warp, pair):
    return float((warp(pair.points) - pair.phi(pair.points)).norm(dim=1).mean())


def check_both_ways(fixed, moving, pair, recipe):
    there, back = register(fixed, moving, recipe), register(moving, fixed, recipe)
    x = pair.points
    assert float((back.warp(there.warp(x)) - x).norm(dim=1).mean()) < 0.1
    torch.testing.assert_close(torch.linalg.inv(back.linear), there.linear, rtol=0, atol=1e-9)
    assert distance(there.warp, pair) < 0.8 * distance(Warp(fixed.space, there.linear), pair)
    u = fixed.space.vectors_to_voxel(there.warp.displacement)
    assert float(digital_determinants(u)[0].min()) > 0
    return there


def test_swapping_the_images_gives_the_inverse_map(space):
    """The moving image lies on a finer, turned grid: neither of both can stand for the middle."""
    i, j, k = (n + 3 for n in space.shape)
    turn = torch.from_numpy(phantoms.phantom.turned(8, (1.0, 0.4, -0.3)))
    shift = torch.eye(4, dtype=torch.float64)
    shift[:3, 3] = space.centre
    other = space.resize((i, j, k)).moved(shift @ turn @ torch.linalg.inv(shift))
    pair = phantoms.pair(space, other, linear=False)
    check_both_ways(pair.fixed, pair.moving, pair, SYMMETRIC)


@pytest.mark.slow
def test_it_does_so_with_linear_stages():
    pair = phantoms.pair(SPACES["anisotropic"], SPACES["odd"])
    check_both_ways(pair.fixed, pair.moving, pair, replace(SYMMETRIC, init="moments"))


def test_labels_drive_both_images():
    pair = phantoms.pair(SPACES["LPS"], linear=False, noise=0.3)
    known = Prompts((pair.fixed_labels, pair.moving_labels), None)
    plain, driven = (
        register(pair.fixed, pair.moving, SYMMETRIC, prompts=prompts) for prompts in (None, known)
    )
    assert distance(driven.warp, pair) < 0.9 * distance(plain.warp, pair)


def test_the_middle_does_not_tell_which_image_is_which(space):
    pair = phantoms.pair(space, SPACES["oblique"])
    one, two = (prepare(i, None, torch.device("cpu")) for i in (pair.fixed, pair.moving))
    affine = torch.eye(4, dtype=torch.float64)
    affine[:3] += 0.05 * torch.tensor([[0, 1, -1, 80], [-1, 1, 1, 40], [1, -1, 0, -60]])
    there, back = midpoint(one, two, affine), midpoint(two, one, torch.linalg.inv(affine))
    assert there.space.agrees(back.space, 1e-6)
    torch.testing.assert_close(there.half @ there.half, affine)
    torch.testing.assert_close(there.fixed.data, back.moving.data, rtol=0, atol=1e-5)
    torch.testing.assert_close(there.moving.data, back.fixed.data, rtol=0, atol=1e-5)
    corners = one.space.voxel_to_world(torch.tensor([[5.0, 6, 7], [15, 14, 13]]))
    inside = there.space.world_to_voxel(corners @ there.half[:3, :3].T + there.half[:3, 3])
    assert bool((inside >= 0).all())
    assert bool((inside <= torch.tensor(there.space.shape) - 1).all())


def test_a_map_of_the_middle_is_brought_back_to_the_fixed_image(space):
    pair = phantoms.pair(space, SPACES["oblique"])
    one, two = (prepare(i, None, torch.device("cpu")) for i in (pair.fixed, pair.moving))
    affine = torch.eye(4, dtype=torch.float64)
    affine[:3, :3] += 0.05 * torch.tensor([[0, 1, -1], [-1, 1, 1], [1, -1, 0]])
    middle = midpoint(one, two, affine)
    slope = 0.02 * torch.tensor([[1.0, 2, 0], [0, -1, 1], [2, 0, 1]]).double()  # mm per mm
    axes = (torch.arange(n, dtype=torch.float64) for n in middle.space.shape)
    z = middle.space.voxel_to_world(torch.cartesian_prod(*axes))
    w = (z @ slope.T).T.reshape(1, 3, *middle.space.shape).float()
    u = middle.back(middle.space.vectors_to_voxel(w), one.space)
    warp = Warp(one.space, affine, one.space.vectors_to_world(u))
    x = pair.points
    z = x @ middle.half[:3, :3].T
    wanted = (z + z @ slope.T) @ middle.half[:3, :3].T
    assert float((warp(x) - wanted).norm(dim=1).max()) < 1e-3


def test_affines_that_disagree_are_not_averaged():
    space = SPACES["odd"]
    there, turned = torch.eye(4, dtype=torch.float64), torch.eye(4, dtype=torch.float64)
    there[0, 3], turned[1, 3] = 2.0, -3.0
    mean = mean_affine(there, turned, space, True)
    torch.testing.assert_close(mean[:3, 3], torch.tensor([1.0, 1.5, 0.0]).double())
    turned[1, 3] = -40.0
    assert mean_affine(there, turned, space, True) is there
    torch.testing.assert_close(
        mean_affine(there, turned, space, False), torch.linalg.inv(turned), rtol=0, atol=0
    )


def test_what_belongs_to_one_image_is_refused():
    pair = phantoms.pair(SPACES["odd"])
    start = Warp(pair.fixed.space, torch.eye(4).double(), torch.zeros(1, 3, *SPACES["odd"].shape))
    with pytest.raises(RecipeError, match="A warp as --init has no effect with --symmetric"):
        register(pair.fixed, pair.moving, SYMMETRIC, initial=start)
    with pytest.raises(RecipeError, match="--smoothness-map has no effect with --symmetric"):
        register(pair.fixed, pair.moving, SYMMETRIC, rigidity=pair.fixed.data)
    deq = RegisterRecipe(model="deq", symmetric=True)
    for change in ({"use_labels": True}, {"regularizer": ("tv",)}, {"restrict": (1, 1, 0)}):
        option = next(iter(change)).replace("_", "-")
        with pytest.raises(RecipeError, match=f"--{option} has no effect with --symmetric"):
            register(pair.fixed, pair.moving, replace(deq, **change))


@pytest.mark.parametrize("name", ["LPS", "oblique"])
def test_learned_steps_move_both_images_too(name, tmp_path):
    space = SPACES[name]
    i, j, k = (n + 3 for n in space.shape)
    pair = phantoms.pair(space, space.resize((i, j, k)), linear=False)
    weights = write_steps(tmp_path / "steps.safetensors", spacing_mm=2.0)
    recipe = RegisterRecipe("deq", str(weights), symmetric=True, init="none", iterations=(12,))
    check_both_ways(pair.fixed, pair.moving, pair, recipe)
    with pytest.raises(RecipeError, match="--use-labels has no effect with --symmetric"):
        known = Prompts((pair.fixed_labels, pair.moving_labels), None)
        register(pair.fixed, pair.moving, recipe, prompts=known)


def test_slices_meet_in_their_plane():
    space = Space((48, 54, 1), torch.diag(torch.tensor([-2.0, 1.8, 4, 1])).double())
    pair = phantoms.pair(space, linear=False)
    there = check_both_ways(pair.fixed, pair.moving, pair, SYMMETRIC)
    assert float(there.warp.displacement[:, 2].abs().max()) < 1e-4
