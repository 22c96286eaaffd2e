"""Which model registers a pair: what was asked for, or learned features where they suit it."""

from dataclasses import dataclass

from torch import Tensor

from regcli.errors import InputError
from regcli.io import weights as files
from regcli.models.features import Described, describe_pair
from regcli.models.pyramid import Prepared
from regcli.models.weights import Learned, assemble
from regcli.recipe import RegisterRecipe

# Share of structures with a plausible volume, in both images: see the card of the weights for
# what it was on brains of many contrasts and on images that are none.
_SUITS = 0.85


@dataclass(frozen=True, eq=False)
class Features:
    """A network and what it says of a pair.

    Attributes:
        learned: The network.
        pair: Of the fixed image, and of the moving one carried by the affine.
    """

    learned: Learned
    pair: tuple[Described, Described]


def features(
    recipe: RegisterRecipe, fixed: Prepared, moving: Prepared, affine: Tensor, notes: list[str]
) -> Features | None:
    """Learned features of a pair, or None for a classical registration; says why in a note.

    Args:
        recipe: Model, weights, metric and transform.
        fixed: Image, cropped to what is registered.
        moving: Image.
        affine: (4, 4) fixed world to moving world.
        notes: Takes the decision.

    Raises:
        WeightsError: If the weights cannot be used.
        InputError: If learned features were asked for and the images are not 3-D.
    """
    against = _against(recipe, fixed)
    if against:
        if recipe.model == "dio":
            raise InputError(f"--model dio: {against}.", "Use --model classical.")
        notes.append(f"Model classical: {against}.")
        return None
    if recipe.model == "classical":
        return None
    learned = load(recipe.weights or files.DEFAULT)
    learned.net.to(fixed.data.device)
    found = Features(learned, describe_pair(learned, fixed, moving, affine))
    shares = [learned.usual.share(described.volumes()) for described in found.pair]
    says = f"{shares[0]:.0%} and {shares[1]:.0%} of the structures have a usual volume"
    if recipe.model == "auto" and min(shares) < _SUITS:
        notes.append(
            f"Model classical: the images do not suit the weights {learned.name}: in the fixed and "
            f"the moving one {says} (limit {_SUITS:.0%})."
        )
        return None
    notes.append(f"Model dio, weights {learned.name}: in the fixed and the moving image {says}.")
    return found


def check_weights(recipe: RegisterRecipe) -> None:
    """Load the weights that a recipe may need, so that bad ones are found before any computing.

    Raises:
        WeightsError: If they cannot be used.
    """
    asked = recipe.model == "dio" or bool(recipe.weights)
    if asked or (recipe.model == "auto" and files.is_shipped(files.DEFAULT)):
        load(recipe.weights or files.DEFAULT)


def load(spec: str) -> Learned:
    """The network that `--weights` means.

    Raises:
        WeightsError: If the file is missing, damaged, or holds another kind of weights.
    """
    file = files.find(spec)
    return assemble(file.name, file.sha256, files.facts(file.path), files.tensors(file.path))


def _against(recipe: RegisterRecipe, fixed: Prepared) -> str:
    """Why learned features are out of the question, whatever the images show; empty if not."""
    if recipe.model == "classical":
        return ""
    if not all(fixed.space.solid):
        return "the weights are for 3-D images"
    if recipe.model == "dio":
        return ""
    if recipe.metric != ("auto",):
        return "a metric was asked for"
    if not recipe.weights and not files.is_shipped(files.DEFAULT):
        return "this version comes with no weights"
    return ""
