"""Points and labels that a user names: they drive the registration, on every grid and stage."""

import phantoms
import pytest
import torch

from regcli.image import Image, Space, transform_points
from regcli.recipe import RegisterRecipe
from regcli.registration.force import Pair
from regcli.registration.pipeline import register
from regcli.registration.prompts import Prompts

CLASSICAL = RegisterRecipe(model="classical", iterations=(20, 5), levels=(2, 1))
TURN = torch.eye(4).double()
TURN[:3, :3] = torch.linalg.matrix_exp(
    torch.tensor([[0, -0.5, 0.2], [0.5, 0, 0.9], [-0.2, -0.9, 0]]).double()
)
TURN[:3, 3] = torch.tensor([12.0, -30.0, 5.0])
EYE = torch.eye(4).double()


def error(result, pair, points):
    return float((result.warp(points) - pair.phi(points)).norm(dim=1).mean())


def known(pair):
    return pair.points[:20], pair.phi(pair.points[:20])


def blank(space):
    image = torch.zeros(1, 1, *space.shape)
    return Pair(space, image, image, EYE[:3])


def test_landmarks_help_where_images_alone_go_astray(space):
    """Noise of a quarter of the brightest tissue: other points are held to the truth."""
    pair = phantoms.pair(space, noise=0.2)
    alone = register(pair.fixed, pair.moving, CLASSICAL)
    guided = register(pair.fixed, pair.moving, CLASSICAL, prompts=Prompts(points=known(pair)))
    others = pair.points[20:]
    assert error(guided, pair, others) < 0.7 * error(alone, pair, others)
    assert error(guided, pair, pair.points[:20]) < 0.5
    assert any("given" in note for note in guided.notes)


@pytest.mark.parametrize("transform", ["rigid", "affine"])
def test_landmarks_drive_linear_maps(transform):
    space = Space((26, 28, 24), torch.diag(torch.tensor([2.0, 2.0, 2.0, 1.0])).double())
    pair = phantoms.pair(space, noise=0.3, steepness=0.0)
    recipe = RegisterRecipe(transform=transform)
    guided = register(pair.fixed, pair.moving, recipe, prompts=Prompts(points=known(pair)))
    assert error(guided, pair, pair.points[20:]) < (2.0 if transform == "rigid" else 1.0)


def test_named_labels_meet_and_the_others_do_not_suffer():
    space = Space((30, 32, 28), torch.diag(torch.tensor([2.0, 2.0, 2.0, 1.0])).double())
    pair = phantoms.pair(space)
    codes = pair.fixed_labels.data.unique().tolist()
    sizes = {c: int((pair.fixed_labels.data == c).sum()) for c in codes if c}
    named = sorted(sizes, key=lambda code: sizes[code])[-2:]

    def only(image):
        keep = torch.isin(image.data, torch.tensor(named))
        return Image(torch.where(keep, image.data, 0), image.space, labels=True)

    labels = only(pair.fixed_labels), only(pair.moving_labels)
    dice = []
    for prompts in (None, Prompts(labels=labels)):
        result = register(pair.fixed, pair.moving, CLASSICAL, prompts=prompts)
        moved = result.warp.apply(pair.moving_labels, space, "label").data
        same = {c: (moved == c) & (pair.fixed_labels.data == c) for c in sizes}
        both = {c: sizes[c] + int((moved == c).sum()) for c in sizes}
        dice.append({c: 2 * int(same[c].sum()) / both[c] for c in sizes})
    before, after = dice
    others = [c for c in sizes if c not in named]
    assert all(after[c] > max(before[c], 0.95) for c in named)
    assert sum(after[c] for c in others) > sum(before[c] for c in others) - 0.02 * len(others)


def test_a_rigid_map_is_found_from_points_and_centres(space):
    draw = torch.Generator().manual_seed(0)
    p = space.voxel_to_world(20 * torch.rand(5, 3, generator=draw).double())
    found = Prompts(points=(p, transform_points(TURN, p))).rigid()
    torch.testing.assert_close(found, TURN)
    data = torch.zeros(1, *space.shape, dtype=torch.int16)
    for code, at in ((7, (3, 4, 5)), (9, (15, 8, 3)), (12, (6, 18, 14))):
        data[(0, *(slice(a, a + 3) for a in at))] = code
    fixed = Image(data, space, labels=True)
    moving = Image(data, space.moved(TURN), labels=True)
    torch.testing.assert_close(Prompts(labels=(fixed, moving)).rigid(), TURN)
    assert Prompts(points=(p[:2], p[:2])).rigid() is None
    assert Prompts(points=(p[:1].expand(4, 3), p[:4])).rigid() is None
    line = p[:1] + torch.arange(4)[:, None] * (p[1] - p[0])
    assert Prompts(points=(line, line)).rigid() is None  # it could turn about itself


def test_points_come_onto_any_level_and_through_any_affine(space):
    """Points that the affine brings together pull at nothing."""
    draw = torch.Generator().manual_seed(1)
    last = torch.tensor(space.shape) - 1
    p = space.voxel_to_world(torch.rand(6, 3, generator=draw).double() * last)
    pair = blank(space)
    on = Prompts(points=(p, transform_points(TURN, p))).on(pair, space, TURN, dense=True)
    torch.testing.assert_close(on.landmarks.moving, on.landmarks.fixed)
    torch.testing.assert_close(space.voxel_to_world(on.landmarks.fixed), p)


def test_labels_come_onto_any_level_and_through_any_affine(space):
    """A box in the fixed image, and the same voxels where the moving image has them."""
    data = torch.zeros(1, *space.shape, dtype=torch.int16)
    data[0, 4:14, 6:15, 5:16], data[0, 15:19, 6:15, 5:16], data[0, :2] = 17, 53, 4
    fixed = Image(data, space, labels=True)
    moving = Image(torch.where(data == 4, 0, data), space.moved(TURN), labels=True)
    i, j, k = ((n + 1) // 2 for n in space.shape)
    for grid in (space, space.resize((i, j, k))):
        on = Prompts(labels=(fixed, moving)).on(blank(grid), grid, TURN, dense=True)
        ((f, m),) = on.labels
        assert f.dtype == torch.uint8
        assert f.shape == (1, 8, *grid.shape)
        assert int((f.int() - m.int()).abs().max()) <= 1
        assert int(f[0, 2:].max()) == 0  # label 4 is in one map alone
        shares = f.double().sum((0, 2, 3, 4))[:2] / 255 * torch.linalg.det(grid.affine).abs()
        voxel = torch.linalg.det(space.affine).abs()
        sizes = [float((data == code).sum() * voxel) for code in (17, 53)]
        assert shares.tolist() == pytest.approx(sizes, rel=0.1)
