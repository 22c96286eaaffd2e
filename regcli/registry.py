"""Every name a user may type, and where it lives: strings only, so that reading it costs nothing.

A spec is `name` or `name:option=value,option=value`; options are fields of the named dataclass.
Users' own similarities and regularizers are `module:Class` or `module:Class:option=value`.
Numbers are positive, or zero where the field's metadata say "zero".
An entry is "module:Class", or "module:Class:option=value" where several names share a class.
"""

import dataclasses
import importlib
import math
import sys
from collections.abc import Mapping
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any, get_type_hints

from regcli.errors import RecipeError

Table = Mapping[str, str]

TRANSFORMS: Table = {
    "diffeo": "regcli.transforms.dense:Compositional",
    "freeform": "regcli.transforms.dense:Freeform",
    "svf": "regcli.transforms.svf:Stationary",
    "geodesic": "regcli.transforms.geodesic:Geodesic",
    "bspline": "regcli.transforms.bspline:BSpline",
    "affine": "regcli.transforms.linear:Linear:family=affine",
    "similarity": "regcli.transforms.linear:Linear:family=similarity",
    "rigid": "regcli.transforms.linear:Linear:family=rigid",
    "translation": "regcli.transforms.linear:Linear:family=translation",
}
# Functions; see regcli.registration.method.Method.
METHODS: Table = {
    "auto": "regcli.registration.deform:energy_method",
    "classical": "regcli.registration.deform:energy_method",
    "dio": "regcli.registration.deform:energy_method",
    "deq": "regcli.registration.equilibrium.stage:equilibrium_method",
}
FOLDLESS = ("diffeo", "svf", "geodesic")  # these maps never fold
LINEAR = ("translation", "rigid", "similarity", "affine")
SIMILARITIES: Table = {
    "lncc": "regcli.energy.intensity:LNCC",
    "ssd": "regcli.energy.intensity:SSD",
    "ncc": "regcli.energy.intensity:NCC",
    "mi": "regcli.energy.information:MI",
    "mind": "regcli.energy.mind:MIND",
}
REGULARIZERS: Table = {
    "diffusion": "regcli.energy.regularizers:Diffusion",
    "bending": "regcli.energy.regularizers:Bending",
    "elastic": "regcli.energy.regularizers:Elastic",
    "tv": "regcli.energy.variation:TotalVariation",
    "volume": "regcli.energy.volume:Volume",
    "folding": "regcli.energy.folding:Folding",
}
FIXED_POINTS: Table = {
    "picard": "regcli.solve.fixedpoint:Picard",
    "anderson": "regcli.solve.fixedpoint:Anderson",
    "broyden": "regcli.solve.fixedpoint:Broyden",
}
ADJOINTS: Table = {  # of registrations by features
    "gn-ift": "regcli.solve.adjoint:GaussNewtonIFT",
    "ift": "regcli.solve.adjoint:IFT",
    "phantom": "regcli.solve.adjoint:Phantom",
    "jfb": "regcli.solve.adjoint:Phantom:steps=1",
}
STEP_ADJOINTS: Table = {  # of equilibria of steps
    "phantom": "regcli.solve.step_adjoint:PhantomSteps",
    "jfb": "regcli.solve.step_adjoint:PhantomSteps:steps=1",
    "ift": "regcli.solve.step_adjoint:ImplicitStep",
}
NETWORKS: Table = {
    "unet": "regcli.nets.unet:UNet",
    "lku": "regcli.nets.lku:LKU",
    "unet-e": "regcli.nets.encoders:UNetEncoders",
    "lku-e": "regcli.nets.encoders:LKUEncoders",
}
UPDATES: Table = {
    "update": "regcli.nets.update:UpdateNet",
    "guided": "regcli.nets.update:GuidedNet",
    "update-full": "regcli.nets.update:FullUpdateNet",
    "voxelmorph": "regcli.nets.update:UpdateNet:inputs=2",
    "voxelmorph-full": "regcli.nets.update:FullUpdateNet:inputs=2",
    "gradirn": "regcli.nets.recurrent:GradientNet",
    "riir": "regcli.nets.recurrent:RecurrentNet",
}
_UNROLLED = "regcli.train.steps.unrolled:UnrolledTraining"
STEP_TRAININGS: Table = {
    "deq": "regcli.train.steps.equilibrium:EquilibriumTraining",
    "unroll": _UNROLLED,
    "voxelmorph": f"{_UNROLLED}:steps=1:levels=1:network=voxelmorph",
    "gradirn": f"{_UNROLLED}:levels=3:network=gradirn",
    "riir": f"{_UNROLLED}:steps=6:levels=1:network=riir:rising=10",
}
# See regcli.train.training.Training.
TRAININGS: Table = {"dio": "regcli.train.features.training:FeatureTraining", **STEP_TRAININGS}

# Tables that users may extend by classes of their own, and the base of these.
_OWN = {id(SIMILARITIES): "Similarity", id(REGULARIZERS): "Regularizer"}

_FIXED = {"true": True, "false": False}
_KINDS = {int: "a whole number", float: "a number", bool: "true or false"}


def build(table: Table, spec: str) -> Any:
    """The object that a spec names.

    Args:
        table: One of this module's tables.
        spec: `name` or `name:option=value,...`.

    Raises:
        RecipeError: Naming what exists, if the name, an option or a value does not.
    """
    name, values = parse(table, spec)
    target, options = resolve(table, name) if name in table else (_imported(name, table), {})
    fields = {f.name: f for f in dataclasses.fields(target) if f.name not in options}
    hints = get_type_hints(target)
    for option, text in values.items():
        if option not in fields:
            known = f"its options are {', '.join(fields)}" if fields else "it has no options"
            raise RecipeError(
                f"'{spec}': '{name}' has no option '{option}'.", f"For {name}, {known}."
            )
        zero = "zero" in fields[option].metadata
        options[option] = _convert(text, hints[option], spec, zero=zero)
    return target(**options)


def parse(table: Table, spec: str) -> tuple[str, dict[str, str]]:
    """Name and options of a spec; the name is in the table, or a user's `module:Class`.

    Raises:
        RecipeError: If the name is unknown or an option has no value.
    """
    name, _, rest = spec.partition(":")
    if name not in table:
        own, _, rest = rest.partition(":")
        if id(table) not in _OWN or not own.isidentifier():
            more = ", or give module:Class" if id(table) in _OWN else ""
            raise RecipeError(
                f"'{name}' is not known here.", f"Choose from {', '.join(table)}{more}."
            )
        name = f"{name}:{own}"
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
    pairs = [part.split("=") for part in fixed]
    options = {name: _FIXED.get(value, value) for name, value in pairs}
    options = {n: int(v) if str(v).isdigit() else v for n, v in options.items()}
    return getattr(importlib.import_module(module), attribute), options


def _imported(name: str, table: Table) -> Any:
    """A user's class, from a module on the path or in the current folder."""
    module, _, attribute = name.partition(":")
    kind, here = _OWN[id(table)], str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)
    try:
        found = getattr(importlib.import_module(module), attribute, None)
    except Exception as error:  # whatever a user's module may raise
        raise RecipeError(
            f"'{name}': importing {module} failed: {type(error).__name__}: {error}.",
            "Mend it; it must lie in the current folder or on PYTHONPATH.",
        ) from error
    base = getattr(importlib.import_module("regcli.energy.base"), kind)
    if not (isinstance(found, type) and issubclass(found, base) and is_dataclass(found)):
        what = "does not exist" if found is None else f"is no dataclass that extends {kind}"
        raise RecipeError(
            f"'{name}' {what}.",
            f"Extend regcli.energy.base.{kind} as examples/small_motion.py does.",
        )
    if missing := sorted(getattr(found, "__abstractmethods__", ())):
        raise RecipeError(f"'{name}' has no {', '.join(missing)}.", f"See {kind} in regcli.energy.")
    return found


def _convert(text: str, kind: Any, spec: str, *, zero: bool) -> Any:
    try:
        if kind is bool:
            return {"true": True, "false": False}[text.lower()]
        value = kind(text)
        # every number is a size or a weight
        if kind in (int, float) and not (0 < value < math.inf or (zero and value == 0)):
            least = "0 or more" if zero else "above 0"
            raise RecipeError(f"'{spec}': {text} is not a positive number.", f"Give one {least}.")
        return value
    except (ValueError, KeyError) as error:
        raise RecipeError(
            f"'{spec}': '{text}' is not {_KINDS.get(kind, 'of the right kind')}.",
            "Give a value of that kind.",
        ) from error
