"""What a scanner makes of anatomy: any contrast, resolution and artefact.

Source: the idea is Billot et al., SynthSeg, MedIA 2023; what is drawn how is our own.
"""

import math
from bisect import bisect
from itertools import accumulate

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from regcli.models.prepare import robust_range
from regcli.ops.filter import gaussian
from regcli.ops.sample import resize
from regcli.train.anatomy import Vocabulary
from regcli.train.drawing import Drawing

# Rough mean intensities by FreeSurfer code, of the left side, as fractions of the brightest tissue:
# what radiology books show, not what any scanner gave; every draw shifts each by some percent.
_WHITE, _GREY, _DEEP, _FLUID = (2, 7), (3, 8, 17, 18), (10, 11, 12, 26), (4, 14, 15, 24)
_CONTRASTS = {
    "T1": {_WHITE: 0.88, _GREY: 0.55, _DEEP: 0.66, _FLUID: 0.14, (13, 28, 16): 0.79},
    "T2": {_WHITE: 0.33, _GREY: 0.48, _DEEP: 0.41, _FLUID: 0.97, (13, 28, 16): 0.33},
    "PD": {_WHITE: 0.62, _GREY: 0.84, _DEEP: 0.77, _FLUID: 0.88, (13, 28, 16): 0.64},
    "FLAIR": {_WHITE: 0.52, _GREY: 0.72, _DEEP: 0.65, _FLUID: 0.10, (13, 28, 16): 0.55},
}
_SHARES = (0.45, 0.25, 0.12, 0.18)  # of each: what users register is T1 more than all else


def paint(
    indices: Tensor, view: Tensor, means: Tensor, drawing: Drawing, generator: Generator
) -> Tensor:
    """Intensities of a map of twice the drawn resolution, (1, 1, I, J, K), in [0, 1].

    Args:
        indices: (1, 1, 2I-1, 2J-1, 2K-1) uint8, places in the vocabulary's codes.
        view: (1, 1, I, J, K) bool, where the scanner looks.
        means: Intensity of every index, see `contrast`.
        drawing: What may be drawn.
        generator: Decides everything.
    """
    grain = 0.1 * float(torch.rand((), generator=generator))
    image = means[indices.int()]
    texture = torch.randn(image.shape, generator=generator)
    image = image.addcmul_((indices > 0).to(image), texture, value=grain)
    return scan(image, indices > 0, view, drawing, generator)


def scan(
    image: Tensor, shown: Tensor | None, view: Tensor, drawing: Drawing, generator: Generator
) -> Tensor:
    """What a scanner makes of intensities: resolution, bias, noise, gamma; (1, 1, I, J, K).

    Args:
        image: (1, 1, 2I-1, 2J-1, 2K-1).
        shown: Of the same shape, where there is something; around it half of the scans are 0.
        view: (1, 1, I, J, K) bool, where the scanner looks; elsewhere the scan is 0.
        drawing: What may be drawn.
        generator: Decides everything.
    """
    size, air = torch.rand(2, generator=generator).tolist()
    image = _at_resolution(image, drawing, generator)
    noise = torch.randn(image.shape, generator=generator)
    image = (image * _bias(drawing, generator)).add_(noise, alpha=drawing.noise * size)
    if air < 0.5 and shown is not None:  # as skull-stripping leaves it; whole heads need not be
        image *= shown[..., ::2, ::2, ::2]
    low, high = robust_range(image.clamp_(min=0).mul_(view))
    gamma = math.exp(0.25 * float(torch.randn((), generator=generator)))
    return ((image - low) / ((high - low) or 1.0)).clamp_(0, 1).pow_(gamma)


def contrast(words: Vocabulary, drawing: Drawing, generator: Generator) -> Tensor:
    """A mean intensity for every code of the vocabulary, (codes,); both sides have the same."""
    numbers = torch.rand(len(words.codes) + 2, generator=generator)
    means = 0.05 + 0.95 * numbers[2:]
    if numbers[0] > drawing.random_contrast:
        place = bisect(list(accumulate(_SHARES[:-1])), float(numbers[1]))
        table = list(_CONTRASTS.values())[place]
        known = {code: mean for group, mean in table.items() for code in group}
        jitter = torch.randn(len(words.codes), generator=generator)
        for n, code in enumerate(words.codes):
            if code in known:
                means[n] = known[code] * (1 + 0.08 * float(jitter[n]))
    means = means[list(words.sides)]
    means[0] = 0
    return means


def _at_resolution(image: Tensor, drawing: Drawing, generator: Generator) -> Tensor:
    """As a scanner with larger voxels sees it, on every second voxel of the map."""
    half = 0.5 * drawing.spacing_mm
    numbers = torch.rand(5, generator=generator)
    sizes = [drawing.spacing_mm * (0.5 + 0.75 * float(n)) for n in numbers[:3]]
    thick = int(numbers[3] * 6)  # every second image has thick slices along one axis
    if thick < 3:
        sizes[thick] += (drawing.coarsest_mm - sizes[thick]) * float(numbers[4])
    i, j, k = (0.5 * s / half * 0.85 for s in sizes)
    image = gaussian(image, (i, j, k))[..., ::2, ::2, ::2].contiguous()
    if thick < 3 and sizes[thick] > 1.5 * drawing.spacing_mm:
        shape = list(image.shape[2:])
        step = sizes[thick] / drawing.spacing_mm
        shape[thick] = max(2, round((shape[thick] - 1) / step) + 1)
        whole = image.shape[2], image.shape[3], image.shape[4]
        image = resize(resize(image, (shape[0], shape[1], shape[2])), whole)
    return image


def _bias(drawing: Drawing, generator: Generator) -> Tensor:
    knots = drawing.bias * torch.randn(1, 1, 4, 4, 4, generator=generator)
    field = F.interpolate(knots, drawing.shape, mode="trilinear", align_corners=True)
    return field.exp_()
