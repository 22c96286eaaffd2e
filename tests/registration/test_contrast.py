"""Contrasts are told apart inside an object, whatever its outline says."""

import math
from dataclasses import replace

import phantoms
import pytest
import torch

from regcli.energy.information import MI
from regcli.image import Space
from regcli.io.images import read_image
from regcli.registration.contrast import SAME_CONTRAST, eroded, filled, measure, measure_by
from regcli.registration.levels import Watch
from regcli.registration.linear import align, start
from regcli.registration.normalize import prepare
from regcli.warp import Warp

EYE = torch.eye(4, dtype=torch.float64)
# details of 1/80 of the field of view decide; smaller phantoms have none
SPACE = Space((80, 88, 76), torch.diag(torch.tensor([-2.1, 2.1, 2.1, 1.0])).double())


def ready(*images):
    return [prepare(image, None, torch.device("cpu")) for image in images]


def stripped(image, labels):
    """The brain alone, on a background of zeros."""
    return replace(image, data=image.data * (labels.data > 0))


@pytest.fixture(scope="module")
def brains():
    truth = phantoms.pair(SPACE, linear=False, steepness=0.3)
    fixed = stripped(truth.fixed, truth.fixed_labels)
    return fixed, stripped(truth.moving, truth.moving_labels)


def remapped(image, curve):
    return replace(image, data=torch.where(image.data > 0, curve(image.data), 0.0))


SAME = {
    "as it is": lambda x: x,
    "gamma": lambda x: x.clamp(min=0) ** 0.6,
    "scaled": lambda x: 300 * x + 20,
}
OTHER = {
    "inverted": lambda x: 1.2 - x,
    # dark where the other is dark, but grey matter brighter than white, as in FLAIR
    "risen and fallen": lambda x: 0.1 + 0.8 * torch.exp(-(((x - 0.55) / 0.15) ** 2)),
}


@pytest.mark.parametrize("curve", SAME)
def test_curves_that_rise_keep_the_contrast(brains, curve):
    fixed, moving = brains
    found = measure(*ready(fixed, remapped(moving, SAME[curve])), EYE)
    assert found.same
    assert found.correlation > SAME_CONTRAST + 0.1


@pytest.mark.parametrize("curve", OTHER)
@pytest.mark.parametrize("turned", [False, True])
def test_curves_that_fall_make_another_one(brains, curve, turned):
    """In both orders; the outlines are as alike as those of the same contrast."""
    fixed, moving = brains
    pair = (fixed, remapped(moving, OTHER[curve]))
    found = measure(*ready(*(pair[::-1] if turned else pair)), EYE)
    assert not found.same
    assert found.correlation < SAME_CONTRAST - 0.1


def test_an_uneven_coil_keeps_the_contrast(brains):
    fixed, moving = brains
    ramp = torch.linspace(0.6, 1.4, SPACE.shape[0]).view(1, -1, 1, 1)
    assert measure(*ready(fixed, replace(moving, data=moving.data * ramp)), EYE).same


def test_whole_heads_are_told_apart_too():
    for contrast in ("same", "cross"):
        truth = phantoms.pair(SPACE, linear=False, contrast=contrast)
        assert measure(*ready(truth.fixed, truth.moving), EYE).same == (contrast == "same")


def test_an_image_agrees_with_itself(space):
    fixed = ready(phantoms.pair(space).fixed)[0]
    found = measure(fixed, fixed, EYE)
    assert found.correlation > 0.95
    assert found.mismatch < 0.02
    assert found.doubt == 0


def test_images_apart_share_no_inside(space):
    truth = phantoms.pair(space)
    far = EYE.clone()
    far[0, 3] = 1e4
    found = measure(*ready(truth.fixed, truth.moving), far)
    assert not found.same
    assert found.correlation == found.information == 0
    assert found.mismatch == math.inf
    assert found.doubt == 1


def test_a_map_is_measured_as_it_aligns(brains):
    """The right map says more of one image by the other than none does, and matches better."""
    truth = phantoms.pair(SPACE, linear=False, steepness=0.3)
    index = torch.cartesian_prod(*(torch.arange(n) for n in SPACE.shape)).double()
    points = SPACE.voxel_to_world(index)
    u = (truth.phi(points) - points).T.view(1, 3, *SPACE.shape).float()
    one, other = ready(*brains)
    right, none = (measure_by(Warp(SPACE, EYE, d), one, other) for d in (u, None))
    assert right.mismatch < 0.8 * none.mismatch
    assert right.information > none.information + 0.1
    assert right.correlation > none.correlation + 0.1


def test_holes_are_filled_and_outlines_left_out():
    shown = torch.zeros(1, 1, 12, 12, 12, dtype=torch.bool)
    shown[..., 1:11, 1:11, 1:11] = True
    shown[..., 5:7, 5:7, 5:7] = False
    inside = filled(shown)
    assert int(inside.sum()) == 1000
    assert int(eroded(inside, 4.0, (2.0, 2.0, 4.0)).sum()) == 6 * 6 * 8


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fixed", "moving", "same"),
    [
        ("ms/sub-07_T1", "ms/sub-19_T1", True),
        ("ms/sub-07_T1", "ms/sub-19_FLAIR", False),
        ("ms/sub-19_T1", "ms/sub-19_FLAIR", False),
        ("ms/sub-07_T2", "ms/sub-07_FLAIR", False),
        ("clinical/sub-12_ses-1_T2W", "clinical/sub-12_ses-1_FLAIR", False),
        ("brains/oasis-a_T1w", "brains/oasis-d_T1w", True),
        ("brains/oasis-a_T1w", "heads/subject_brain_T2w", False),
        ("heads/mni152_2mm_T1w", "heads/subject_2mm_T1w", True),
    ],
)
def test_contrasts_of_real_scans(data, fixed, moving, same):
    one, other = ready(*(read_image(data / f"{name}.nii.gz").image for name in (fixed, moving)))
    watch = Watch(lambda *_: None)
    first = start(one, other, MI(weight=1.0), "auto", watch).matrix
    affine, _ = align(one, other, MI(weight=1.0), "affine", first, watch, None)
    assert measure(one, other, affine).same == same
