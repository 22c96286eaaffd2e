"""--model deq: a network's steps, and what is asked of them, to the map that they lead to."""

import time
from dataclasses import dataclass

import torch

from regcli.compatibility import BY_FIXED_STEPS, Rule
from regcli.energy.regularizers import Diffusion
from regcli.errors import InputError, RecipeError
from regcli.image import Space
from regcli.io import weights as files
from regcli.recipe import RegisterRecipe
from regcli.registration.aligned import AlignedPair
from regcli.registration.contrast import measure
from regcli.registration.equilibrium.fixed_steps import FixedSteps
from regcli.registration.equilibrium.model import StepModel, load
from regcli.registration.equilibrium.proximal import NOTHING, Proximal
from regcli.registration.equilibrium.solve import EquilibriumRegistration
from regcli.registration.force import GaussNewtonForce
from regcli.registration.levels import Trace, Watch
from regcli.registration.method import Method, StageResult
from regcli.registration.priors import Priors
from regcli.registration.stages import CROSS, SAME, free_axes
from regcli.registry import FIXED_POINTS, REGULARIZERS, TRANSFORMS, build
from regcli.solve.fixedpoint import FixedPointSolver
from regcli.transforms.base import Deformable
from regcli.transforms.dense import Compositional
from regcli.transforms.grids import resample_field
from regcli.transforms.svf import Stationary

_OF_FIXED_STEPS = ("diffeo", "freeform")  # whether folds are smoothed away is all that they decide


def equilibrium_method(
    recipe: RegisterRecipe, priors: Priors, space: Space, device: torch.device
) -> Method:
    """The method of --model deq; see Method.

    Raises:
        WeightsError: If the weights cannot be used.
        InputError: If the images are not 3-D, or no axis is left to deform along.
        RecipeError: If weights, solver and transform do not suit each other.
    """
    return LearnedSteps(steps(recipe, space, asked(recipe, priors, space, device)), recipe.diagnose)


@dataclass(frozen=True, eq=False)
class LearnedSteps(Method):
    """The map that a network's steps lead to.

    Attributes:
        registration: The network, its transform and its solver.
        diagnose: Whether to diagnose the equilibrium.
        notes: See Method.
    """

    registration: EquilibriumRegistration | FixedSteps
    diagnose: bool
    notes: tuple[str, ...] = ()

    def run(self, pair: AlignedPair, watch: Watch) -> StageResult:
        """See Method."""
        clock, network, warnings = time.monotonic(), self.registration.network, []
        images = pair.inner, pair.moving, pair.affine
        network.net.to(pair.inner.data.device)
        y, space, traces = self.registration.run(*images, watch)
        contrast, last = measure(*images), traces[-1].solution
        if not contrast.same:
            warnings.append(
                f"A mean local correlation of {contrast.correlation:.2f} inside the images means "
                "different contrasts, which networks of steps do not know. Consider --model dio."
            )
        diagnosis = None
        if self.diagnose and isinstance(self.registration, EquilibriumRegistration):
            if last.stopped == "time":
                warnings.append("No diagnosis: the time limit ended the steps.")
            else:
                diagnosis = self.registration.diagnose(*images, y, watch)
        if last.stopped == "diverged":
            warnings.append("The steps diverged; the map is the best that was met before.")
        if pair.middle is None:
            y = self.registration.extended(y, space, pair.box)
        else:
            y = resample_field(y, space, pair.middle.space)
        displacement = pair.displacement(y)
        return StageResult(
            affine=pair.fixed_to_moving,
            displacement=displacement,
            metrics=SAME if contrast.same else CROSS,
            weights=(network.name, network.sha256),
            traces=tuple(traces),
            seconds={"features": 0.0, "solve": time.monotonic() - clock},
            diagnosis=diagnosis,
            contrast=contrast,
            notes=(f"Model deq, weights {network.name}: {_steps_in_words(network, traces)}.",),
            warnings=tuple(warnings),
        )


def asked(
    recipe: RegisterRecipe, priors: Priors, space: Space, device: torch.device | str = "cpu"
) -> Proximal:
    """Prompts, regularizers and free axes, as a proximal step after each learned one.

    Networks smooth a little at every step, as diffusion would: its weight, relative to the usual
    one, is taken for a factor of that. All others, and whatever varies in space, take its place.

    Args:
        recipe: Regularizers, their strength, and free axes.
        priors: Prompts, and a factor of the regularization.
        space: Grid of the fixed image.
        device: Where to compute.

    Raises:
        InputError: If no axis is left to deform along.
    """
    regularizers = [build(REGULARIZERS, spec) for spec in recipe.regularizers]
    rigidity = priors.rigidity_on(space, device)
    own = [r for r in regularizers if isinstance(r, Diffusion) and rigidity is None]
    others = tuple(r for r in regularizers if r not in own)
    axes = free_axes(recipe, space)
    force = GaussNewtonForce((), others, 1.0, recipe.smoothness, rigidity, axes)
    factor = recipe.smoothness * sum(r.weight for r in own) / Diffusion().weight
    return Proximal(force, factor, priors.prompts)


def steps(
    recipe: RegisterRecipe, space: Space, asked: Proximal = NOTHING
) -> EquilibriumRegistration | FixedSteps:
    """The registration that `--model deq` means.

    Args:
        recipe: Weights, transform, solver, limits.
        space: Grid of the fixed image.
        asked: Prompts and regularizers that the steps heed.

    Raises:
        WeightsError: If the weights cannot be used.
        InputError: If the images are not 3-D.
        RecipeError: If weights, solver and transform do not suit each other.
    """
    transform, solver = transform_and_solver(recipe)
    if not all(space.solid):
        raise InputError("--model deq: the weights are for 3-D images.", "Use --model classical.")
    network = load(recipe.weights or files.DEFAULT_STEPS)
    limit = recipe.iterations[0] if recipe.iterations else 0
    if network.kind == "deq":
        if network.sigma == 0 and asked.smoothness not in (0, 1):
            raise RecipeError(
                f"The weights {network.name} do not smooth: --smoothness has nothing to scale.",
                "Name another --regularizer, such as bending, to bring some in.",
            )
        return EquilibriumRegistration(
            network, transform, solver, asked, limit, recipe.tol, recipe.seed, recipe.symmetric
        )
    made = f"they are made for {network.steps} steps ({network.kind})"
    given = {"use_points": asked.prompts, "smoothness_map": asked.force.rigidity}
    rule = Rule(
        BY_FIXED_STEPS,
        f"the weights {network.name}: {made}",
        "Leave it out, or give weights of --model deq.",
    )
    recipe.refuse(rule, [option for option, value in given.items() if value is not None])
    if recipe.transform not in _OF_FIXED_STEPS:
        raise RecipeError(
            f"--transform {recipe.transform} has no effect with the weights {network.name}: {made} "
            "of a displacement.",
            "Use diffeo, freeform, or weights of --model deq.",
        )
    return FixedSteps(network, transform.folds, limit)


def transform_and_solver(recipe: RegisterRecipe) -> tuple[Deformable, FixedPointSolver]:
    """The family of maps and the solver of its fixed point.

    Where sums of parameters are needed, diffeo's maps are exponentials of velocities.

    Raises:
        RecipeError: If they do not exist or do not suit each other.
    """
    transform: Deformable = build(TRANSFORMS, recipe.transform)
    solver: FixedPointSolver = build(FIXED_POINTS, recipe.solver)
    if isinstance(transform, Compositional) and (solver.vector or recipe.symmetric):
        transform = Stationary(sigma=transform.sigma)
    return transform, solver


def _steps_in_words(network: StepModel, traces: list[Trace]) -> str:
    """How the iteration ended on the last level that it reached."""
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
