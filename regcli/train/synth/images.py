"""Images drawn from label maps: the anatomy warped, cut and stripped, then seen by a scanner.

Every draw takes a generator, so that a seed and a step number give the same sample anywhere.

Source: the idea is Billot et al., SynthSeg, MedIA 2023; what is drawn how is our own.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from regcli.nets.base import every_other
from regcli.ops.drawing import CODES, looked_up
from regcli.ops.sample import after, resize, sample
from regcli.train.data.anatomy import Anatomy
from regcli.train.data.vocabulary import Vocabulary
from regcli.train.synth.drawing import Drawing
from regcli.train.synth.scanner import contrast, paint, scan

_TILT = 0.1  # slope of planes that end a field of view, standard deviation per axis


@dataclass(frozen=True, eq=False)
class Sample:
    """A drawn image and what it shows.

    Attributes:
        image: (1, 1, I, J, K) in [0, 1], as `registration.normalize` makes real ones.
        types: (1, 1, I, J, K) int64, classes of the vocabulary.
        points: (N, 3) voxels; None without landmarks.
        weight: (1, 1, I, J, K), where the image counts; None for everywhere.
    """

    image: Tensor
    types: Tensor
    points: Tensor | None = None
    weight: Tensor | None = None


@dataclass(frozen=True, eq=False)
class PairStyle:
    """The style that images of a pair share.

    Attributes:
        means: Intensity of every code of the vocabulary, see `scanner.contrast`.
        kind: In [0, 1), decides whether they show whole heads, see `strip`.
        position: Of whom: others are laid over this brain, as a linear stage would.
        offset: (3,) float64 mm: of the drawn part's centre from the brain's.
    """

    means: Tensor
    kind: float
    position: Anatomy
    offset: Tensor


def look(of: Anatomy, vocabulary: Vocabulary, drawing: Drawing, generator: Generator) -> PairStyle:
    """Draw a style at random."""
    means = contrast(vocabulary, drawing, generator)
    kind = float(torch.rand((), generator=generator))
    return PairStyle(means, kind, of, somewhere(of, drawing, generator))


def somewhere(of: Anatomy, drawing: Drawing, generator: Generator) -> Tensor:
    """(3,) float64 mm: from the brain's centre to a part's that it fills, of the drawn size."""
    size = [drawing.spacing_mm * (n - 1) for n in drawing.shape]
    rest = (of.extent_mm - torch.tensor(size, dtype=torch.float64)).clamp(min=0)
    return (torch.rand(3, generator=generator, dtype=torch.float64) - 0.5) * rest


def draw(
    of: Anatomy,
    vocabulary: Vocabulary,
    drawing: Drawing,
    generator: Generator,
    shared: PairStyle | None = None,
) -> Sample:
    """One image of an anatomy, warped at random: painted, or its own, seen by another scanner.

    Args:
        of: Whom to draw; with landmarks, which are carried by the affine, nothing may be elastic.
        vocabulary: What the anatomy's indices mean.
        drawing: What may be drawn.
        generator: Decides everything else.
        shared: With other images; None to draw it, too.
    """
    assert of.points is None or not any(drawing.elastic_mm)
    fine = _doubled(drawing.shape)
    knots = elastic(fine, drawing, generator)
    mirror = drawing.mirror and vocabulary.mirrored
    whose = shared.position if shared else of
    matrix = placement(whose, fine, drawing, generator, mirror=mirror)
    offset = shared.offset if shared else somewhere(of, drawing, generator)
    matrix[:, 3] += offset / torch.tensor(whose.space.spacing)
    if whose is not of:
        matrix = after(whose.onto(of), matrix)
    kind = shared.kind if shared else float(torch.rand((), generator=generator))
    seen = looked_up(of.packed, kept(vocabulary, drawing.bare, kind), matrix, knots, fine)
    coarse = every_other(seen)
    fov = field_of_view(torch.tensor(vocabulary.inside)[coarse.int()], drawing, generator)
    types = torch.tensor(vocabulary.classes)[coarse.int()] * fov
    if of.image is None:
        means = shared.means if shared else contrast(vocabulary, drawing, generator)
        return Sample(paint(seen, fov, means, drawing, generator), types)
    u = resize(knots, fine)
    image = sample(of.image, u, matrix=matrix, border=False)
    if kind < drawing.bare:
        image *= sample(of.brain, u, matrix=matrix, interpolation="nearest", border=False)
    image = scan(image, fov, drawing, generator)
    weight = points = None
    if of.weight is not None:
        weight = every_other(sample(of.weight, u, matrix=matrix, border=False)).contiguous()
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
    """Knots of a smooth random displacement, about 8 mm apart, in voxels of half the drawn size.

    Args:
        shape: Of the grid of such voxels that the knots are stretched over.
        drawing: How large displacements are.
        generator: Decides everything.

    Returns:
        (1, 3, i, j, k).
    """
    voxel = 0.5 * drawing.spacing_mm
    coarse = [max(2, round((n - 1) * voxel / 8) + 1) for n in shape]
    u = torch.zeros(1, 3, *coarse)
    for wavelength, size in zip((40.0, 20.0, 11.0), drawing.elastic_mm, strict=True):
        knots = [max(2, round((n - 1) * voxel / wavelength) + 1) for n in shape]
        noise = torch.randn(1, 3, *knots, generator=generator) * (size / voxel)
        u += F.interpolate(noise, coarse, mode="trilinear", align_corners=True)
    return u


def kept(vocabulary: Vocabulary, bare: float, kind: float) -> Tensor:
    """Skull stripping at random: the whole head, the brain with its fluid, or the brain.

    Args:
        vocabulary: What the indices mean.
        bare: Share of bare brains; half of the others keep the fluid.
        kind: Between 0 and 1: decides.

    Returns:
        (2 * CODES,) uint8: what each index becomes, away from the brain, then in it.
    """
    index = torch.arange(CODES).repeat(2)
    if kind < bare:
        index[:CODES] = 0
    elif kind < bare + 0.5 * (1 - bare):
        inside = torch.zeros(CODES, dtype=torch.bool)
        inside[: len(vocabulary.codes)] = torch.tensor(vocabulary.inside)
        index[~inside.repeat(2)] = 0
    return index.to(torch.uint8)


def field_of_view(brain: Tensor, drawing: Drawing, generator: Generator) -> Tensor:
    """The field of view, (1, 1, I, J, K) bool: everything, or the part between six planes.

    Each plane is a face of the brain's box moved inwards, and tilted a little in every second
    image, as a moving image is after the linear stage.

    Args:
        brain: (1, 1, I, J, K) bool.
        drawing: How many are cut, and how deep.
        generator: Decides everything.
    """
    inside = brain[0, 0]
    fov = torch.ones_like(inside)
    chance, tilted, *depths = torch.rand(8, generator=generator).tolist()
    tilts = _TILT * (tilted < 0.5) * torch.randn(6, 3, generator=generator)
    if chance >= drawing.cut or not bool(inside.any()):
        return fov[None, None]
    shown = inside.nonzero().to(torch.float32)
    low, high = shown.amin(dim=0), shown.amax(dim=0)
    i, j, k = (
        torch.arange(float(n)) - (a + b) / 2 for n, a, b in zip(fov.shape, low, high, strict=True)
    )
    for face, (depth, tilt) in enumerate(zip(depths, tilts, strict=True)):
        axis, sign = face // 2, 1 - 2 * (face % 2)
        extent = float(high[axis] - low[axis])
        # untilted, one face in five stays outside
        kept = extent * (0.5 - drawing.deepest_cut * (1.25 * depth - 0.25))
        tilt[axis] = sign
        a, b, c = tilt.tolist()
        fov &= (a * i)[:, None, None] + (b * j)[:, None] + c * k <= kept
    return fov[None, None]


def _doubled(shape: tuple[int, int, int]) -> tuple[int, int, int]:
    i, j, k = (2 * n - 1 for n in shape)
    return i, j, k


def generator_of(seed: int, step: int) -> Generator:
    """The generator of one step of a run: steps can be drawn again in any order."""
    words = np.random.SeedSequence((seed, step)).generate_state(2, np.uint32)
    return torch.Generator().manual_seed((int(words[0]) << 31) ^ int(words[1]))
