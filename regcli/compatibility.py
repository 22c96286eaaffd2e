"""Compatibility: options that a method, a transform, symmetry, weights or a training ignores.

An option without effect is refused. Options are named as fields of RegisterRecipe, an option of the
transform as "transform:cap"; `BESIDE` are given beside a recipe.
"""

from collections.abc import Iterator
from typing import NamedTuple

from regcli.registry import LINEAR, STEP_TRAININGS, TRANSFORMS

BESIDE = {"smoothness_map": "--smoothness-map", "initial_warp": "A warp as --init"}

FAMILIES_REFUSED = {"deq": LINEAR}  # transforms that a method cannot make
BY_METHOD = {
    "auto": ("solver", "diagnose"),
    "dio": ("solver", "diagnose"),
    "deq": ("metric", "levels", "transform:cap"),
    "classical": ("weights", "solver", "diagnose"),
}
_BY_LINEAR = ("iterations", "levels", "tol", "smoothness", "regularizer", "restrict", "symmetric")
BY_FAMILY = {
    **dict.fromkeys(TRANSFORMS, ("symmetric",)),
    **dict.fromkeys(LINEAR, (*_BY_LINEAR, "smoothness_map")),
    "geodesic": ("restrict", "symmetric"),
    "diffeo": (),
}
# Options that belong to one image alone.
BY_SYMMETRY = ("restrict", "use_points", "smoothness_map", "initial_warp")
# Learned steps have no energy that would be the same in both orders.
BY_SYMMETRY_OF_METHOD = {"deq": ("use_labels", "regularizer")}
# Weights of networks that were made for a fixed number of steps.
BY_FIXED_STEPS = (
    *("solver", "tol", "diagnose", "regularizer", "smoothness", "restrict"),
    *("use_points", "use_labels", "smoothness_map", "symmetric"),
)
# Fields of TrainPlan that belong to features, and what each training ignores.
_OF_FEATURES = ("network", "transform", "warm_steps", "warm_rate", "muted")
BY_TRAINING = {
    **dict.fromkeys(STEP_TRAININGS, (*_OF_FEATURES, "adjoint")),
    "deq": _OF_FEATURES,
}


class Rule(NamedTuple):
    """Options that have no effect.

    Attributes:
        options: Their names.
        by: The choice that ignores them, as the user would write it.
        remedy: Advice.
    """

    options: tuple[str, ...]
    by: str
    remedy: str


def rules(model: str, transform: str, *, symmetric: bool) -> Iterator[Rule]:
    """The options that a registration ignores.

    Args:
        model: A name of registry.METHODS.
        transform: A spec of registry.TRANSFORMS.
        symmetric: Whether both images move.
    """
    family = transform.partition(":")[0]
    other = "a deformable one, such as diffeo" if family in LINEAR else "another, such as diffeo"
    yield Rule(BY_FAMILY[family], f"--transform {transform}", f"Leave it out, or choose {other}.")
    for option in BY_METHOD.get(model, ()):
        others = (m for m, ignored in BY_METHOD.items() if option not in ignored and m != "auto")
        yield Rule(
            (option,), f"--model {model}", f"Leave it out, or choose --model {next(others)}."
        )
    if symmetric:
        ignored = (*BY_SYMMETRY_OF_METHOD.get(model, ()), *BY_SYMMETRY)
        yield Rule(ignored, "--symmetric", "Leave one of them out.")
