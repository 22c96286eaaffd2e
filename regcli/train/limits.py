"""Limits: the range of every number in the plan of a training."""

import math

from regcli.errors import RecipeError
from regcli.train.plan import MOST_VOXELS, TrainPlan

_LEAST = {"rise": 1, "cool": 1, "validate_every": 1, "warm_steps": 0, "steps": 0, "batch": 0}
_MOST, _MOST_SAMPLES = 1_000_000_000, 4096
_POSITIVE = {"warm_rate": "--warm-lr", "rate": "--lr", "clip": "clip", "smoothness": "smoothness"}


def check_limits(plan: TrainPlan) -> None:
    """Refuse numbers that the command line would not let through, but a recipe may hold.

    Args:
        plan: Of a recipe and of options.

    Raises:
        RecipeError: Naming the first setting that is out of range.
    """
    for name, least in _LEAST.items():
        if not least <= getattr(plan, name) <= _MOST:
            raise RecipeError(
                f"{name} = {getattr(plan, name)} is out of range.",
                f"Give a whole number from {least} to {_MOST}.",
            )
    for name, shown in _POSITIVE.items():
        if not 0 < getattr(plan, name) < math.inf:
            raise RecipeError(
                f"{shown} {getattr(plan, name):g} is not a positive number.", "Give one above 0."
            )
    if plan.batch > _MOST_SAMPLES:
        raise RecipeError(
            f"A --batch of {plan.batch} is too large.", f"Give {_MOST_SAMPLES} at most."
        )
    if not 0 <= plan.decay < 1:
        raise RecipeError(f"decay = {plan.decay:g} is not below 1.", "0.0001 is normal.")
    if not any(plan.gains):
        raise RecipeError("gains of 0 leave features no weight.", "Give some above 0.")
    if not 0 <= plan.average < 1:
        raise RecipeError(f"average = {plan.average:g} is not below 1.", "0.999 is normal.")
    if plan.precision not in ("auto", "fp32", "bf16"):
        raise RecipeError(
            f"precision = '{plan.precision}' does not exist.", "Choose from auto, fp32, bf16."
        )
    for _, changes in plan.stages:
        shape = changes.get("shape", (1,))
        if min(shape) < 1 or math.prod(shape) > MOST_VOXELS:
            raise RecipeError(
                f"A stage has the shape {list(shape)}.",
                f"Write it like [65, 81, 65], with {MOST_VOXELS:,} voxels at most.",
            )
