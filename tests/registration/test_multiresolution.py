"""The deformable stage works where the images show something, and nowhere else."""

import torch

from regcli.image import Space
from regcli.registration.multiresolution import region
from regcli.registration.pyramid import Prepared

EYE = torch.eye(4, dtype=torch.float64)


def prepared(shape, inside, mm=1.0, weight=None):
    data = torch.zeros(1, 1, *shape)
    data[(0, 0, *inside)] = 0.8
    space = Space(shape, torch.diag(torch.tensor([mm, mm, mm, 1.0], dtype=torch.float64)))
    return Prepared(space, data, weight)


def test_the_region_holds_both_images_and_a_margin():
    fixed = prepared((80, 90, 70), (slice(30, 50), slice(40, 60), slice(30, 40)))
    moving = prepared((80, 90, 70), (slice(35, 65), slice(40, 60), slice(30, 40)))
    box = region(fixed, moving, EYE)
    for axis, (first, last) in enumerate(((30, 64), (40, 59), (30, 39))):
        assert first - 16 <= box.start[axis] <= first - 6
        assert last + 7 <= box.stop[axis] <= last + 17


def test_the_region_follows_the_affine_and_the_mask():
    fixed = prepared((80, 90, 70), (slice(30, 50), slice(40, 60), slice(30, 40)))
    moving = prepared((80, 90, 70), (slice(10, 20), slice(40, 60), slice(30, 40)))
    shift = EYE.clone()
    shift[0, 3] = -20.0  # fixed x is moving x - 20
    box = region(fixed, moving, shift)
    assert box.start[0] >= 30 - 16
    weight = torch.zeros(1, 1, 80, 90, 70)
    weight[:, :, :40] = 1
    masked = Prepared(fixed.space, fixed.data, weight)
    assert region(masked, moving, shift).stop[0] <= 40 + 17


def test_without_background_or_anything_to_see_the_region_is_everything():
    full = prepared((40, 30, 20), (slice(None),) * 3)
    empty = prepared((40, 30, 20), (slice(0, 0),) * 3)
    for image in (full, empty):
        box = region(image, image, EYE)
        assert box.start == (0, 0, 0)
        assert box.stop == (40, 30, 20)


def test_a_slice_stays_a_slice():
    fixed = prepared((80, 90, 1), (slice(30, 50), slice(40, 60), slice(None)))
    box = region(fixed, fixed, EYE)
    assert box.part.shape[2] == 1
