"""Plausibility: what alignments and foregrounds say, against what was made to be so."""

import numpy as np
import phantoms
import pytest
import torch
from scipy.spatial.transform import Rotation

from regcli.commands.register.plausibility import agreement, alignment, foregrounds
from regcli.image import Image, Space
from regcli.ops.filter import gaussian
from regcli.registration.checks import Masks
from regcli.warp import Warp

EYE = torch.eye(4, dtype=torch.float64)
HEAD = Space((48, 52, 46), torch.diag(torch.tensor([3.5, 3.5, 3.5, 1.0])).double())


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


def test_agreement_is_measured_by_what_took_no_part():
    """An affine has none; a map that tears a head apart is less alike by both measures."""
    truth = phantoms.pair(HEAD, linear=False, steepness=0.0)
    rough = torch.randn(1, 3, *HEAD.shape, generator=torch.Generator().manual_seed(0))
    warp = Warp(HEAD, EYE, 60 * gaussian(rough, 3.0))
    told = agreement(truth.fixed, truth.moving, warp, None, Masks())
    assert told is not None
    assert told["same_contrast"]
    assert told["mismatch"]["after"] > 1.2 * told["mismatch"]["linear"]
    assert told["information"]["after"] < 0.8 * told["information"]["linear"]
    assert agreement(truth.fixed, truth.moving, Warp(HEAD, EYE), None, Masks()) is None


def test_images_without_a_common_inside_have_no_agreement():
    space = Space((16, 16, 16), EYE)
    thin = Image(torch.zeros(1, 16, 16, 16), space)
    thin.data[:, 8] = torch.rand(16, 16, generator=torch.Generator().manual_seed(0))
    warp = Warp(space, EYE, torch.zeros(1, 3, 16, 16, 16))
    told = agreement(thin, Image(thin.data.flip(1), space), warp, None, Masks())
    assert told is None
