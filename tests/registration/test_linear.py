import functools
from dataclasses import replace

import phantoms
import pytest
import torch
from conftest import SPACES

from regcli.energy.information import MI
from regcli.image import Image, Space, transform_points
from regcli.registration.levels import Watch
from regcli.registration.linear import align, start
from regcli.registration.normalize import prepare

WATCH = Watch(lambda stage, share: None)
HEAD = Space((26, 28, 24), torch.diag(torch.tensor([2.0, 2.0, 2.0, 1.0])).double())
FLAT = Space((60, 66, 1), torch.diag(torch.tensor([2.0, -1.8, 4.0, 1.0])).double())


def turned(pair, degrees, axis, *, shift=(9.0, -14.0, 6.0), scale=1.0):
    """The pair with the moving image's world turned about its middle, scaled and shifted."""
    matrix = torch.from_numpy(phantoms.phantom.turned(degrees, axis, scale=scale))
    centre = pair.moving.space.centre
    matrix[:3, 3] = centre - matrix[:3, :3] @ centre + torch.tensor(shift).double()
    moving = Image(pair.moving.data, pair.moving.space.moved(matrix))
    return replace(
        pair, moving=moving, phi=lambda x, before=pair.phi: transform_points(matrix, before(x))
    )


@functools.cache  # the same object for the same pair
def other_grid(space):
    """The same field of view in other voxels: on its own grid, mi shuns the true position.

    There alone nothing is interpolated, and interpolation makes noise, and so images, more alike.
    """
    i, j, k = space.shape
    return space.resize((i + 3, j + 2, k + 4))


def errors(pair, family, init="auto"):
    """Distances in voxels between the map found and the true one, at points of the brain."""
    fixed, moving = (prepare(i, None, torch.device("cpu")) for i in (pair.fixed, pair.moving))
    begin = start(fixed, moving, MI(weight=1.0), init, WATCH)
    matrix, traces = align(fixed, moving, MI(weight=1.0), family, begin.matrix, WATCH)
    assert [t.solution.steps > 0 for t in traces].count(False) == 0
    step = min(h for n, h in zip(fixed.space.shape, fixed.space.spacing, strict=True) if n > 1)
    found = transform_points(matrix, pair.points)
    return (found - pair.phi(pair.points)).norm(dim=1) / step, begin


def test_affine_recovers_turns_shifts_and_scales_across_contrasts(space):
    pair = phantoms.pair(space, contrast="cross", steepness=0)
    distance, _ = errors(turned(pair, -40, (1, 0.2, 0.4), scale=1.1), "affine")
    assert float(distance.mean()) < 0.4
    assert float(distance.max()) < 0.6


def found_by(family, space, scale):
    pair = phantoms.pair(space, other_grid(space), linear=False, steepness=0)
    return errors(turned(pair, 25, (0.5, 1, -0.3), scale=scale), family)[0]


def test_rigid_recovers_turns_and_shifts(space):
    assert float(found_by("rigid", space, 1.0).max()) < 0.5


def test_similarity_recovers_a_scale_too():
    assert float(found_by("similarity", SPACES["oblique"], 0.9).max()) < 0.5


def test_a_translation_is_recovered_by_translation(space):
    pair = turned(phantoms.pair(space, other_grid(space), linear=False, steepness=0), 0, (0, 0, 1))
    fixed, moving = (prepare(i, None, torch.device("cpu")) for i in (pair.fixed, pair.moving))
    matrix, _ = align(fixed, moving, MI(weight=1.0), "translation", torch.eye(4).double(), WATCH)
    torch.testing.assert_close(matrix[:3, :3], torch.eye(3).double(), atol=1e-12, rtol=0)
    off = (transform_points(matrix, pair.points) - pair.phi(pair.points)).norm(dim=1)
    assert float(off.max()) < 0.5 * min(space.spacing)


@pytest.mark.parametrize("degrees", [0, 35])
@pytest.mark.parametrize("contrast", ["same", "cross"])
def test_a_slice_is_aligned_in_its_plane(degrees, contrast):
    pair = phantoms.pair(FLAT, contrast=contrast, steepness=0)
    distance, _ = errors(turned(pair, degrees, (0, 0, 1), shift=(9.0, -14.0, 0.0)), "affine")
    assert float(distance.max()) < 0.5


@pytest.mark.parametrize(
    ("degrees", "init"),
    [(5, "auto"), (5, "moments"), (5, "header"), (-15, "header"), (75, "auto"), (160, "auto")],
)
def test_slices_of_different_planes_are_brought_into_one(degrees, init):
    pair = phantoms.pair(FLAT, steepness=0)
    pair = turned(pair, degrees, (0.6, -0.5, 0.4), shift=(9.0, -14.0, 25.0))
    assert float(errors(pair, "affine", init)[0].max()) < 0.5


@pytest.mark.parametrize("contrast", ["same", "cross"])
def test_a_nearly_symmetric_slice_is_not_turned_over(contrast):
    """Seen from behind it fits as well."""
    pair = phantoms.pair(FLAT, contrast=contrast)
    data = 0.5 * (pair.moving.data + pair.moving.data.flip(1))
    moving = Image(data, FLAT)
    fixed, moving = (prepare(i, None, torch.device("cpu")) for i in (Image(data, FLAT), moving))
    begin = start(fixed, moving, MI(weight=1.0), "moments", WATCH)
    assert float(begin.matrix[2, 2]) > 0.9


def test_where_nothing_may_turn_starts_are_shifts(space):
    pair = turned(phantoms.pair(space, steepness=0), 20, (0, 0, 1), shift=(40.0, 0.0, -30.0))
    fixed, moving = (prepare(i, None, torch.device("cpu")) for i in (pair.fixed, pair.moving))
    for init in ("auto", "header", "moments"):
        begin = start(fixed, moving, MI(weight=1.0), init, WATCH, turning=False)
        linear = begin.matrix[:3, :3]
        torch.testing.assert_close(linear, torch.eye(3).double(), atol=1e-12, rtol=0)


def test_a_rigid_result_is_rigid():
    pair = phantoms.pair(HEAD)
    fixed, moving = (prepare(i, None, torch.device("cpu")) for i in (pair.fixed, pair.moving))
    begin = start(fixed, moving, MI(weight=1.0), "auto", WATCH)
    matrix, traces = align(fixed, moving, MI(weight=1.0), "rigid", begin.matrix, WATCH)
    gram = matrix[:3, :3].T @ matrix[:3, :3]
    torch.testing.assert_close(gram, torch.eye(3).double(), atol=1e-9, rtol=0)
    assert {t.stage for t in traces} == {"rigid"}


def test_init_decides_where_to_start_from():
    pair = phantoms.pair(HEAD, steepness=0)
    assert errors(pair, "affine", "header")[1].name == "header"
    assert errors(pair, "affine", "moments")[1].name != "header"
    far = turned(pair, 5, (0, 0, 1), shift=(900.0, -500.0, 300.0))
    assert float(errors(far, "affine", "auto")[0].max()) < 0.6
    assert float(errors(far, "affine", "moments")[0].max()) < 0.6


def test_a_pair_turned_upside_down_is_found():
    for axis in ((1, 0, 0), (0, 1, 0), (0, 0, 1)):
        pair = turned(phantoms.pair(HEAD, steepness=0), 180, axis)
        assert float(errors(pair, "affine")[0].max()) < 0.6
