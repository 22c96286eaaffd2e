"""Images drawn from label maps: the anatomy warped, then any contrast, resolution and artefact.

Every draw takes a generator, so that a seed and a step number give the same sample anywhere.

Source: the idea is Billot et al., SynthSeg, MedIA 2023; what is drawn how is our own.
"""

import math
from bisect import bisect
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from regcli.models.prepare import robust_range
from regcli.ops.filter import gaussian
from regcli.ops.sample import resize, sample
from regcli.train.anatomy import FIRST_OUTSIDE, Anatomy, Vocabulary

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
_TILT = 0.1  # of planes that end a field of view, as a share of their distance, per axis


@dataclass(frozen=True)
class Drawing:
    """What may be drawn; the numbers are standard deviations or ranges.

    Attributes:
        spacing_mm: Of the drawn images.
        shape: (I, J, K) of them.
        random_contrast: Share of images whose tissues have random intensities.
        turn_rad: Rotation about each axis.
        scale: Logarithm of the scale along each axis.
        shift_mm: Of the anatomy's centre.
        mirror: Whether half of the anatomies are mirrored, if both sides have the same types.
        elastic_mm: Of displacements that change over about 40, 20 and 11 mm.
        bare: Share of images without anything but the brain; half of the others keep the fluid
            around it, the rest show the whole head.
        cut: Share of images whose field of view ends within the anatomy.
        deepest_cut: Largest share of the brain's extent that is cut off at one face.
        coarsest_mm: Largest voxel size that is imitated along one axis.
        noise: Largest standard deviation, as a fraction of the range.
        bias: Of the logarithm of the bias field.
    """

    spacing_mm: float = 2.0
    shape: tuple[int, int, int] = (81, 97, 81)
    random_contrast: float = 0.3
    turn_rad: float = 0.15
    scale: float = 0.08
    shift_mm: float = 5.0
    mirror: bool = True
    elastic_mm: tuple[float, float, float] = (2.5, 1.6, 0.8)
    bare: float = 0.6
    cut: float = 0.3
    deepest_cut: float = 0.2
    coarsest_mm: float = 5.0
    noise: float = 0.06
    bias: float = 0.2


@dataclass(frozen=True, eq=False)
class Sample:
    """A drawn image and what it shows.

    Attributes:
        image: (1, 1, I, J, K) in [0, 1], as `models.prepare` makes real ones.
        types: (1, 1, I, J, K) int64, of the vocabulary.
        points: (N, 3) voxels; None without landmarks.
        weight: (1, 1, I, J, K), where the image counts; None for everywhere.
    """

    image: Tensor
    types: Tensor
    points: Tensor | None = None
    weight: Tensor | None = None


def draw(of: Anatomy, words: Vocabulary, drawing: Drawing, generator: Generator) -> Sample:
    """One image of an anatomy, warped at random: painted, or its own, seen by another scanner.

    Args:
        of: Whom to draw; with landmarks, which are carried by the affine, nothing may be elastic.
        words: What the anatomy's indices mean.
        drawing: What may be drawn.
        generator: Decides everything.
    """
    assert of.points is None or not any(drawing.elastic_mm)
    fine = _doubled(drawing.shape)
    u = elastic(fine, drawing, generator)
    matrix = placement(of, fine, drawing, generator, mirror=drawing.mirror and words.mirrored)
    both = torch.cat([of.indices, of.brain], dim=1)  # looked up together: one walk, not two
    seen = sample(both, u, matrix=matrix, interpolation="nearest", border=False)
    indices, brain = (part.contiguous() for part in seen.split(1, dim=1))
    kind = float(torch.rand((), generator=generator))
    seen = strip(indices, brain, words, drawing.bare, kind)
    view = field_of_view(brain, drawing, generator)
    types = torch.tensor(words.types)[seen[..., ::2, ::2, ::2].int()] * view
    if of.image is None:
        return Sample(paint(seen, view, words, drawing, generator), types)
    image = sample(of.image, u, matrix=matrix, border=False)
    image = image * brain if kind < drawing.bare else image
    image = scan(image, None, view, drawing, generator)
    weight = points = None
    if of.weight is not None:
        weight = sample(of.weight, u, matrix=matrix, border=False)[..., ::2, ::2, ::2].contiguous()
    if of.points is not None:
        back = torch.linalg.inv(matrix[:, :3])
        points = 0.5 * (of.points - matrix[:, 3]) @ back.T
    return Sample(image, types, points, weight)


def placement(
    of: Anatomy,
    shape: tuple[int, int, int],
    drawing: Drawing,
    generator: Generator,
    *,
    mirror: bool,
) -> Tensor:
    """(3, 4): voxel of a grid of half the drawn voxel size to voxel of the anatomy, at random."""
    normal = torch.randn(3, 3, generator=generator, dtype=torch.float64)
    angles, scales = drawing.turn_rad * normal[0], (drawing.scale * normal[1]).exp()
    skew = torch.zeros(3, 3, dtype=torch.float64)
    skew[[2, 0, 1], [1, 2, 0]], skew[[1, 2, 0], [2, 0, 1]] = angles, -angles
    linear = torch.linalg.matrix_exp(skew) @ torch.diag(scales)
    if torch.rand((), generator=generator) < 0.5 and mirror:  # left and right
        linear[0] = -linear[0]
    spacing = torch.tensor(of.space.spacing, dtype=torch.float64)
    out = torch.zeros(3, 4, dtype=torch.float64)
    out[:, :3] = linear * (0.5 * drawing.spacing_mm) / spacing[:, None]
    centre = torch.tensor([(n - 1) / 2 for n in shape], dtype=torch.float64)
    out[:, 3] = of.middle + drawing.shift_mm * normal[2] / spacing - out[:, :3] @ centre
    return out


def elastic(shape: tuple[int, int, int], drawing: Drawing, generator: Generator) -> Tensor:
    """A smooth random displacement, (1, 3, I, J, K), in voxels of half the drawn size."""
    voxel = 0.5 * drawing.spacing_mm
    coarse = [max(2, round((n - 1) * voxel / 8) + 1) for n in shape]
    u = torch.zeros(1, 3, *coarse)
    for wavelength, size in zip((40.0, 20.0, 11.0), drawing.elastic_mm, strict=True):
        knots = [max(2, round((n - 1) * voxel / wavelength) + 1) for n in shape]
        noise = torch.randn(1, 3, *knots, generator=generator) * (size / voxel)
        u += F.interpolate(noise, coarse, mode="trilinear", align_corners=True)
    return resize(u, shape)


def strip(indices: Tensor, brain: Tensor, words: Vocabulary, bare: float, kind: float) -> Tensor:
    """What is left of a head: all, the brain with the fluid around it, or the brain.

    Args:
        indices: (1, 1, I, J, K) uint8, places in the vocabulary's codes.
        brain: Likewise, 1 in and close to the brain.
        words: What the indices mean.
        bare: Share of bare brains; half of the others keep the fluid.
        kind: Between 0 and 1: decides.
    """
    if kind < bare:
        return indices * brain
    if kind < bare + 0.5 * (1 - bare):
        inside = (torch.tensor(words.codes) < FIRST_OUTSIDE).to(torch.uint8)
        return indices * inside[indices.int()]
    return indices


def field_of_view(brain: Tensor, drawing: Drawing, generator: Generator) -> Tensor:
    """Where the scanner looks, (1, 1, I, J, K) bool: everywhere, or between six planes.

    Each plane is a face of the brain's box moved inwards, and tilted a little in every second
    image, as a moving image is after the linear stage.

    Args:
        brain: (1, 1, 2I-1, 2J-1, 2K-1), 1 in and close to the brain.
        drawing: How many are cut, and how deep.
        generator: Decides everything.
    """
    inside = brain[0, 0, ::2, ::2, ::2]
    view = torch.ones_like(inside, dtype=torch.bool)
    chance, tilted, *depths = torch.rand(8, generator=generator).tolist()
    tilts = _TILT * (tilted < 0.5) * torch.randn(6, 3, generator=generator)
    shown = inside.nonzero().to(torch.float32)
    if chance >= drawing.cut or len(shown) == 0:
        return view[None, None]
    low, high = shown.amin(dim=0), shown.amax(dim=0)
    i, j, k = (
        torch.arange(float(n)) - (a + b) / 2 for n, a, b in zip(view.shape, low, high, strict=True)
    )
    for face, (depth, tilt) in enumerate(zip(depths, tilts, strict=True)):
        axis, sign = face // 2, 1 - 2 * (face % 2)
        extent = float(high[axis] - low[axis])
        # one face in five stays outside
        kept = extent * (0.5 - drawing.deepest_cut * (1.25 * depth - 0.25))
        tilt[axis] = sign
        a, b, c = tilt.tolist()
        view &= (a * i)[:, None, None] + (b * j)[:, None] + c * k <= kept
    return view[None, None]


def paint(
    indices: Tensor, view: Tensor, words: Vocabulary, drawing: Drawing, generator: Generator
) -> Tensor:
    """Intensities of a map of twice the drawn resolution, (1, 1, I, J, K), in [0, 1].

    Args:
        indices: (1, 1, 2I-1, 2J-1, 2K-1) uint8, places in the vocabulary's codes.
        view: (1, 1, I, J, K) bool, where the scanner looks.
        words: What the indices mean.
        drawing: What may be drawn.
        generator: Decides everything.
    """
    grain = 0.1 * float(torch.rand((), generator=generator))
    image = contrast(words, drawing, generator)[indices.int()]
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


def _doubled(shape: tuple[int, int, int]) -> tuple[int, int, int]:
    i, j, k = (2 * n - 1 for n in shape)
    return i, j, k


def generator_of(seed: int, step: int) -> Generator:
    """The generator of one step of a run: steps can be drawn again in any order."""
    words = np.random.SeedSequence((seed, step)).generate_state(2, np.uint32)
    return torch.Generator().manual_seed((int(words[0]) << 31) ^ int(words[1]))
