"""Handedness: a mirrored image is found out, wherever left is in the file."""

import pytest
import torch
from phantoms import pair

from regcli.image import Image, Space
from regcli.registration.handedness import handedness
from regcli.registration.normalize import prepare
from regcli.registration.pyramid import Prepared


def lopsided(image):
    """The image with a bright ball on one side of the world, as no mirror image has."""
    last = torch.tensor(image.space.shape, dtype=torch.float64) - 1
    index = torch.cartesian_prod(*(torch.arange(n, dtype=torch.float64) for n in image.space.shape))
    world = image.space.voxel_to_world(index) - image.space.voxel_to_world(last[None] / 2)
    ball = (world - torch.tensor([12.0, 5.0, 3.0]).double()).norm(dim=1) < 7
    return Image(image.data + 0.5 * ball.view(1, *image.space.shape), image.space)


def mirrored(image):
    """The same voxels, said to lie on the other side of the image's centre."""
    turn = torch.eye(4, dtype=torch.float64)
    last = torch.tensor(image.space.shape, dtype=torch.float64) - 1
    turn[0, 0], turn[0, 3] = -1, 2 * image.space.voxel_to_world(last[None] / 2)[0, 0]
    return Image(image.data, Space(image.space.shape, turn @ image.space.affine))


def ready(image) -> Prepared:
    return prepare(image, None, torch.device("cpu"))


EYE = torch.eye(4, dtype=torch.float64)


def test_a_mirrored_image_would_be_more_alike_the_other_way_round(space):
    truth = pair(space, linear=False, steepness=0.3)
    fixed, moving = lopsided(truth.fixed), lopsided(truth.moving)
    right = handedness(ready(fixed), ready(moving), EYE)
    wrong = handedness(ready(fixed), ready(mirrored(moving)), EYE)
    assert right.as_is > right.mirrored + 0.02
    assert wrong.mirrored > wrong.as_is + 0.02


def test_nothing_shared_is_no_likeness():
    space = Space((8, 8, 8), EYE)
    nothing = Prepared(space, torch.zeros(1, 1, 8, 8, 8))
    found = handedness(nothing, nothing, EYE)
    assert found.as_is == found.mirrored == pytest.approx(0)
