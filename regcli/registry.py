"""Every name a user may type, and where it lives: strings only, so that reading it costs nothing.

A spec is `name` or `name:option=value,option=value`; options are fields of the named dataclass.
An entry is "module:Class", or "module:Class:option=value" where several names share a class.
"""

import dataclasses
import importlib
import math
from collections.abc import Mapping
from typing import Any, get_type_hints

from regcli.errors import RecipeError

Table = Mapping[str, str]

TRANSFORMS: Table = {
    "diffeo": "regcli.transforms.dense:Compositional",
    "freeform": "regcli.transforms.dense:Freeform",
    "affine": "regcli.transforms.linear:Linear:family=affine",
    "similarity": "regcli.transforms.linear:Linear:family=similarity",
    "rigid": "regcli.transforms.linear:Linear:family=rigid",
    "translation": "regcli.transforms.linear:Linear:family=translation",
}
LINEAR = ("translation", "rigid", "similarity", "affine")
SIMILARITIES: Table = {
    "lncc": "regcli.energy.intensity:LNCC",
    "ssd": "regcli.energy.intensity:SSD",
    "ncc": "regcli.energy.intensity:NCC",
    "mi": "regcli.energy.information:MI",
    "mind": "regcli.energy.mind:MIND",
}
REGULARIZERS: Table = {"diffusion": "regcli.energy.regularizers:Diffusion"}
SOLVERS: Table = {
    "relaxation": "regcli.solve.descent:Relaxation",
    "levenberg": "regcli.solve.descent:LevenbergMarquardt",
}
ADJOINTS: Table = {
    "gn-ift": "regcli.solve.adjoint:GaussNewtonIFT",
    "ift": "regcli.solve.adjoint:IFT",
    "phantom": "regcli.solve.adjoint:Phantom",
    "jfb": "regcli.solve.adjoint:JacobianFree",
    "unroll": "regcli.solve.adjoint:Unroll",
}
NETWORKS: Table = {
    "unet": "regcli.nets.unet:UNet",
    "lku": "regcli.nets.lku:LKU",
    "unet-e": "regcli.nets.encoders:UNetEncoders",
    "lku-e": "regcli.nets.encoders:LKUEncoders",
}


def build(table: Table, spec: str) -> Any:
    """The object that a spec names.

    Args:
        table: One of this module's tables.
        spec: `name` or `name:option=value,...`.

    Raises:
        RecipeError: Naming what exists, if the name, an option or a value does not.
    """
    name, values = parse(table, spec)
    target, options = resolve(table, name)
    fields = [f.name for f in dataclasses.fields(target) if f.name not in options]
    hints = get_type_hints(target)
    for option, text in values.items():
        if option not in fields:
            known = f"its options are {', '.join(fields)}" if fields else "it has no options"
            raise RecipeError(
                f"'{spec}': '{name}' has no option '{option}'.", f"For {name}, {known}."
            )
        options[option] = _convert(text, hints[option], spec)
    return target(**options)


def parse(table: Table, spec: str) -> tuple[str, dict[str, str]]:
    """Name and options of a spec; the name must be in the table.

    Raises:
        RecipeError: If the name is unknown or an option has no value.
    """
    name, _, rest = spec.partition(":")
    if name not in table:
        raise RecipeError(f"'{name}' is not known here.", f"Choose from {', '.join(table)}.")
    options = {}
    for part in filter(None, rest.split(",")):
        option, equals, value = part.partition("=")
        if not equals or not value:
            raise RecipeError(
                f"'{spec}': '{part}' is not option=value.",
                "Write it as name:option=value,option=value.",
            )
        options[option.strip()] = value.strip()
    return name, options


def resolve(table: Table, name: str) -> tuple[Any, dict[str, Any]]:
    """The class or function behind a name of the table, and the options that the name fixes."""
    module, attribute, *fixed = table[name].split(":")
    options = dict(part.split("=") for part in fixed)
    return getattr(importlib.import_module(module), attribute), options


def _convert(text: str, kind: Any, spec: str) -> Any:
    try:
        if kind is bool:
            return {"true": True, "false": False}[text.lower()]
        value = kind(text)
        if kind in (int, float) and not 0 < value < math.inf:  # every number is a size or a weight
            raise RecipeError(f"'{spec}': {text} is not a positive number.", "Give one above 0.")
        return value
    except (ValueError, KeyError) as error:
        raise RecipeError(
            f"'{spec}': '{text}' is not a {kind.__name__}.", "Give a value of that type."
        ) from error
