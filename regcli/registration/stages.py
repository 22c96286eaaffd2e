"""Stages: what a registration does before it deforms: linear maps, metrics, axes."""

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from regcli.energy.base import Similarity
from regcli.energy.information import MI
from regcli.errors import InputError
from regcli.image import Space, rearrange
from regcli.recipe import RegisterRecipe
from regcli.registration.contrast import SAME_CONTRAST, Contrast, measure
from regcli.registration.equilibrium.solve import Diagnosis
from regcli.registration.features.trust import Trust
from regcli.registration.levels import Trace, Watch
from regcli.registration.linear import align, start
from regcli.registration.priors import Given
from regcli.registration.pyramid import Prepared
from regcli.registration.symmetric import mean_affine
from regcli.registry import LINEAR, SIMILARITIES, build
from regcli.warp import Warp

# What --metric auto stands for. When it was chosen, on four T1 pairs of the benchmark at 2 mm, lncc
# with mind scored 0.742 Dice and lncc alone 0.736; on two T1-T2 pairs mind scored 0.684, and mi at
# the best of four weights about 0.62. MI and the defaults of lncc have changed since.
SAME = ("lncc", "mind:weight=0.3")
CROSS = ("mind",)
# Regularization where mind alone is sure of its alignment, as of two contrasts of one person: noise
# would else move single voxels. With factors 1, 2 and 4 the mean error of known maps fell from .97
# to .89 and .86 mm (T2 to FLAIR) and from .65 to .56 and .51 (T1 to T2), and scans of one session
# stayed 1.06, .95 and .86 mm from their rigid map. Pairs of two people would lose 1 to 2 points of
# Dice by it, so it is 1 where mind is not sure.
_SMOOTH_WHERE_SURE = 3.0


@dataclass(frozen=True)
class Comparison:
    """What is compared where images deform.

    Attributes:
        specs: Of the metrics.
        feature_share: Of their usual weight, that learned features should have beside them.
        smoothness: Factor of the regularizers that suits the pair.
        contrast: How the images compare inside; None if it was not measured.
    """

    specs: tuple[str, ...]
    feature_share: float = 1.0
    smoothness: float = 1.0
    contrast: Contrast | None = None

    @property
    def similarities(self) -> tuple[Similarity, ...]:
        """What the specs stand for."""
        return tuple(build(SIMILARITIES, spec) for spec in self.specs)


@dataclass(eq=False)
class Found:
    """The map so far; displacement in RAS mm on `space`, the fixed image's; None while linear."""

    affine: Tensor
    metrics: tuple[str, ...]
    traces: list[Trace]
    seconds: dict[str, float]
    space: Space
    displacement: Tensor | None = None
    weights: tuple[str, str] | None = None
    trust: Trust | None = None
    diagnosis: Diagnosis | None = None
    contrast: Contrast | None = None
    warnings: list[str] = field(default_factory=list)


def linear_stage(
    fixed: Prepared,
    moving: Prepared,
    recipe: RegisterRecipe,
    family: str,
    given: Given,
    watch: Watch,
    notes: list[str],
) -> tuple[Tensor, list[Trace]]:
    """Where linear maps take the moving image.

    Args:
        fixed: Image.
        moving: Image.
        recipe: Where to start, and by which similarity.
        family: Of linear maps, the last one.
        given: A matrix to start from, and prompts.
        watch: Progress and time limit.
        notes: Takes the decisions.

    Returns:
        (4, 4) fixed world to moving world, and what happened.
    """
    if given.aligned and recipe.transform not in LINEAR:
        return torch.eye(4, dtype=torch.float64), []
    if recipe.init == "none":
        notes.append("No linear stage: the images count as aligned in world space.")
        return torch.eye(4, dtype=torch.float64), []
    similarity = MI(weight=1.0)
    if recipe.transform in LINEAR and recipe.metric != ("auto",):
        similarity = build(SIMILARITIES, recipe.metric[0])
    initial, prompts = given.initial, given.prompts
    assert not isinstance(initial, Warp)
    if initial is None and prompts is not None and recipe.init == "auto":
        initial = prompts.rigid()
        if initial is not None:
            notes.append("The linear stage started from the points and labels given.")
    if given.aligned:
        initial = torch.eye(4, dtype=torch.float64)
    if initial is None:
        turning = family != "translation"
        best = start(fixed, moving, MI(weight=1.0), recipe.init, watch, turning=turning)
        notes.append(f"The linear stage started from: {best.name}.")
        initial = best.matrix
    return align(fixed, moving, similarity, family, initial, watch, prompts)


def both_ways(
    fixed: Prepared,
    moving: Prepared,
    recipe: RegisterRecipe,
    given: Given,
    watch: Watch,
    there: Tensor,
    traces: list[Trace],
) -> Tensor:
    """An affine that is the inverse of what the swapped images would get."""
    if recipe.init == "none":
        return there
    back, more = linear_stage(moving, fixed, recipe, "affine", given.swapped(), watch, [])
    ends = (run[-1].solution.energy / math.prod(run[-1].shape) for run in (traces, more))
    better = next(ends) <= next(ends)
    traces += more
    return mean_affine(there, back, fixed.space, better)


def comparison(
    fixed: Prepared, moving: Prepared, recipe: RegisterRecipe, affine: Tensor, notes: list[str]
) -> Comparison:
    """What is compared where images deform.

    Args:
        fixed: Image.
        moving: Image.
        recipe: Its metric, maybe "auto".
        affine: (4, 4) fixed world to moving world.
        notes: Takes the decision.
    """
    if recipe.metric != ("auto",):
        return Comparison(recipe.metric)
    contrast = measure(fixed, moving, affine)
    specs = SAME if contrast.same else CROSS
    kind = "the same contrast" if contrast.same else "different contrasts, or none surely"
    notes.append(
        f"Metric {' + '.join(specs)}: once aligned by mind, the images have a mean local "
        f"correlation of {contrast.correlation:.2f} inside, which means {kind} (limit "
        f"{SAME_CONTRAST:g})."
    )
    if contrast.same:
        return Comparison(specs, contrast=contrast)
    smoothness = contrast.doubt + (1 - contrast.doubt) * _SMOOTH_WHERE_SURE
    return Comparison(specs, contrast.doubt, smoothness, contrast)


def free_axes(recipe: RegisterRecipe, space: Space) -> tuple[bool, bool, bool]:
    """Axes of the canonical fixed grid along which displacements may be.

    Raises:
        InputError: If the recipe leaves none of those that have voxels.
    """
    if not recipe.restrict:
        return True, True, True
    if not any(a and b for a, b in zip(recipe.restrict, space.solid, strict=True)):
        raise InputError(
            "--restrict leaves no axis of the fixed image that has more than one voxel.",
            "The axes are those of the file, as regcli info shows them.",
        )
    i, j, k = (bool(recipe.restrict[axis]) for axis in space.axes_of(space.canonical())[0])
    return i, j, k


def on_grid(y: Tensor, canonical: Space, space: Space) -> Tensor:
    """Voxel displacements on the canonical grid as mm on the image's own: (1, 3, I, J, K)."""
    return rearrange(canonical.vectors_to_world(y.cpu()), canonical, space)
