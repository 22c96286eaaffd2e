import numpy as np
import pytest
import torch
from reports import EYE

from regcli.report.grid import deformed_grid
from regcli.report.planes import choose_planes
from regcli.warp import Warp

SHIFT_MM = (2.0, -3.0, 4.0)


def test_a_shifted_grid_is_the_grid_shifted_in_the_plane(space):
    mask = torch.ones(space.shape, dtype=torch.bool)
    still = torch.zeros(1, 3, *space.shape)
    shifted = still + torch.tensor(SHIFT_MM)[None, :, None, None, None]
    for plane in choose_planes(space, mask):
        before, after = (deformed_grid(plane, Warp(space, EYE, u)) for u in (still, shifted))
        pixels = np.linalg.inv(plane.space.affine[:3, :3].numpy()) @ SHIFT_MM
        across, up = (pixels[axis] for axis in plane.axes)
        for one, other in zip(before, after, strict=True):
            np.testing.assert_allclose(
                other - one, np.tile((across, -up), (len(one), 1)), atol=1e-3
            )


def test_a_grid_at_rest_has_straight_lines_inside_the_picture(space):
    plane = choose_planes(space, torch.ones(space.shape, dtype=torch.bool))[1]
    lines = deformed_grid(plane, Warp(space, EYE, torch.zeros(1, 3, *space.shape)))
    width, height = plane.size
    for line in lines:
        assert min(np.ptp(line[:, 0]), np.ptp(line[:, 1])) == pytest.approx(0, abs=1e-3)
        assert line.min() > 0.49
        assert line[:, 0].max() <= width
        assert line[:, 1].max() <= height
    assert len(lines) > 30


def test_a_linear_map_has_no_deformed_grid(space):
    plane = choose_planes(space, torch.ones(space.shape, dtype=torch.bool))[0]
    assert deformed_grid(plane, Warp(space, EYE)) == []
