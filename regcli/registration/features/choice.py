"""Choosing a feature network for a pair: the first one that both images suit."""

from collections.abc import Sequence
from dataclasses import dataclass

from regcli.errors import InputError, WeightsError
from regcli.image import Space
from regcli.io import weights as files
from regcli.recipe import RegisterRecipe
from regcli.registration.aligned import AlignedPair
from regcli.registration.features.extract import FeaturePyramid, extract_pair
from regcli.registration.features.model import FeatureModel, load
from regcli.registration.features.trust import Trust


@dataclass(frozen=True, eq=False)
class Candidates:
    """Networks whose features may serve.

    Attributes:
        networks: The preferred one first; none for a classical registration.
        insisted: Whether the last one is taken even if the images do not suit it.
        notes: Why there are none, where nobody asked for that.
    """

    networks: tuple[FeatureModel, ...]
    insisted: bool = False
    notes: tuple[str, ...] = ()


def candidates(recipe: RegisterRecipe, space: Space) -> Candidates:
    """Networks whose features may serve a recipe.

    Args:
        recipe: Model, weights, metric and transform.
        space: Of the fixed image.

    Raises:
        WeightsError: If the weights cannot be used.
        InputError: If learned features were asked for and the images are not 3-D.
    """
    insisted = recipe.model == "dio"
    if recipe.model == "classical":
        return Candidates(())
    against = _against(recipe, space, insisted=insisted)
    if not against:
        usual = [name for name in files.DEFAULTS if files.is_shipped(name)] or [files.DEFAULT]
        specs = [recipe.weights] if recipe.weights else usual
        return Candidates(tuple(load(spec) for spec in specs), insisted)
    if insisted:
        raise InputError(f"--model dio: {against}.", "Use --model classical.")
    if recipe.weights:
        files.find(recipe.weights)  # a name that is misspelt should not go unseen
    return Candidates((), notes=(f"Model classical: {against}.",))


@dataclass(frozen=True, eq=False)
class Seen:
    """Features of a pair, and the network that extracted them.

    Attributes:
        network: The chosen one; None if the images suit none.
        pair: Its features of both images, fixed first, without muted types; None likewise.
        trust: How far the images suit it, or the last one tried; None if that gave NaN.
        notes: The decision, in words.
    """

    network: FeatureModel | None = None
    pair: tuple[FeaturePyramid, FeaturePyramid] | None = None
    trust: Trust | None = None
    notes: tuple[str, ...] = ()


def features(networks: Sequence[FeatureModel], pair: AlignedPair, *, insisted: bool) -> Seen:
    """Extract features by the first network that suits both images.

    Args:
        networks: The candidates; without any, nothing is seen.
        pair: Both images.
        insisted: Whether to take the last one where none suits.

    Raises:
        WeightsError: If features were insisted on, and the network gives NaN.
    """
    if not networks:
        return Seen()
    against, trust = [], None
    for network in networks:
        last = insisted and network is networks[-1]
        network.net.to(pair.inner.data.device)
        try:
            found = extract_pair(network, pair.inner, pair.moving, pair.affine)
        except WeightsError as error:
            says = f"the weights {network.name} say something that is no number of these images"
            if last:
                raise WeightsError(f"--model dio: {says}.", "Use --model classical.") from error
            against.append(says)
            trust = None
            continue
        shares = [described.suits(network.usual) for described in found]
        says = (
            f"{shares[0]:.0%} and {shares[1]:.0%} of the structures have a usual volume, apart "
            "from those that the image's edge cuts"
        )
        if last or min(shares) == 1:
            before = f" ({'; '.join(against)})" if against else ""
            note = (
                f"Model dio, weights {network.name}: in the fixed and the moving image {says}"
                f"{before}."
            )
            one, other = (described.without(network.muted) for described in found)
            return Seen(network, (one, other), Trust(True, *shares), (note,))
        against.append(
            f"the images do not suit the weights {network.name}: in the fixed and the moving one "
            f"{says}; all must have"
        )
        trust = Trust(False, *shares)
    return Seen(trust=trust, notes=(f"Model classical: {'; '.join(against)}.",))


def _against(recipe: RegisterRecipe, space: Space, *, insisted: bool) -> str:
    """Why learned features are out of the question, whatever the images show; empty if not."""
    if not all(space.solid):
        return "the weights are for 3-D images"
    if insisted:
        return ""
    if recipe.linear:
        return "linear transforms compare intensities"
    if recipe.metric != ("auto",):
        return "a metric was asked for"
    if not recipe.weights and not any(files.is_shipped(name) for name in files.DEFAULTS):
        return "this version comes with no weights"
    return ""
