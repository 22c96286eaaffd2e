"""Contrast: whether two images show the same one, measured inside the object and once aligned.

The outline of a stripped brain, or the skin and air around a head, correlates across all contrasts,
and so do tissues blurred together; after an affine alone, edges inside lie apart. So both images
are first deformed onto each other by MIND, which suits any contrast, on coarse levels, and then
compared on a finer one, deep inside their outlines.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import max_pool3d, pad

from regcli.energy.mind import MIND
from regcli.energy.regularizers import Diffusion
from regcli.image import transform_points
from regcli.ops.correlation import correlation_derivatives
from regcli.ops.histogram import joint_histogram, moments
from regcli.ops.match import Moved
from regcli.ops.sample import sample
from regcli.ops.totals import total
from regcli.registration.force import GaussNewtonForce
from regcli.registration.levels import Watch
from regcli.registration.linear import typical_extent
from regcli.registration.multiresolution import Level, Registration, region
from regcli.registration.pyramid import Prepared
from regcli.solve.descent import Relaxation
from regcli.transforms.dense import Compositional
from regcli.warp import Warp

# Of 73 pairs, real but for eight that were drawn, those of two contrasts correlate by .44 at most
# (T1 and FLAIR), two T1 scans by .69 at least, drawn ones by .50, two T2 scans by .66. Left out:
# FLAIR scans of two people with lesions (.23) and a head against a brain (.33), for which MIND is
# the safe choice too.
SAME_CONTRAST = 0.47
# Mismatch below which MIND is sure of its alignment, and above which it is not. Of two contrasts of
# one person it was .05 to .12, where learned features made maps .1 to .3 mm less exact; of two
# people .12 to .20, where features add up to 8 points of Dice (drawn T1-T2 pairs, .14 and .18).
_SURE, _UNSURE = 0.12, 0.14
_ALIGNED_ON = (32, 64, 96)  # levels of the deformation, in voxels along an average axis
_STEPS, _TOL = 20, 1e-3
_DIVISION = 80  # level of the comparison: at 40, grey and white matter blur together
_FOREGROUND = 0.1
_DEPTH = 0.045  # of the extent, 9 mm of a head
_RADIUS, _FLAT = 2, 1e-6  # of windows; share of the variance that is added to theirs
_BINS = 32
_SILENT = Watch(lambda *_: None)


@dataclass(frozen=True)
class Contrast:
    """How two aligned images compare deep inside both.

    Attributes:
        correlation: Mean over windows of 5 voxels, -1 to 1; 0 if the images share no inside.
        mismatch: Energy of MIND per voxel; infinite if they share no inside.
        information: Mutual information, nats; 0 if they share no inside.
    """

    correlation: float
    mismatch: float
    information: float

    @property
    def same(self) -> bool:
        """Whether the images surely show the same contrast."""
        return self.correlation > SAME_CONTRAST

    @property
    def doubt(self) -> float:
        """How unsure MIND is of its alignment, 0 to 1: what learned features may add to it."""
        return min(max((self.mismatch - _SURE) / (_UNSURE - _SURE), 0.0), 1.0)


def measure(fixed: Prepared, moving: Prepared, affine: Tensor) -> Contrast:
    """Align two images by MIND on coarse levels, and compare them.

    Args:
        fixed: Image.
        moving: Image.
        affine: (4, 4) fixed world to moving world, which aligns them about.
    """
    extent = typical_extent(fixed)
    levels = tuple(Level(extent / n, Relaxation(_STEPS, _TOL)) for n in _ALIGNED_ON)
    force = GaussNewtonForce((MIND(),), (Diffusion(),))
    alignment = Registration("contrast", Compositional(), force, levels)
    inner = fixed.cropped(region(fixed, moving, affine))
    u, space, _ = alignment.run(inner, moving, affine, _SILENT)
    one = inner.at(extent / _DIVISION)
    u = alignment.transform.resize(u, space, one.space)
    return _compare(one, moving.onto(one.space, affine), u, extent)


def measure_by(warp: Warp, fixed: Prepared, moving: Prepared) -> Contrast:
    """Compare two images as a map aligns them.

    Args:
        warp: Fixed world to moving world.
        fixed: Image.
        moving: Image.
    """
    extent = typical_extent(fixed)
    one = fixed.at(extent / _DIVISION)
    index = torch.cartesian_prod(*(torch.arange(n) for n in one.space.shape)).to(torch.float64)
    points = warp(one.space.voxel_to_world(index.view(-1, 3)))
    back = torch.linalg.inv(warp.affine @ one.space.affine)
    u = transform_points(back, points) - index.view(-1, 3)
    u = u.to(torch.float32).T.view(1, 3, *one.space.shape).contiguous()
    return _compare(one, moving.onto(one.space, warp.affine), u, extent)


def _compare(fixed: Prepared, moving: Prepared, u: Tensor, extent: float) -> Contrast:
    """How two images on one grid compare, the moving one displaced by u, in voxels."""
    moved, shown = (sample(t, u, shape=fixed.space.shape) for t in (moving.data, moving.weights))
    inside = filled(fixed.data > _FOREGROUND) & filled(moved > _FOREGROUND)
    inside &= (fixed.weights > 0) & (shown > 0)
    weight = eroded(inside, _DEPTH * extent, fixed.space.spacing).to(torch.float32)
    count = float(total(weight))
    if count == 0:
        return Contrast(0.0, math.inf, 0.0)
    f, mind = fixed.data, MIND()
    flat = _FLAT * float(moments(f, weight)[1])  # flat windows say nothing either way
    unlike, _, _ = correlation_derivatives(f, moved, weight, _RADIUS, flat)
    seen = Moved(mind.describe(moving.data), u, None, fixed.space.shape)
    mismatch = mind.model(mind.describe(f), seen, weight).value
    joint = joint_histogram(f, moved, weight, _BINS) / count
    product = joint.sum(1, keepdim=True) * joint.sum(0, keepdim=True)
    some = joint > 0
    information = (joint[some] * (joint[some] / product[some]).log()).sum()
    return Contrast(1 - float(unlike) / count, float(mismatch) / count, float(information))


def filled(shown: Tensor) -> Tensor:
    """Voxels with foreground on both sides along every axis: ventricles and sulci are inside.

    Args:
        shown: (1, 1, I, J, K) bool.

    Returns:
        (1, 1, I, J, K) bool.
    """
    inside, marks = torch.ones_like(shown), shown.to(torch.uint8)
    for axis in (2, 3, 4):
        before = marks.cummax(dim=axis).values
        behind = marks.flip(axis).cummax(dim=axis).values.flip(axis)
        inside &= (before & behind) > 0
    return inside


def eroded(inside: Tensor, depth_mm: float, spacing: tuple[float, float, float]) -> Tensor:
    """Voxels at least so deep along every axis; beyond the grid is outside.

    Args:
        inside: (1, 1, I, J, K) bool.
        depth_mm: How deep; axes of one voxel do not count.
        spacing: mm per voxel along each axis.

    Returns:
        (1, 1, I, J, K) bool.
    """
    outside = (~inside).to(torch.float32)
    for axis, (n, h) in enumerate(zip(inside.shape[2:], spacing, strict=True)):
        radius = math.ceil(depth_mm / h) if n > 1 else 0
        if radius == 0:
            continue
        outside = outside.movedim(axis + 2, -1)
        outside = pad(outside, (radius, radius), value=1.0)
        outside = max_pool3d(outside, (1, 1, 2 * radius + 1), stride=1).movedim(-1, axis + 2)
    return outside == 0
