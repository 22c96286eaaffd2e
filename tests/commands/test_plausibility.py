"""Plausibility: what alignments and foregrounds say, against what was made to be so."""

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from regcli.check import Masks
from regcli.commands.plausibility import alignment, foregrounds
from regcli.image import Image, Space
from regcli.warp import Warp

EYE = torch.eye(4, dtype=torch.float64)


@pytest.mark.parametrize("degrees", [0.0, 3.0, 45.0, 90.0, 179.0])
def test_an_alignment_is_told_by_its_angle_and_its_scales(degrees):
    turn = Rotation.from_rotvec(degrees * np.array([2, -1, 2]) / 3, degrees=True).as_matrix()
    frame = Rotation.from_euler("xyz", (20, 30, 50), degrees=True).as_matrix()
    stretch = frame @ np.diag([0.8, 1.3, 1.05]) @ frame.T
    affine = EYE.clone()
    affine[:3, :3], affine[:3, 3] = torch.from_numpy(turn @ stretch), 7.0
    told = alignment(affine)
    assert told["rotation_degrees"] == pytest.approx(degrees, abs=1e-4)
    assert told["scales"] == pytest.approx([1.3, 1.05, 0.8])


def blocks(space, start, stop):
    """A bright block along the first axis of the file."""
    data = torch.zeros(1, *space.shape)
    data[:, start:stop, 2:-2, 2:-2] = 1
    data[:, start, 2, 2] = 0.5  # or the image would have one brightness alone
    return Image(data, space)


def test_foregrounds_overlap_as_their_blocks_do(space):
    fixed, moving = blocks(space, 4, 14), blocks(space, 9, 19)
    still = Warp(space, EYE)
    told = foregrounds(fixed, moving, moving, still, Masks())
    assert told["overlap_percent"] == pytest.approx(50, abs=0.5)
    assert told["moving_inside_percent"] == told["counted_percent"] == 100


def test_masks_leave_out_what_one_image_alone_shows(space):
    fixed, moving = blocks(space, 4, 14), blocks(space, 9, 19)
    mask = torch.zeros(1, *space.shape, dtype=torch.bool)
    mask[:, 9:14] = True
    still = Warp(space, EYE)
    for masks in (Masks(mask, None), Masks(None, mask), Masks(mask, mask)):
        told = foregrounds(fixed, moving, moving, still, masks)
        assert told["overlap_percent"] == pytest.approx(100, abs=0.5)
        assert told["counted_percent"] == pytest.approx(50, abs=0.5)


def test_what_of_the_moving_image_the_fixed_grid_cuts_off_is_counted(space):
    """The moving grid starts 12 voxels further on: 7 of 10 planes lie beyond the fixed one."""
    step = EYE.clone()
    step[:3, 3] = 12 * space.affine[:3, 0]
    further = Space(space.shape, step @ space.affine)
    start = space.shape[0] - 15
    moving = blocks(further, start, start + 10)
    told = foregrounds(blocks(space, 4, 14), moving, moving, Warp(space, EYE), Masks())
    assert told["moving_inside_percent"] == pytest.approx(30, abs=0.5)
