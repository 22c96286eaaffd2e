"""register: two images and a recipe in, one Warp out; the stages in the order they happen."""

import time
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from regcli.choice import candidate, features
from regcli.energy.base import Similarity
from regcli.energy.information import MI
from regcli.errors import InputError
from regcli.image import Image, Space, rearrange
from regcli.io.nifti import read_image
from regcli.machine import choose_device, settings
from regcli.models.contrast import SAME_CONTRAST, local_correlation
from regcli.models.linear import align, start
from regcli.models.prepare import prepare, robust_range
from regcli.models.presets import deformable, refinement
from regcli.models.pyramid import Prepared
from regcli.models.registration import Trace, Watch, region
from regcli.ops.memory import release
from regcli.recipe import RegisterRecipe
from regcli.registry import LINEAR, SIMILARITIES, build
from regcli.warp import Interpolation, Warp

# What --metric auto stands for. When it was chosen, on four T1 pairs of the benchmark at 2 mm, lncc
# with mind scored 0.742 Dice and lncc alone 0.736; on two T1-T2 pairs mind scored 0.684, and mi at
# the best of four weights about 0.62. MI and the defaults of lncc have changed since.
SAME = ("lncc", "mind:weight=0.3")
CROSS = ("mind",)


@dataclass(frozen=True, eq=False)
class Masks:
    """What counts in the loss, (1, I, J, K) in [0, 1] on each image's grid; None for everything."""

    fixed: Tensor | None = None
    moving: Tensor | None = None


@dataclass(frozen=True, eq=False)
class Result:
    """What a registration found.

    Attributes:
        warp: Fixed world to moving world, on the fixed grid.
        inverse: Moving world to fixed world.
        inverse_error: (I, J, K) mm, of the inverse at every voxel of the fixed grid.
        moved: The moving image on the fixed grid.
        linear: (4, 4), the affine at the end of the linear stage.
        metrics: Specs of what was compared in the last stage, learned features not counted.
        weights: Name and SHA-256 of the weights whose features were compared too, or None.
        traces: What happened on each level.
        seconds: Per part.
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
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    stopped: str = "done"


def register(
    fixed: Image | str | Path,
    moving: Image | str | Path,
    recipe: RegisterRecipe | None = None,
    *,
    masks: Masks | None = None,
    initial: Tensor | None = None,
    watch: Watch | None = None,
) -> Result:
    """Find the map that carries the moving image onto the fixed one.

    Args:
        fixed: An image or its path; one channel, any grid.
        moving: Likewise.
        recipe: What to do; default as `regcli register` without options.
        masks: What counts in the loss.
        initial: (4, 4) fixed world to moving world to start from, where recipe.init is a file.
        watch: Progress and time limit.

    Raises:
        InputError: If the images share no space with --init none, or a mask leaves nothing.
    """
    fixed, moving = (
        image if isinstance(image, Image) else read_image(image).image for image in (fixed, moving)
    )
    recipe = recipe or RegisterRecipe()
    with settings(recipe):
        watch = watch or Watch(lambda stage, share: None)
        return _register(fixed, moving, recipe, masks or Masks(), initial, watch)


def _register(
    fixed: Image,
    moving: Image,
    recipe: RegisterRecipe,
    masks: Masks,
    initial: Tensor | None,
    watch: Watch,
) -> Result:
    _check(fixed, moving, masks, recipe)
    notes: list[str] = []
    found = _solve(fixed, moving, recipe, masks, initial, watch, notes)
    clock = time.monotonic()
    warp = Warp(fixed.space, found.affine, found.displacement)
    inverse, error = warp.inverse()
    moved = warp.apply(moving, fixed.space, interpolation_of(moving, recipe.interpolation))
    found.seconds["apply"] = time.monotonic() - clock
    release()
    timed_out = any(t.solution.stopped == "time" for t in found.traces)
    return Result(
        warp=warp,
        inverse=inverse,
        inverse_error=error,
        moved=moved,
        linear=found.affine,
        metrics=found.metrics,
        weights=found.weights,
        traces=found.traces,
        seconds=found.seconds,
        notes=notes,
        warnings=["The time limit stopped the registration early."] if timed_out else [],
        stopped="time" if timed_out else "done",
    )


@dataclass(eq=False)
class _Found:
    """The map so far; displacement in RAS mm on the fixed image's grid, None while it is linear."""

    affine: Tensor
    metrics: tuple[str, ...]
    traces: list[Trace]
    seconds: dict[str, float]
    displacement: Tensor | None = None
    weights: tuple[str, str] | None = None


def _solve(
    fixed: Image,
    moving: Image,
    recipe: RegisterRecipe,
    masks: Masks,
    initial: Tensor | None,
    watch: Watch,
    notes: list[str],
) -> _Found:
    network = candidate(recipe, fixed.space, notes)  # first: weights may be missing or damaged
    device, clock = choose_device(recipe.device), time.monotonic()
    ranges = [robust_range(i.data, m) for i, m in ((fixed, masks.fixed), (moving, masks.moving))]
    _check_ranges(ranges[0], ranges[1], masks)
    fixed_ready = prepare(fixed, masks.fixed, device, ranges[0])
    moving_ready = prepare(moving, masks.moving, device, ranges[1])
    (f0, f1), (m0, m1) = ranges
    notes.append(
        f"Intensities that count: {f0:.4g} to {f1:.4g} (fixed), {m0:.4g} to {m1:.4g} (moving)."
    )
    family = recipe.transform if recipe.transform in LINEAR else "affine"
    affine, traces = _linear(fixed_ready, moving_ready, recipe, family, initial, watch, notes)
    seconds = {"linear": time.monotonic() - clock, "features": 0.0, "solve": 0.0}
    found = _Found(affine, recipe.metric, traces, seconds)
    if recipe.transform in LINEAR and network is None:
        return found
    clock = time.monotonic()
    box = region(fixed_ready, moving_ready, affine)
    inner = fixed_ready.cropped(box)
    pair = None
    if network is not None:
        pair = features(network, recipe, inner, moving_ready, affine, notes)
        found.weights = None if pair is None else (network.name, network.sha256)
        seconds["features"] = time.monotonic() - clock
        clock = time.monotonic()
    if recipe.transform in LINEAR:
        assert network is not None
        registration = refinement(family, network)
        y, _, more = registration.run(inner, moving_ready, affine, watch, pair)
        found.affine = affine @ y
    else:
        found.metrics, similarities = _metrics(fixed_ready, moving_ready, recipe, affine, notes)
        smoothness = 1.0 if network is None or pair is None else network.smoothness
        registration = deformable(recipe, similarities, fixed_ready, smoothness)
        y, space, more = registration.run(inner, moving_ready, affine, watch, pair)
        y = registration.transform.resize(y, space, inner.space)
        y = registration.transform.extend(y, box)
        found.displacement = _on_grid(y, fixed_ready.space, fixed.space)
    found.traces += more
    seconds["solve"] = time.monotonic() - clock
    return found


def interpolation_of(image: Image, asked: str) -> Interpolation:
    """What "auto" means for an image: label-aware for codes, linear for amounts."""
    if asked in ("linear", "nearest", "label", "cubic"):
        return asked
    return "label" if image.labels else "linear"


def _linear(
    fixed: Prepared,
    moving: Prepared,
    recipe: RegisterRecipe,
    family: str,
    initial: Tensor | None,
    watch: Watch,
    notes: list[str],
) -> tuple[Tensor, list[Trace]]:
    if recipe.init == "none":
        notes.append("No linear stage: the images count as aligned in world space.")
        return torch.eye(4, dtype=torch.float64), []
    similarity = MI(weight=1.0)
    if recipe.transform in LINEAR and recipe.metric != ("auto",):
        similarity = build(SIMILARITIES, recipe.metric[0])
    if initial is None:
        best = start(fixed, moving, MI(weight=1.0), recipe.init, watch)
        notes.append(f"The linear stage started from: {best.name}.")
        initial = best.matrix
    return align(fixed, moving, similarity, family, initial, watch)


def _metrics(
    fixed: Prepared, moving: Prepared, recipe: RegisterRecipe, affine: Tensor, notes: list[str]
) -> tuple[tuple[str, ...], tuple[Similarity, ...]]:
    specs = recipe.metric
    if specs == ("auto",):
        rho = local_correlation(fixed, moving, affine)
        specs = SAME if rho > SAME_CONTRAST else CROSS
        kind = "the same contrast" if specs == SAME else "different contrasts"
        notes.append(
            f"Metric {' + '.join(specs)}: mean local correlation {rho:.2f} after the linear stage "
            f"means {kind} (limit {SAME_CONTRAST:g})."
        )
    return specs, tuple(build(SIMILARITIES, spec) for spec in specs)


def _on_grid(y: Tensor, canonical: Space, space: Space) -> Tensor:
    """Voxel displacements on the canonical grid as mm on the image's own: (1, 3, I, J, K)."""
    return rearrange(canonical.vectors_to_world(y.cpu()), canonical, space)


def _check(fixed: Image, moving: Image, masks: Masks, recipe: RegisterRecipe) -> None:
    for name, image, mask in (("fixed", fixed, masks.fixed), ("moving", moving, masks.moving)):
        if mask is not None and tuple(mask.shape[1:]) != image.space.shape:
            raise InputError(
                f"The {name} mask has {mask.shape[1:]} voxels, the image {image.space.shape}.",
                f"Give a mask on the grid of the {name} image.",
            )
        if mask is not None and not bool((mask > 0).any()):
            raise InputError(f"The {name} mask is empty.", "Give a mask with voxels above 0.")
    if fixed.space.solid != moving.space.solid:
        raise InputError(
            f"The fixed image is {_dimension(fixed)}, the moving one {_dimension(moving)}.",
            "Register images of the same dimension, sliced along the same axis.",
        )
    if recipe.init in ("none", "header"):
        corners = Warp(fixed.space, torch.eye(4, dtype=torch.float64))
        seen = corners.apply(_ones_like(moving), fixed.space, "nearest").data
        if not bool(seen.any()):
            raise InputError(
                f"The images do not overlap in world space, and --init {recipe.init} starts there.",
                "Use --init auto.",
            )


def _check_ranges(fixed: tuple[float, float], moving: tuple[float, float], masks: Masks) -> None:
    for name, (low, high), mask in (
        ("fixed", fixed, masks.fixed),
        ("moving", moving, masks.moving),
    ):
        if low == high:
            where = "" if mask is None else " inside its mask"
            raise InputError(
                f"The {name} image is constant{where}: every voxel is {low:g}.",
                "Give an image that shows something." if mask is None else "Give a larger mask.",
            )


def _ones_like(image: Image) -> Image:
    return Image(torch.ones_like(image.data, dtype=torch.uint8), image.space)


def _dimension(image: Image) -> str:
    return f"{sum(image.space.solid)}-D {'x'.join(map(str, image.space.shape))}"
