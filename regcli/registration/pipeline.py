"""register: two images and a recipe in, one Warp out; the stages in the order they happen."""

import time
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor

from regcli.image import Image, Space
from regcli.io.images import read_image
from regcli.machine import choose_device, settings
from regcli.ops.memory import release
from regcli.recipe import RegisterRecipe
from regcli.registration.aligned import aligned
from regcli.registration.checks import Masks, check_pair, check_ranges
from regcli.registration.contrast import Contrast
from regcli.registration.equilibrium.solve import Diagnosis
from regcli.registration.features.trust import Trust
from regcli.registration.levels import Trace, Watch
from regcli.registration.method import StageResult
from regcli.registration.model_choice import resolve_method, resolve_model
from regcli.registration.normalize import prepare, robust_range
from regcli.registration.priors import Priors, carried
from regcli.registration.prompts import Prompts
from regcli.registration.pyramid import Prepared
from regcli.registration.stages import both_ways, free_axes, linear_stage
from regcli.transforms.dense import Compositional
from regcli.transforms.unfold import unfolded
from regcli.warp import Interpolation, Warp


@dataclass(frozen=True, eq=False)
class Result:
    """The result of a registration.

    Attributes:
        warp: Fixed world to moving world, on the fixed grid.
        inverse: Moving world to fixed world.
        inverse_error: (I, J, K) mm, of the inverse at every voxel of the fixed grid.
        moved: The moving image on the fixed grid.
        linear: (4, 4), the affine at the end of the linear stage.
        metrics: Specs of what was compared in the last stage, learned features not counted; with
            learned steps, of what suits the images' contrasts.
        weights: Name and SHA-256 of the weights whose features were compared too, or None.
        traces: What happened on each level.
        seconds: Per part.
        trust: How far the images suit weights of features; None if none were tried.
        diagnosis: Of the equilibrium, if that was asked for.
        contrast: How the images compare inside, aligned by mind; None if it was not measured.
        notes: Decisions that were made, in words.
        warnings: What the user should look at.
        stopped: "time" if the time limit cut it short, else "done".
    """

    warp: Warp
    inverse: Warp
    inverse_error: Tensor
    moved: Image
    linear: Tensor
    metrics: tuple[str, ...]
    weights: tuple[str, str] | None
    traces: list[Trace]
    seconds: dict[str, float]
    trust: Trust | None = None
    diagnosis: Diagnosis | None = None
    contrast: Contrast | None = None
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    stopped: str = "done"


def register(
    fixed: Image | str | Path,
    moving: Image | str | Path,
    recipe: RegisterRecipe | None = None,
    *,
    masks: Masks | None = None,
    initial: Tensor | Warp | None = None,
    prompts: Prompts | None = None,
    rigidity: Tensor | None = None,
    watch: Watch | None = None,
) -> Result:
    """Find the map that carries the moving image onto the fixed one.

    Args:
        fixed: An image or its path; one channel, any grid.
        moving: Likewise.
        recipe: What to do; default as `regcli register` without options.
        masks: What counts in the loss.
        initial: Where to start, if recipe.init is a file: (4, 4) fixed world to moving world for
            the linear stage, or a whole map, which replaces that stage.
        prompts: What the user knows of both, which then drives the registration.
        rigidity: (1, I, J, K) on the fixed grid, a factor of the regularization.
        watch: Progress and time limit.

    Raises:
        InputError: If the images share no space with --init none, a mask leaves nothing, or no
            axis is left to deform along.
        RecipeError: If the recipe and what is given do not go together.
    """
    fixed, moving = (
        image if isinstance(image, Image) else read_image(image).image for image in (fixed, moving)
    )
    recipe = resolve_model(recipe or RegisterRecipe())
    with settings(recipe):
        watch = watch or Watch(lambda stage, share: None)
        priors = Priors(masks or Masks(), initial, prompts, rigidity)
        return _register(fixed, moving, recipe, priors, watch)


def _register(
    fixed: Image, moving: Image, recipe: RegisterRecipe, priors: Priors, watch: Watch
) -> Result:
    check_pair(fixed, moving, priors.masks, recipe.init)
    free_axes(recipe, fixed.space)
    recipe.check_compatible(priors.options)
    found = _solve(fixed, moving, recipe, priors, watch)
    clock = time.monotonic()
    warp = Warp(fixed.space, found.affine, found.displacement)
    inverse, error = warp.inverse()
    moved = warp.apply(moving, fixed.space, interpolation_of(moving, recipe.interpolation))
    seconds = dict(found.seconds) | {"apply": time.monotonic() - clock}
    release()
    warnings = list(found.warnings)
    timed_out = any(t.solution.stopped == "time" for t in found.traces)
    if timed_out:
        warnings.append("The time limit stopped the registration early.")
    return Result(
        warp=warp,
        inverse=inverse,
        inverse_error=error,
        moved=moved,
        linear=found.affine,
        metrics=found.metrics,
        weights=found.weights,
        traces=list(found.traces),
        seconds=seconds,
        trust=found.trust,
        diagnosis=found.diagnosis,
        contrast=found.contrast,
        notes=list(found.notes),
        warnings=warnings,
        stopped="time" if timed_out else "done",
    )


def _solve(
    fixed: Image, moving: Image, recipe: RegisterRecipe, priors: Priors, watch: Watch
) -> StageResult:
    """Solve from the images as they are, or after a first map has carried the moving one."""
    start = priors.initial
    if not isinstance(start, Warp):
        return _solve_from_images(fixed, moving, recipe, priors, watch)
    moved, priors = carried(start, fixed, moving, priors)
    check_pair(fixed, moved, priors.masks, "none")
    found = _solve_from_images(fixed, moved, recipe, priors, watch)
    notes = ("Started from a whole map: what was found comes before it.", *found.notes)
    warnings = found.warnings
    if torch.equal(start.affine, torch.eye(4).to(start.affine)):
        warnings += (
            "The map to start from has no affine part. If there is one, give both together: "
            "composite.h5, or the folder of the result.",
        )
    warp = Warp(fixed.space, found.affine, found.displacement).then(start)
    u = warp.displacement
    if found.displacement is not None and recipe.foldless:
        u = _after(start, found.displacement, fixed.space)
    return replace(found, affine=warp.affine, displacement=u, notes=notes, warnings=warnings)


def _after(start: Warp, u: Tensor, space: Space) -> Tensor:
    """The displacement of x -> start(x + u(x)) before start's affine, mm, softened where it folds.

    Two maps without folds may have some together, in single voxels. To smooth the whole map there
    cost .2 of a correlation of .84; so u alone gives way, as a step does.
    """
    first = Warp(space, torch.eye(4).to(start.affine)).then(start).displacement
    assert first is not None
    first, step = (space.vectors_to_voxel(v) for v in (first, u))
    return space.vectors_to_world(Compositional().retract(unfolded(first), step, space))


def _solve_from_images(
    fixed: Image, moving: Image, recipe: RegisterRecipe, priors: Priors, watch: Watch
) -> StageResult:
    device, clock = choose_device(recipe.device), time.monotonic()
    # first: weights may be missing or damaged
    method = resolve_method(recipe, priors, fixed.space, device)
    one, other, ranges = _prepared(fixed, moving, priors.masks, device)
    linear = (both_ways if recipe.symmetric else linear_stage)(one, other, recipe, priors, watch)
    seconds = {"linear": time.monotonic() - clock, "features": 0.0, "solve": 0.0}
    pair = aligned(one, other, linear.affine, fixed.space, symmetric=recipe.symmetric)
    found = method.run(pair, watch)
    return replace(
        found,
        metrics=found.metrics or recipe.metric,
        traces=linear.traces + found.traces,
        seconds=seconds | dict(found.seconds),
        notes=(*method.notes, ranges, *linear.notes, *found.notes),
    )


def _prepared(
    fixed: Image, moving: Image, masks: Masks, device: torch.device
) -> tuple[Prepared, Prepared, str]:
    """Both images, once it is known that they show something, and their ranges in words."""
    ranges = [robust_range(i.data, m) for i, m in ((fixed, masks.fixed), (moving, masks.moving))]
    check_ranges(ranges[0], ranges[1], masks)
    (f0, f1), (m0, m1) = ranges
    note = f"Intensities that count: {f0:.4g} to {f1:.4g} (fixed), {m0:.4g} to {m1:.4g} (moving)."
    one = prepare(fixed, masks.fixed, device, ranges[0])
    return one, prepare(moving, masks.moving, device, ranges[1]), note


def interpolation_of(image: Image, asked: str) -> Interpolation:
    """The interpolation of an image; "auto" is label-aware for codes and linear for intensities."""
    if asked in ("linear", "nearest", "label", "cubic"):
        return asked
    return "label" if image.labels else "linear"
