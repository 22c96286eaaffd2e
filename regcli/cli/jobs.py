"""Jobs from what was asked on the command line, by the names of register's parameters."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from regcli import recipe as recipes
from regcli.cli.common import listed, parse_frame
from regcli.recipe import RegisterRecipe

if TYPE_CHECKING:
    from regcli.commands.register.job import Job

# Options that become fields of a job unchanged.
_FILES = ("fixed_mask", "moving_mask", "smoothness_map", "fixed_labels", "moving_labels")
_PLAIN = (*_FILES, "fixed_points", "moving_points", "points_space", "naming", "force", "time_limit")
# Options that become fields of a recipe unchanged.
_SPECS = ("metric", "regularizer")
_NUMBERS = {"restrict": "1x1x0", "iterations": "100x50x20", "levels": "100x50x20"}
_VALUES = (
    "model",
    "weights",
    "transform",
    "symmetric",
    "init",
    "smoothness",
    "tol",
    "solver",
    "diagnose",
)
_VALUES = (*_VALUES, "use_labels", "use_points", "device", "threads", "seed", "deterministic")


def recipe_flags(asked: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of a recipe, None if the option was not given.

    Args:
        asked: Values of register's parameters, by name.

    Raises:
        RecipeError: If a list of numbers is none.
    """
    flags = {name: asked[name] for name in _VALUES}
    flags |= {name: asked[name] and tuple(asked[name]) for name in _SPECS}
    for name, like in _NUMBERS.items():
        text = asked[name]
        flags[name] = None if text is None else recipes.numbers(name, text, like)
    return flags | {"interpolation": asked["interp"]}


def make_job(
    asked: Mapping[str, Any], recipe: RegisterRecipe, *, fixed: Path, moving: Path, out: Path
) -> "Job":
    """A job as it was asked for.

    Args:
        asked: Values of register's parameters, by name.
        recipe: Of the job.
        fixed: Image.
        moving: Image.
        out: Folder of the result.

    Raises:
        RecipeError: If a value does not parse.
    """
    from regcli.commands.register.job import Job

    return Job(
        fixed=fixed,
        moving=moving,
        out=out,
        recipe=recipe,
        frame=parse_frame(asked["frame"]),
        write=listed("--write", asked["write"]),
        fail_on=tuple(asked["fail_on"] or ()),
        log=asked.get("log"),
        command=("regcli", *sys.argv[1:]),
        **{name: asked[name] for name in _PLAIN},
    )
