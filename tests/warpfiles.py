"""Smooth random maps and images to write to files."""

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from scipy.spatial.transform import Rotation

from regcli.image import Image, Space
from regcli.io import warps
from regcli.warp import Warp


def smooth_field(space, seed=0, length_mm=4.0, sigma=5.0):
    noise = np.random.default_rng(seed).standard_normal((3, *space.shape))
    sigmas = [0, *(sigma if n > 1 else 0 for n in space.shape)]
    u = gaussian_filter(noise, sigmas)
    u[[n == 1 for n in space.shape]] = 0
    return torch.from_numpy(u * length_mm / np.abs(u).max()).float()[None]


def make_warp(space, seed=0, degrees=6.0):
    """Turned by some degrees about the middle of the grid, in the plane if there is but one."""
    angles = (0, 0, degrees) if space.shape[2] == 1 else (degrees, degrees, degrees)
    turn = Rotation.from_euler("xyz", angles, degrees=True)
    affine = torch.eye(4, dtype=torch.float64)
    affine[:3, :3] = torch.from_numpy(turn.as_matrix() @ np.diag([1.05, 0.97, 1.0]))
    affine[:3, 3] = space.centre - affine[:3, :3] @ space.centre + torch.tensor([2.0, -1.0, 0.0])
    return Warp(space, affine, smooth_field(space, seed))


def smooth_image(space, seed=9):
    data = gaussian_filter(np.random.default_rng(seed).standard_normal(space.shape), 1.5)
    return Image(torch.from_numpy(data / np.ptp(data)).float()[None], space)


def other_space(space):
    """A moving grid about the same place, with other axes and voxels."""
    affine = torch.diag(torch.tensor([-1.9, 2.1, 2.3, 1.0]).double())
    shape = (27, 25, 26) if space.shape[2] > 1 else (27, 25, 1)
    if space.shape[2] == 1:
        affine[2, 2] = 3
    affine[:3, 3] = (
        space.centre - affine[:3, :3] @ torch.tensor([(n - 1) / 2 for n in shape]).double()
    )
    return Space(shape, affine)


def random_points(space, count=200, margin=0.0):
    draw = torch.rand(count, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    last = torch.tensor(space.shape).double() - 1
    low = torch.minimum(torch.full_like(last, margin), last / 2)
    return space.voxel_to_world(low + draw * (last - 2 * low))


def write_all(warp, folder):
    warps.write_displacement(warp.space, warp.displacement, folder / "warp.nii.gz")
    warps.write_affine(warp.affine, folder / "affine.mat")
    warps.write_composite(warp, folder / "composite.h5")
    inverse, _ = warp.inverse()
    space, v = warps.inverse_parts(inverse, warp.space)
    warps.write_displacement(space, v, folder / "inverse_warp.nii.gz")
    warps.write_inverse_composite(inverse, warp.space, folder / "inverse_composite.h5")
    return inverse
