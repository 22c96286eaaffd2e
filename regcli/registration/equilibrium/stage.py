"""follow: a network's steps, and what is asked of them, to the map that they lead to."""

import torch
from torch import Tensor

from regcli.energy.regularizers import Diffusion
from regcli.image import Space
from regcli.recipe import RegisterRecipe
from regcli.registration.contrast import measure
from regcli.registration.equilibrium.fixed_steps import FixedSteps
from regcli.registration.equilibrium.model import Iterative
from regcli.registration.equilibrium.proximal import Proximal
from regcli.registration.equilibrium.solve import EquilibriumRegistration
from regcli.registration.force import GaussNewtonForce
from regcli.registration.levels import Trace, Watch
from regcli.registration.priors import Given
from regcli.registration.pyramid import Prepared
from regcli.registration.stages import CROSS, SAME, Found, free_axes
from regcli.registry import REGULARIZERS, build


def asked(
    recipe: RegisterRecipe, given: Given, space: Space, device: torch.device | str = "cpu"
) -> Proximal:
    """What a recipe, and what is given, ask of learned steps.

    Networks smooth a little at every step, as diffusion would: its weight, relative to the usual
    one, is taken for a factor of that. All others, and whatever varies in space, take its place.

    Args:
        recipe: Regularizers, their strength, and free axes.
        given: Prompts, and a factor of the regularization.
        space: Of the fixed image.
        device: Where to compute.

    Raises:
        InputError: If no axis is left to deform along.
    """
    regularizers = [build(REGULARIZERS, spec) for spec in recipe.regularizers]
    rigidity = given.rigidity_on(space, device)
    own = [r for r in regularizers if isinstance(r, Diffusion) and rigidity is None]
    others = tuple(r for r in regularizers if r not in own)
    axes = free_axes(recipe, space)
    force = GaussNewtonForce((), others, 1.0, recipe.smoothness, rigidity, axes)
    factor = recipe.smoothness * sum(r.weight for r in own) / Diffusion().weight
    return Proximal(force, factor, given.prompts)


def follow(
    registration: EquilibriumRegistration | FixedSteps,
    fixed: Prepared,
    moving: Prepared,
    affine: Tensor,
    recipe: RegisterRecipe,
    watch: Watch,
    notes: list[str],
    found: Found,
) -> tuple[Tensor, Space]:
    """Follow a network's steps from an affine, and put what is to be known of it into `found`.

    Returns:
        As `EquilibriumRegistration.run`.
    """
    network = registration.network
    network.net.to(fixed.data.device)
    y, space, traces = registration.run(fixed, moving, affine, watch)
    found.traces += traces
    contrast = measure(fixed, moving, affine)
    if not contrast.same:
        found.warnings.append(
            f"A mean local correlation of {contrast.correlation:.2f} inside the images means "
            "different contrasts, which networks of steps do not know. Consider --model dio."
        )
    found.metrics, found.contrast = SAME if contrast.same else CROSS, contrast
    found.weights = (network.name, network.sha256)
    notes.append(f"Model deq, weights {network.name}: {_steps_in_words(network, traces)}.")
    cut = traces[-1].solution.stopped == "time"
    if recipe.diagnose and isinstance(registration, EquilibriumRegistration):
        if cut:
            found.warnings.append("No diagnosis: the time limit ended the steps.")
        else:
            found.diagnosis = registration.diagnose(fixed, moving, affine, y, watch)
    if traces[-1].solution.stopped == "diverged":
        found.warnings.append("The steps diverged; the map is the best that was met before.")
    return y, space


def _steps_in_words(network: Iterative, traces: list[Trace]) -> str:
    """What a network of steps did on the last level that it came to."""
    last, level = traces[-1].solution, traces[-1].level
    if network.kind != "deq":
        return f"{last.steps} steps a level of a network made for {network.steps} ({network.kind})"
    ends = {
        "converged": "an equilibrium",
        "plateau": "close to an equilibrium, nearer than which it does not come",
        "diverged": "as near to an equilibrium as it came before diverging",
        "steps": "no equilibrium within the limit",
        "time": "no equilibrium within the time limit",
    }
    return (
        f"{ends[last.stopped]} after {last.steps} steps on level {level + 1} of {network.levels}, "
        f"where a further step is {last.energy:.3f} voxels of "
        f"{network.spacing_mm * 2 ** (network.levels - 1 - level):g} mm"
    )
