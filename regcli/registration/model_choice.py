"""Which model registers a pair: what was asked for, or learned features where they suit it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from regcli.errors import InputError, RecipeError, WeightsError
from regcli.image import Space
from regcli.io import weights as files
from regcli.recipe import RegisterRecipe
from regcli.registration.equilibrium import model as step_model
from regcli.registration.equilibrium.fixed_steps import FixedSteps
from regcli.registration.equilibrium.proximal import NOTHING, Proximal
from regcli.registration.equilibrium.solve import EquilibriumRegistration
from regcli.registration.equilibrium.states import Composed, State, Velocity
from regcli.registration.features import model as feature_model
from regcli.registration.features.extract import Described, describe_pair
from regcli.registration.features.model import Learned
from regcli.registration.features.trust import Trust
from regcli.registration.pyramid import Prepared
from regcli.registry import FIXED_POINTS, LINEAR, STATES, build
from regcli.solve.fixedpoint import FixedPointSolver

_OF_EQUILIBRIA = (
    *("solver", "tol", "diagnose", "regularizer", "smoothness", "restrict"),
    *("use_points", "use_labels"),
)
_OF_FIXED_STEPS = ("diffeo", "freeform")  # whether folds are smoothed away is all that they decide


def settled(recipe: RegisterRecipe) -> RegisterRecipe:
    """The recipe with the model that its weights are of, where it leaves that open.

    Raises:
        WeightsError: If the weights cannot be used.
        RecipeError: If it asks for what that model does not know, or for what keeps "auto" from
            using weights of features.
    """
    if recipe.model != "auto" or not recipe.weights:
        return recipe
    if step_model.are_steps(recipe.weights):
        return replace(recipe, model="deq")
    linear = recipe.transform in LINEAR
    if linear or recipe.metric != ("auto",):
        by = f"--transform {recipe.transform}" if linear else f"--metric {recipe.metric[0]}"
        raise RecipeError(
            f"--weights has no effect with {by}: --model auto then compares intensities alone.",
            "Leave --weights out, or give --model dio.",
        )
    return recipe


def candidates(recipe: RegisterRecipe, space: Space, notes: list[str]) -> tuple[Learned, ...]:
    """Networks whose features may serve, the preferred first; none for a classical registration.

    Args:
        recipe: Model, weights, metric and transform.
        space: Of the fixed image.
        notes: Takes the reason, where nobody asked for the classical model.

    Raises:
        WeightsError: If the weights cannot be used.
        InputError: If learned features were asked for and the images are not 3-D.
    """
    if recipe.model == "classical":
        return ()
    against = _against(recipe, space)
    if not against:
        usual = [name for name in files.DEFAULTS if files.is_shipped(name)] or [files.DEFAULT]
        return tuple(
            feature_model.load(spec) for spec in ([recipe.weights] if recipe.weights else usual)
        )
    if recipe.model == "dio":
        raise InputError(f"--model dio: {against}.", "Use --model classical.")
    if recipe.weights:
        files.find(recipe.weights)  # a name that is misspelt should not go unseen
    notes.append(f"Model classical: {against}.")
    return ()


@dataclass(frozen=True, eq=False)
class Seen:
    """Features of a pair, and the network that extracted them.

    Attributes:
        network: The chosen one; None if the images suit none.
        pair: Its features of both images, fixed first, without muted types; None likewise.
        trust: How far the images suit it, or the last one tried; None if that gave NaN.
    """

    network: Learned | None = None
    pair: tuple[Described, Described] | None = None
    trust: Trust | None = None


def features(
    networks: Sequence[Learned],
    recipe: RegisterRecipe,
    fixed: Prepared,
    moving: Prepared,
    affine: Tensor,
    notes: list[str],
) -> Seen:
    """Extract features by the first network that suits both images; with --model dio by any.

    Args:
        networks: The candidates, at least one.
        recipe: Its model; "dio" takes the last network where none suits.
        fixed: Image, cropped to what is registered.
        moving: Image.
        affine: (4, 4) fixed world to moving world.
        notes: Takes the decision.

    Raises:
        WeightsError: If --model dio was asked for, and the network gives NaN.
    """
    against, trust = [], None
    for network in networks:
        insisted = recipe.model == "dio" and network is networks[-1]
        network.net.to(fixed.data.device)
        try:
            pair = describe_pair(network, fixed, moving, affine)
        except WeightsError as error:
            says = f"the weights {network.name} say something that is no number of these images"
            if insisted:
                raise WeightsError(f"--model dio: {says}.", "Use --model classical.") from error
            against.append(says)
            trust = None
            continue
        shares = [described.suits(network.usual) for described in pair]
        says = f"{shares[0]:.0%} and {shares[1]:.0%} of the structures have a usual volume"
        if insisted or min(shares) == 1:
            before = f" ({'; '.join(against)})" if against else ""
            notes.append(
                f"Model dio, weights {network.name}: in the fixed and the moving image {says}"
                f"{before}."
            )
            one, other = (described.without(network.muted) for described in pair)
            return Seen(network, (one, other), Trust(True, *shares))
        against.append(
            f"the images do not suit the weights {network.name}: in the fixed and the moving one "
            f"{says}; all must have"
        )
        trust = Trust(False, *shares)
    notes.append(f"Model classical: {'; '.join(against)}.")
    return Seen(trust=trust)


def steps(
    recipe: RegisterRecipe, space: Space, asked: Proximal = NOTHING
) -> EquilibriumRegistration | FixedSteps:
    """The registration that `--model deq` means.

    Args:
        recipe: Weights, transform, solver, limits.
        space: Of the fixed image.
        asked: What the steps shall heed.

    Raises:
        WeightsError: If the weights cannot be used.
        InputError: If the images are not 3-D.
        RecipeError: If weights, solver and transform do not suit each other.
    """
    state, solver = state_and_solver(recipe)
    if asked.prompts is not None and isinstance(state, Velocity) and state.symmetric:
        raise RecipeError(
            f"--model deq with --transform {recipe.transform} heeds no points or labels.",
            "Leave them out, or use --transform diffeo.",
        )
    if asked.prompts is not None and isinstance(state, Velocity) and recipe.family == "diffeo":
        # What prompts pull at moves far, and a velocity grows without end where its flow has left
        # the place; but sums of states, which other solvers need, are velocities.
        state = state if solver.vector else Composed(state.squarings, state.sigma)
    if not all(space.solid):
        raise InputError("--model deq: the weights are for 3-D images.", "Use --model classical.")
    network = step_model.load(recipe.weights or files.DEFAULT_STEPS)
    limit = recipe.iterations[0] if recipe.iterations else 0
    if network.kind == "deq":
        if network.sigma == 0 and asked.smoothness not in (0, 1):
            raise RecipeError(
                f"The weights {network.name} do not smooth: --smoothness has nothing to scale.",
                "Name another --regularizer, such as bending, to bring some in.",
            )
        return EquilibriumRegistration(
            network, state, solver, asked, limit, recipe.tol, recipe.seed
        )
    for option in _OF_EQUILIBRIA:
        if getattr(recipe, option) != getattr(RegisterRecipe, option):
            raise RecipeError(
                f"--{option.replace('_', '-')} has no effect with the weights {network.name}: they "
                f"are made for {network.steps} steps ({network.kind}).",
                "Leave it out, or give weights of --model deq.",
            )
    if asked.prompts is not None or asked.force.rigidity is not None:
        option = "--smoothness-map" if asked.prompts is None else "Prompts"
        raise RecipeError(
            f"{option} cannot act on the weights {network.name}: they are made for "
            f"{network.steps} steps ({network.kind}).",
            "Leave it out, or give weights of --model deq.",
        )
    if recipe.transform not in _OF_FIXED_STEPS:
        raise RecipeError(
            f"--transform {recipe.transform} has no effect with the weights {network.name}: they "
            f"are made for {network.steps} steps ({network.kind}) of a displacement.",
            "Use diffeo, freeform, or weights of --model deq.",
        )
    return FixedSteps(network, state.folds, limit)


def state_and_solver(recipe: RegisterRecipe) -> tuple[State, FixedPointSolver]:
    """What `--model deq` iterates on, and how.

    Raises:
        RecipeError: If they do not exist or do not suit each other.
    """
    state: State = build(STATES, recipe.transform)
    solver: FixedPointSolver = build(FIXED_POINTS, recipe.solver)
    if solver.vector and not state.vector:
        raise RecipeError(
            f"--solver {recipe.solver} adds states, which --transform {recipe.transform} forbids.",
            "Use --solver picard, or --transform diffeo.",
        )
    return state, solver


def _against(recipe: RegisterRecipe, space: Space) -> str:
    """Why learned features are out of the question, whatever the images show; empty if not."""
    if not all(space.solid):
        return "the weights are for 3-D images"
    if recipe.model == "dio":
        return ""
    if recipe.transform in LINEAR:
        return "linear transforms compare intensities"
    if recipe.metric != ("auto",):
        return "a metric was asked for"
    if not recipe.weights and not any(files.is_shipped(name) for name in files.DEFAULTS):
        return "this version comes with no weights"
    return ""
