"""A simulated scanner: any contrast, resolution and artefact.

Source: the idea is Billot et al., SynthSeg, MedIA 2023; what is drawn how is our own.
"""

import math
from bisect import bisect
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from regcli.nets.base import every_other
from regcli.ops.drawing import shrunk
from regcli.ops.filter import gaussian, gaussian_taps
from regcli.ops.sample import resize
from regcli.registration.normalize import robust_range
from regcli.train.data.vocabulary import Vocabulary
from regcli.train.synth.drawing import Drawing

# Rough mean intensities by FreeSurfer code, of the left side, as fractions of the brightest tissue:
# what radiology books show, not what any scanner gave; every draw shifts each by some percent.
# Cortical parcels and the callosum have the intensity of their tissue.
_WHITE, _GREY, _DEEP, _FLUID = (2, 7), (3, 8, 17, 18), (10, 11, 12, 26), (4, 14, 15, 24)
_CONTRASTS = {
    "T1": {_WHITE: 0.88, _GREY: 0.55, _DEEP: 0.66, _FLUID: 0.14, (13, 28, 16): 0.79},
    "T2": {_WHITE: 0.33, _GREY: 0.48, _DEEP: 0.41, _FLUID: 0.97, (13, 28, 16): 0.33},
    "PD": {_WHITE: 0.62, _GREY: 0.84, _DEEP: 0.77, _FLUID: 0.88, (13, 28, 16): 0.64},
    "FLAIR": {_WHITE: 0.52, _GREY: 0.72, _DEEP: 0.65, _FLUID: 0.10, (13, 28, 16): 0.55},
}


def paint(
    indices: Tensor, fov: Tensor, means: Tensor, drawing: Drawing, generator: Generator
) -> Tensor:
    """Intensities of a map of twice the drawn resolution, (1, 1, I, J, K), in [0, 1].

    Args:
        indices: (1, 1, 2I-1, 2J-1, 2K-1) uint8, places in the vocabulary's codes.
        fov: (1, 1, I, J, K) bool, where the scanner looks.
        means: Intensity of every index, see `contrast`.
        drawing: What may be drawn.
        generator: Decides everything.
    """
    grain = 0.1 * float(torch.rand((), generator=generator))
    resolution = _resolution(drawing, generator)
    taps = [gaussian_taps(sigma) for sigma in resolution.sigma]
    image = resolution.sliced(shrunk(indices, means, taps))
    shown = every_other(indices) > 0
    # of what varies from voxel to voxel of the map, an average keeps the less the wider it is
    grain *= math.prod(float(t.square().sum()) for t in taps) ** 0.5
    return _exposed(image, shown, grain, fov, drawing, generator)


def scan(image: Tensor, fov: Tensor, drawing: Drawing, generator: Generator) -> Tensor:
    """Another scanner's view of an image: resolution, bias, noise, gamma; (1, 1, I, J, K).

    Args:
        image: (1, 1, 2I-1, 2J-1, 2K-1).
        fov: (1, 1, I, J, K) bool, where the scanner looks; elsewhere the scan is 0.
        drawing: What may be drawn.
        generator: Decides everything.
    """
    resolution = _resolution(drawing, generator)
    image = resolution.sliced(every_other(gaussian(image, resolution.sigma)).contiguous())
    return _exposed(image, None, 0.0, fov, drawing, generator)


def contrast(vocabulary: Vocabulary, drawing: Drawing, generator: Generator) -> Tensor:
    """A mean intensity for every code of the vocabulary, (codes,); both sides have the same."""
    numbers = torch.rand(len(vocabulary.codes) + 2, generator=generator)
    means = 0.05 + 0.95 * numbers[2:]
    if numbers[0] > drawing.random_contrast:
        shares = list(accumulate(drawing.contrasts))
        place = bisect(shares[:-1], float(numbers[1]) * shares[-1])
        table = list(_CONTRASTS.values())[place]
        known = {code: mean for group, mean in table.items() for code in group}
        jitter = torch.randn(len(vocabulary.codes), generator=generator)
        for n in range(len(vocabulary.codes)):
            if (code := vocabulary.tissue(n)) in known:
                means[n] = known[code] * (1 + drawing.jitter * float(jitter[n]))
    means = means[list(vocabulary.tissues)]
    means[0] = 0
    return means


@dataclass(frozen=True)
class _Resolution:
    """How a scanner with larger voxels sees a map of half the drawn voxel size.

    Attributes:
        sigma: Of a Gaussian, in voxels of the map.
        thick: Axis across thick slices, and how many drawn voxels one holds; None for none.
    """

    sigma: tuple[float, float, float]
    thick: tuple[int, float] | None

    def sliced(self, image: Tensor) -> Tensor:
        """An image, (1, 1, I, J, K), as interpolated between its slices."""
        if self.thick is None or self.thick[1] <= 1.5:
            return image
        axis, step = self.thick
        i, j, k = whole = image.shape[2], image.shape[3], image.shape[4]
        shape = [i, j, k]
        shape[axis] = max(2, round((shape[axis] - 1) / step) + 1)
        return resize(resize(image, (shape[0], shape[1], shape[2])), whole)


def _resolution(drawing: Drawing, generator: Generator) -> _Resolution:
    *numbers, kind, axis, much = torch.rand(6, generator=generator).tolist()
    sizes, thick = [drawing.spacing_mm * (0.5 + 0.75 * n) for n in numbers], None
    if kind < drawing.thick:
        place = int(3 * axis)
        sizes[place] += (drawing.coarsest_mm - sizes[place]) * much
        thick = place, sizes[place] / drawing.spacing_mm
    i, j, k = (0.85 * size / drawing.spacing_mm for size in sizes)
    return _Resolution((i, j, k), thick)


def _exposed(
    image: Tensor,
    shown: Tensor | None,
    grain: float,
    fov: Tensor,
    drawing: Drawing,
    generator: Generator,
) -> Tensor:
    """Bias, texture and noise, what skull-stripping leaves, range and gamma: (1, 1, I, J, K).

    Args:
        image: (1, 1, I, J, K).
        shown: Where there is something, or None; around it half of the scans are 0.
        grain: Standard deviation of texture there.
        fov: Where the scanner looks; elsewhere the scan is 0.
        drawing: What may be drawn.
        generator: Decides everything.
    """
    size, air, gamma = torch.rand(3, generator=generator).tolist()
    flat = drawing.noise * size
    noise = torch.randn(image.shape, generator=generator)
    if shown is None:
        noise *= flat
    else:
        noise *= torch.tensor([flat, math.hypot(flat, grain)])[shown.int()]
    image = (image * _bias(drawing, generator)).add_(noise)
    if air < 0.5 and shown is not None:  # as skull-stripping leaves it; whole heads need not be
        image *= shown
    image.clamp_(min=0).mul_(fov)
    low, high = robust_range(every_other(image))
    gamma = math.exp(0.25 * float(torch.special.ndtri(torch.tensor(gamma).clamp(1e-6, 1 - 1e-6))))
    return ((image - low) / ((high - low) or 1.0)).clamp_(0, 1).pow_(gamma)


def _bias(drawing: Drawing, generator: Generator) -> Tensor:
    knots = drawing.bias * torch.randn(1, 1, 4, 4, 4, generator=generator)
    field = F.interpolate(knots, drawing.shape, mode="trilinear", align_corners=True)
    return field.exp_()
