"""Numbers of a report are those of the images."""

import pytest
import torch

from regcli.evaluate.report import similarity_report
from regcli.image import Box, Image, Space
from regcli.warp import Warp


def test_what_lies_outside_the_moving_image_is_not_compared():
    """A large offset would make the zeros outside count as the strongest contrast of all."""
    space = Space((20, 22, 18), torch.eye(4, dtype=torch.float64))
    draw = torch.Generator().manual_seed(0)
    data = torch.rand(1, *space.shape, generator=draw)
    part = Box(space, (4, 0, 0), space.shape)
    fixed, moving = Image(data, space), Image(1e4 + part.cut(data), part.part)
    stages = {"after": Warp(space, torch.eye(4, dtype=torch.float64))}
    covered = torch.zeros(space.shape, dtype=torch.bool)
    covered[4:] = True
    report = similarity_report(fixed, moving, stages, covered, covered, cross=False)
    assert report["ncc"]["after"] == pytest.approx(1, abs=1e-3)
