import phantoms
import torch

from regcli.image import Space
from regcli.models.contrast import SAME_CONTRAST, local_correlation
from regcli.models.prepare import prepare

EYE = torch.eye(4, dtype=torch.float64)


def ready(pair):
    return [prepare(image, None, torch.device("cpu")) for image in (pair.fixed, pair.moving)]


def test_contrasts_are_told_apart():
    """The rule looks at details of 1/40 of the field of view; smaller phantoms have none."""
    space = Space((40, 44, 38), torch.diag(torch.tensor([-4.2, 4.2, 4.2, 1.0])).double())
    same, cross = (
        local_correlation(*ready(phantoms.pair(space, linear=False, contrast=contrast)), EYE)
        for contrast in ("same", "cross")
    )
    assert same > SAME_CONTRAST + 0.3
    assert cross < SAME_CONTRAST - 0.1


def test_an_image_correlates_with_itself(space):
    fixed, _ = ready(phantoms.pair(space))
    assert local_correlation(fixed, fixed, EYE) > 0.95


def test_images_apart_share_nothing(space):
    fixed, moving = ready(phantoms.pair(space))
    far = EYE.clone()
    far[0, 3] = 1e4
    assert local_correlation(fixed, moving, far) == 0
