"""The stages before a deformation: linear registration, and the choice of metric and axes."""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from regcli.energy.base import Similarity
from regcli.energy.information import MI
from regcli.errors import InputError
from regcli.image import Space
from regcli.recipe import RegisterRecipe
from regcli.registration.contrast import SAME_CONTRAST, Contrast, measure
from regcli.registration.levels import Watch
from regcli.registration.linear import align, start
from regcli.registration.method import StageResult
from regcli.registration.priors import Priors
from regcli.registration.pyramid import Prepared
from regcli.registration.symmetric import mean_affine
from regcli.registry import SIMILARITIES, build
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
    """The metrics of a deformable stage.

    Attributes:
        specs: Specs of registry.SIMILARITIES.
        feature_share: Factor of the usual weight of learned features.
        smoothness: Factor of the regularizers that suits the pair.
        contrast: How the images compare inside; None if it was not measured.
        notes: The decision, in words.
    """

    specs: tuple[str, ...]
    feature_share: float = 1.0
    smoothness: float = 1.0
    contrast: Contrast | None = None
    notes: tuple[str, ...] = ()

    @property
    def similarities(self) -> tuple[Similarity, ...]:
        """The similarities that the specs name."""
        return tuple(build(SIMILARITIES, spec) for spec in self.specs)


def linear_stage(
    fixed: Prepared,
    moving: Prepared,
    recipe: RegisterRecipe,
    priors: Priors,
    watch: Watch,
) -> StageResult:
    """Register by linear maps.

    Args:
        fixed: Image.
        moving: Image.
        recipe: Where to start, by which similarity, and the last family of linear maps.
        priors: A matrix to start from, and prompts.
        watch: Progress and time limit.
    """
    unmoved, notes = torch.eye(4, dtype=torch.float64), []
    if priors.aligned and not recipe.linear:
        return StageResult(unmoved)
    if recipe.init == "none":
        note = "No linear stage: the images count as aligned in world space."
        return StageResult(unmoved, notes=(note,))
    family, similarity = recipe.transform if recipe.linear else "affine", MI(weight=1.0)
    if recipe.linear and recipe.metric != ("auto",):
        similarity = build(SIMILARITIES, recipe.metric[0])
    initial, prompts = priors.initial, priors.prompts
    assert not isinstance(initial, Warp)
    if initial is None and prompts is not None and recipe.init == "auto":
        initial = prompts.rigid()
        if initial is not None:
            notes.append("The linear stage started from the points and labels given.")
    if priors.aligned:
        initial = unmoved
    if initial is None:
        turning = family != "translation"
        best = start(fixed, moving, MI(weight=1.0), recipe.init, watch, turning=turning)
        notes.append(f"The linear stage started from: {best.name}.")
        initial = best.matrix
    affine, traces = align(fixed, moving, similarity, family, initial, watch, prompts)
    return StageResult(affine, traces=tuple(traces), notes=tuple(notes))


def both_ways(
    fixed: Prepared,
    moving: Prepared,
    recipe: RegisterRecipe,
    priors: Priors,
    watch: Watch,
) -> StageResult:
    """As `linear_stage`; swapped images get the inverse."""
    there = linear_stage(fixed, moving, recipe, priors, watch)
    if recipe.init == "none":
        return there
    back = linear_stage(moving, fixed, recipe, priors.swapped(), watch)
    one, other = (
        found.traces[-1].solution.energy / math.prod(found.traces[-1].shape)
        for found in (there, back)
    )
    affine = mean_affine(there.affine, back.affine, fixed.space, one <= other)
    return replace(there, affine=affine, traces=there.traces + back.traces)


def comparison(
    fixed: Prepared, moving: Prepared, recipe: RegisterRecipe, affine: Tensor
) -> Comparison:
    """Choose the metrics of the deformable stage.

    Args:
        fixed: Image.
        moving: Image.
        recipe: Its metric, maybe "auto".
        affine: (4, 4) fixed world to moving world.
    """
    if recipe.metric != ("auto",):
        return Comparison(recipe.metric)
    contrast = measure(fixed, moving, affine)
    specs = SAME if contrast.same else CROSS
    kind = "the same contrast" if contrast.same else "different contrasts, or none surely"
    note = (
        f"Metric {' + '.join(specs)}: once aligned by mind, the images have a mean local "
        f"correlation of {contrast.correlation:.2f} inside, which means {kind} (limit "
        f"{SAME_CONTRAST:g})."
    )
    if contrast.same:
        return Comparison(specs, contrast=contrast, notes=(note,))
    smoothness = contrast.doubt + (1 - contrast.doubt) * _SMOOTH_WHERE_SURE
    return Comparison(specs, contrast.doubt, smoothness, contrast, (note,))


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
