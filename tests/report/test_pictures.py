from dataclasses import replace

import numpy as np
import torch
from conftest import SPACES
from reports import bump, decode, subject

from regcli.image import Image
from regcli.report.pictures import FOLD, OCTAVES, SHRUNK_GROWN, draw
from regcli.report.planes import choose_planes


def stretched(space, factor):
    """u of x -> c + factor (x - c) along the grid's first axis, mm."""
    n = space.shape[0]
    steps = (factor - 1) * (torch.arange(n) - (n - 1) / 2)
    u = torch.zeros(1, 3, *space.shape)
    u[:, 0] = steps[:, None, None]
    return space.vectors_to_world(u)


def test_layers_are_the_images_in_grey(space):
    given = subject(space, bump(space))
    pictures = draw(given)
    assert [view.plane.name for view in pictures.views] == ["axial", "coronal", "sagittal"]
    for view in pictures.views:
        assert list(view.layers) == ["fixed", "before", "linear", "after"]
        for name, image in (("fixed", given.fixed), ("after", given.moved)):
            shown = decode(view.layers[name])[..., 0].astype(float)
            values = view.plane.slice(image)
            inside = (shown > 10) & (shown < 245)
            assert np.corrcoef(shown[inside], values[inside])[0, 1] > 0.999
        board = decode(view.checkerboard)
        fixed, after = decode(view.layers["fixed"]), decode(view.layers["after"])
        same_fixed, same_after = (board == x for x in (fixed, after))
        assert (same_fixed | same_after).all()
        assert not same_fixed.all()
        assert not same_after.all()


def test_edges_lie_on_the_surface_of_a_ball(space):
    index = torch.meshgrid(*(torch.arange(n) for n in space.shape), indexing="ij")
    away = (space.voxel_to_world(torch.stack(index, dim=-1)) - space.centre).norm(dim=-1)
    ball = torch.sigmoid(14 - away).to(torch.float32)[None]
    given = subject(space)
    for view in draw(replace(given, fixed=Image(ball, space), mask=ball[0] > 0.5)).views:
        rows, columns = (np.ptp(decode(view.edges), axis=-1) > 0).nonzero()
        across, up = view.plane.axes
        voxels = torch.zeros(len(rows), 3)
        voxels[:, across] = torch.from_numpy(columns)
        voxels[:, up] = torch.from_numpy(view.plane.size[1] - 1 - rows)
        places = view.plane.space.voxel_to_world(voxels)
        assert float(((places - space.centre).norm(dim=1) - 14).abs().max()) < max(space.spacing)
        pixel_mm = view.plane.space.spacing[across]
        assert len(rows) > 2 * np.pi * 12 / pixel_mm / np.sqrt(2)  # all around


def test_a_doubled_length_has_the_colour_of_2_and_a_halved_one_that_of_a_half(space):
    at = np.linspace(-OCTAVES, OCTAVES, len(SHRUNK_GROWN))
    for factor in (2.0, 0.5):
        expected = [np.interp(np.log2(factor), at, c) for c in zip(*SHRUNK_GROWN, strict=True)]
        pictures = draw(subject(space, stretched(space, factor)))
        colours = decode(pictures.views[0].jacobian).reshape(-1, 3)
        assert np.abs(np.median(colours, axis=0) - expected).max() < 4
        counts = pictures.histogram.counts
        lowest = round((np.log2(factor) + OCTAVES) / (2 * OCTAVES) * len(counts))
        assert sum(counts[lowest - 1 : lowest + 1]) == sum(counts)
        assert pictures.histogram.folds == 0


def test_folds_are_marked_and_counted(space):
    u = torch.zeros(1, 3, *space.shape)
    u[:, 0, 10:14] = torch.tensor([4.0, 1.0, -1.0, -4.0])[:, None, None]
    given = subject(space, space.vectors_to_world(u))
    slope = 1 + np.gradient(u[0, 0].numpy(), axis=0)
    pictures = draw(given)
    inside = given.mask.numpy()
    assert pictures.histogram.folds == (slope[inside] <= 0).sum() > 0
    assert sum(pictures.histogram.counts) == (slope[inside] > 0).sum()
    for view, plane in zip(
        pictures.views, choose_planes(given.fixed.space, given.mask), strict=True
    ):
        marked = (decode(view.jacobian) == FOLD).all(axis=-1)
        folded = (slope <= 0).mean()
        assert plane.size == view.plane.size
        if space.axes_of(space.canonical())[0][plane.normal] != 0:  # the first axis is in the plane
            assert abs(marked.mean() - folded) < 0.02


def test_a_linear_map_has_no_jacobian():
    pictures = draw(subject(SPACES["odd"]))
    assert pictures.histogram is None
    for view in pictures.views:
        assert view.jacobian is None
        assert list(view.layers) == ["fixed", "before", "after"]


def test_a_constant_image_is_drawn_too():
    given = subject(SPACES["odd"])
    flat = given.moved.data.new_ones(given.moved.data.shape)
    pictures = draw(replace(given, moved=replace(given.moved, data=flat)))
    assert len(pictures.views) == 3
