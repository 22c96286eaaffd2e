"""Small label maps to learn from: a ball of fluid in one of white matter in one of grey."""

import torch

from regcli.image import Image, Space
from regcli.train.data.anatomy import anatomy
from regcli.train.data.vocabulary import vocabulary_of

CODES = (0, 2, 3, 4, 41, 42, 43, 510)


def labels(shape=(31, 35, 33), centre=(15.0, 17.0, 16.0), size=13.0, step=1.0):
    """(1, I, J, K) int16 on a RAS grid: left and right halves have their own codes."""
    axes = torch.meshgrid(*(torch.arange(float(n)) for n in shape), indexing="ij")
    offsets = [a - c for a, c in zip(axes, centre, strict=True)]
    radius = torch.stack(offsets).square().sum(0).sqrt() / size
    right = offsets[0] > 0
    out = torch.zeros(shape, dtype=torch.int16)
    for limit, left_code, right_code in (
        (1.15, 510, 510),
        (1.0, 3, 42),
        (0.7, 2, 41),
        (0.3, 4, 43),
    ):
        codes = torch.where(right, right_code, left_code).to(torch.int16)
        out = torch.where(radius <= limit, codes, out)
    affine = torch.diag(torch.tensor([step, step, step, 1.0], dtype=torch.float64))
    return Image(out[None], Space(shape, affine), labels=True)


def subject(words=None, **options):
    image = labels(**options)
    return anatomy(image, words or vocabulary_of(CODES))
