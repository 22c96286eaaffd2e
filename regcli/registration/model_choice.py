"""Choosing the registration method of a recipe."""

from dataclasses import replace

import torch

from regcli.errors import RecipeError
from regcli.image import Space
from regcli.recipe import RegisterRecipe
from regcli.registration.equilibrium.model import are_steps
from regcli.registration.method import Method
from regcli.registration.priors import Priors
from regcli.registry import METHODS, resolve


def resolve_model(recipe: RegisterRecipe) -> RegisterRecipe:
    """The recipe with the model that its weights are of, where it leaves that open.

    Raises:
        WeightsError: If the weights cannot be used.
        RecipeError: If it asks for what that model does not know, or for what keeps "auto" from
            using weights of features.
    """
    if recipe.model != "auto" or not recipe.weights:
        return recipe
    if are_steps(recipe.weights):
        return replace(recipe, model="deq")
    if recipe.linear or recipe.metric != ("auto",):
        by = f"--transform {recipe.transform}"
        by = by if recipe.linear else f"--metric {recipe.metric[0]}"
        raise RecipeError(
            f"--weights has no effect with {by}: --model auto then compares intensities alone.",
            "Leave --weights out, or give --model dio.",
        )
    return recipe


def resolve_method(
    recipe: RegisterRecipe, priors: Priors, space: Space, device: torch.device
) -> Method:
    """The method of a recipe's model, with its weights.

    Args:
        recipe: What to do.
        priors: Masks, prompts and so on.
        space: Grid of the fixed image.
        device: Where to compute.

    Raises:
        WeightsError: If the weights cannot be used.
        InputError: If the method does not know images of this dimension.
        RecipeError: If parts of the recipe do not suit each other.
    """
    make, options = resolve(METHODS, recipe.model)
    return make(recipe, priors, space, device, **options)
