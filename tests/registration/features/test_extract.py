import itertools

import phantoms
import pytest
import torch

from regcli.energy.features import ONE, Features
from regcli.energy.regularizers import Diffusion
from regcli.errors import WeightsError
from regcli.evaluate.metrics import dice
from regcli.image import Image, Space
from regcli.nets.base import FeatureNet, every_other
from regcli.ops.match import Moved
from regcli.registration.features.extract import FeaturePyramid, extract, working_grid
from regcli.registration.force import GaussNewtonForce
from regcli.registration.levels import Watch
from regcli.registration.multiresolution import Level, Registration
from regcli.registration.normalize import prepare
from regcli.registration.pyramid import Prepared
from regcli.registry import TRANSFORMS, build
from regcli.solve.descent import Relaxation
from regcli.warp import Warp

EYE = torch.eye(4, dtype=torch.float64)
GAINS = (0.2, 0.3, 0.5)
NO_RIM = torch.zeros((), dtype=torch.bool)
MIDDLE = torch.tensor([3.0, -5.0, 8.0]).double()  # of the world


class Brightness(FeatureNet):
    """A network without weights: the probability of being bright."""

    def __init__(self):
        super().__init__()
        self.channels, self.multiple = 2, 4

    def forward(self, image, shown):
        odds = torch.cat([image, -image], dim=1)
        return [every_other(every_other(odds)), every_other(odds), odds]


def corners(space):
    index = itertools.product(*((0, n - 1) for n in space.shape))
    return space.voxel_to_world(torch.tensor(list(index)))


def ramp(space):
    """Integers that tell the place, linear in the world where they are not rounded."""
    points = space.voxel_to_world(torch.cartesian_prod(*(torch.arange(n) for n in space.shape)))
    values = 128 + (points - MIDDLE) @ torch.tensor([1.3, -0.9, 0.7]).double()
    return values.view(1, 1, *space.shape)


def test_channels_that_are_left_out_leave_the_others_as_they_are(space):
    image = prepare(Image(ramp(space)[0].float(), space), None, torch.device("cpu"))
    found = extract(Brightness(), image, GAINS)
    assert found.without(()) is found
    left = found.without((0,))
    assert left.gains == found.gains
    for whole, part, grid in zip(found.levels, left.levels, left.spaces, strict=True):
        assert torch.equal(part, whole[:, 1:])
        assert part.shape[2:] == grid.shape


def test_a_working_grid_is_isotropic_and_covers_the_image(space):
    grid = working_grid(space, 2.5, 16)
    assert all(abs(h - 2.5) < 1e-9 for h in grid.spacing)
    assert all((n - 1) % 16 == 0 for n in grid.shape)
    inside = grid.world_to_voxel(corners(space))
    last = torch.tensor(grid.shape, dtype=torch.float64) - 1
    assert bool(((inside > -1e-9) & (inside < last + 1e-9)).all())
    first = space.world_to_voxel(grid.voxel_to_world(torch.zeros(1, 3).double()))
    torch.testing.assert_close(first, first.round(), atol=1e-9, rtol=0)
    gap = (grid.centre - space.centre).norm()
    assert float(gap) <= torch.tensor(space.spacing).norm()  # a voxel along every axis


def test_the_working_grid_of_a_slice_is_a_slice():
    slice_ = Space((40, 50, 1), torch.diag(torch.tensor([1.0, 1.5, 5.0, 1.0])).double())
    assert working_grid(slice_, 2.0, 16).shape == (33, 49, 1)


def test_levels_lie_where_the_network_says(space):
    grid = working_grid(space, 2.0, 4)
    image = phantoms.pair(grid).fixed
    described = extract(Brightness(), prepare(image, None, torch.device("cpu")), GAINS)
    assert [level.dtype for level in described.levels] == [torch.uint8] * 3
    for s, level in zip(described.spaces, described.levels, strict=True):
        assert s.shape == tuple(level.shape[2:])
        torch.testing.assert_close(corners(s), corners(grid.canonical()), atol=1e-9, rtol=0)
    total = described.levels[-1].to(torch.int16).sum(dim=1)
    assert int((total - ONE).abs().max()) <= 1


def test_features_on_another_grid_are_those_of_the_same_place(space):
    wide = working_grid(space, 3.0, 4)
    levels = [wide.resize((wide.shape[0], wide.shape[1], wide.shape[2]))]
    values = ramp(wide).round().clamp(0, 255).to(torch.uint8)
    described = FeaturePyramid(levels, [values], (1.0,), NO_RIM)
    found = described.on(space)[0, 0].to(torch.float64)
    wanted = ramp(space)[0, 0]
    kept = (wanted > 3) & (wanted < 252)
    assert float((found - wanted).abs()[kept].max()) <= 1.01  # both are rounded


def test_features_are_taken_from_the_level_with_the_most_similar_voxels(space):
    grid = working_grid(space, 2.0, 4)
    described = extract(
        Brightness(), prepare(phantoms.pair(grid).fixed, None, torch.device("cpu")), GAINS
    )
    for own, level in zip(described.spaces, described.levels, strict=True):
        assert described.on(own) is level


def test_the_edge_of_what_an_image_covers_is_a_voxel_thick():
    grid = working_grid(Space((33, 25, 41), torch.eye(4, dtype=torch.float64)), 1.0, 4)
    # where all is black, both types are as likely everywhere: shares are those of voxels
    image = Prepared(grid, torch.zeros(1, 1, *grid.shape))
    whole = extract(Brightness(), image, GAINS).at_edge()
    assert whole == pytest.approx([1 - 15 * 11 * 19 / (17 * 13 * 21)])
    covered = torch.zeros_like(image.data)
    covered[..., 4:30, 4:20, 4:36] = 1  # 2 to 14, 2 to 9, 2 to 17 of the middle level
    part = extract(Brightness(), Prepared(grid, image.data, covered), GAINS)
    edge = 13 * 8 * 16 - 11 * 6 * 14
    assert part.at_edge() == pytest.approx([edge / (17 * 13 * 21)])


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_network_that_says_no_numbers_is_refused(value):
    space = Space((9, 9, 9), torch.eye(4, dtype=torch.float64))
    image = prepare(Image(ramp(space)[0], space), None, torch.device("cpu"))
    image.data[0, 0, 4, 4, 4] = value
    with pytest.raises(WeightsError, match="no number"):
        extract(Brightness(), image, GAINS)


def test_certain_and_different_costs_the_weight():
    shape = (5, 6, 7)
    one, other = torch.zeros(2, 1, 3, *shape, dtype=torch.uint8)
    one[:, 0], other[:, 1] = ONE, ONE
    weight = torch.ones(1, 1, *shape)
    model = Features(weight=0.5).model(one, Moved(other), weight)
    assert float(model.value) == pytest.approx(0.5 * 5 * 6 * 7)


@pytest.mark.parametrize("transform", ["diffeo", "freeform"])
def test_features_alone_bring_a_pair_together(space, transform):
    """What a perfect network would say, the kinds of structures, and no image at all.

    There are eight kinds however many structures a grid shows: the loops are compiled for each
    number of channels.
    """
    pair = phantoms.pair(space, linear=False)
    images = [prepare(i, None, torch.device("cpu")) for i in (pair.fixed, pair.moving)]
    codes, kinds = pair.fixed_labels.data.unique(), torch.arange(8)
    features = []
    for labels in (pair.fixed_labels.canonical(), pair.moving_labels.canonical()):
        kind = torch.searchsorted(codes, labels.data) % len(kinds)
        probabilities = (kind[:, None] == kinds.view(1, -1, 1, 1, 1)) * ONE
        levels = [probabilities.to(torch.uint8)]
        features.append(FeaturePyramid([labels.space], levels, (1.0,), NO_RIM))
    force = GaussNewtonForce((), (Diffusion(),))
    levels = (Level(min(space.spacing), Relaxation(20, 1e-4)),)
    registration = Registration(transform, build(TRANSFORMS, transform), force, levels)
    watch = Watch(lambda stage, share: None)
    with torch.no_grad():
        y, grid, _ = registration.run(*images, EYE, watch, (features[0], features[1]))
    warp = Warp(grid, EYE, grid.vectors_to_world(y))
    fixed_labels = pair.fixed_labels.canonical()
    missing = []
    for map_ in (Warp(grid, EYE), warp):
        moved = map_.apply(pair.moving_labels, fixed_labels.space, "label").data[0]
        overlap = dice(fixed_labels.data[0], moved)
        missing.append(1 - sum(overlap.values()) / len(overlap))
    assert missing[1] < 0.5 * missing[0]
