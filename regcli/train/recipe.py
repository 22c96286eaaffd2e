"""The recipe of a training: one TOML file that says what is learned, from whom, in which order."""

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, get_type_hints

from regcli.errors import RecipeError
from regcli.recipe import read_recipe
from regcli.train.data.vocabulary import DeclaredTypes
from regcli.train.plan import TrainPlan
from regcli.train.synth.drawing import Drawing

# settings that have a shorter name on the command line
_NAMES = {"spacing": "spacing_mm", "lr": "rate", "warm_lr": "warm_rate"}
_MACHINES = ("device", "start")  # not a recipe's to say
_SAME: Mapping[str, str] = MappingProxyType({})
_LONGEST = 1000  # characters of a folder's name
_TABLES = ("collections", "types", "groups", "other", "stages")


@dataclass(frozen=True)
class Collection:
    """Cases of one origin.

    Attributes:
        folder: Of theirs, as seen from DATA.
        synth: Whether images are drawn from their label maps; else their own are learned from.
        fill: Code of what is not labelled within the brain: sulci, in maps of brain alone.
        validation: Names of those to hold out.
    """

    folder: str = "."
    synth: bool = True
    fill: int = 0
    validation: tuple[str, ...] = ()


@dataclass(frozen=True)
class TrainRecipe:
    """The content of a recipe.

    Attributes:
        settings: Of fields of TrainPlan.
        collections: Whom to learn from; empty if it leaves that to DATA.
        types: Types that the network is to tell apart; None for those of the codes.
    """

    settings: dict[str, Any] = dataclasses.field(default_factory=dict)
    collections: tuple[Collection, ...] = ()
    types: DeclaredTypes | None = None


def read_train_recipe(path: Path) -> TrainRecipe:
    """A recipe, checked but for the data.

    Raises:
        InputError: If the file cannot be read.
        RecipeError: If it has unknown keys, or values of another kind.
    """
    content = read_recipe(path)
    settings = {_NAMES.get(k, k): v for k, v in content.items() if k not in _TABLES}
    fields = {f.name for f in dataclasses.fields(TrainPlan)} - {"stages", *_MACHINES}
    known = sorted((fields - set(_NAMES.values())) | set(_NAMES) | set(_TABLES))
    _no_others(path, "", set(content), set(known))
    plan = _typed(path, settings, TrainPlan, {long: short for short, long in _NAMES.items()})
    if "stages" in content:
        plan["stages"] = _stages(path, _tables(path, "stages", content))
    collections = []
    for entry in _tables(path, "collections", content):
        _no_others(path, "collections: ", set(entry), _fields(Collection))
        collections.append(part := Collection(**_typed(path, entry, Collection)))
        if not part.folder.isprintable() or len(part.folder) > _LONGEST or "" in part.validation:
            raise RecipeError(
                f"{path}: collection {len(collections)} has no name that can be.",
                "Give folders and cases as they are called.",
            )
        if [(c.folder, c.synth) for c in collections].count((part.folder, part.synth)) > 1:
            raise RecipeError(
                f"{path} names the collection {part.folder} twice.", "Leave one of them out."
            )
    return TrainRecipe(plan, tuple(collections), _declared_types(path, content))


def _stages(path: Path, entries: list[dict[str, Any]]) -> tuple[tuple[int, dict[str, Any]], ...]:
    own, last, out = _fields(Drawing) - {"spacing_mm"}, 0, []
    for entry in entries:
        _no_others(path, "stages: ", set(entry), own | {"until"})
        end = entry.get("until")
        if type(end) is not int or end <= last:
            raise RecipeError(
                f"{path}, stages: until = {end!r} is not after step {last}.",
                "Give each stage the step that it ends before, the first one first.",
            )
        changes = _typed(path, {k: v for k, v in entry.items() if k != "until"}, Drawing)
        Drawing(**changes)  # refuses what is out of range
        out.append((end, changes))
        last = end
    return tuple(out)


def _declared_types(path: Path, content: dict[str, Any]) -> DeclaredTypes | None:
    if "types" not in content:
        if lone := {"groups", "other"} & set(content):
            raise RecipeError(f"{path}: {min(lone)} without types.", "Declare [types], too.")
        return None
    types = {name: _codes(path, name, c) for name, c in _table(path, "types", content).items()}
    groups = {}
    for name, group in _table(path, "groups", content).items():
        if not isinstance(group, dict) or set(group) != {"codes", "types"}:
            raise RecipeError(f"{path}: group '{name}' is malformed.", "Give it codes and types.")
        named = group["types"]
        if not isinstance(named, list) or not all(isinstance(n, str) for n in named):
            raise RecipeError(f"{path}: types of group '{name}' are no names.", "Give a list.")
        groups[name] = _codes(path, name, group["codes"]), tuple(named)
    if not types:
        raise RecipeError(f"{path} declares no types.", "Give [types] some, or leave it out.")
    try:
        return DeclaredTypes(types, groups, _codes(path, "other", content.get("other", [])))
    except RecipeError as error:
        raise RecipeError(f"{path}: {error.cause}", error.remedy) from error


def _codes(path: Path, name: str, value: Any) -> tuple[int, ...]:
    if not isinstance(value, list) or not all(type(v) is int and v > 0 for v in value):
        raise RecipeError(f"{path}: codes of '{name}' are {value!r}.", "Give a list like [2, 41].")
    return tuple(value)


def _table(path: Path, key: str, content: dict[str, Any]) -> dict[str, Any]:
    value = content.get(key, {})
    if not isinstance(value, dict):
        raise RecipeError(f"{path}: {key} is no table.", f"Write [{key}].")
    return value


def _tables(path: Path, key: str, content: dict[str, Any]) -> list[dict[str, Any]]:
    value = content.get(key, [])
    if not isinstance(value, list) or not all(isinstance(v, dict) for v in value):
        raise RecipeError(f"{path}: {key} is no list of tables.", f"Write [[{key}]].")
    return value


def _fields(kind: type) -> set[str]:
    return set(get_type_hints(kind))


def _no_others(path: Path, place: str, given: set[str], known: set[str]) -> None:
    if unknown := sorted(given - known):
        raise RecipeError(
            f"{path}: {place}'{unknown[0]}' is not known.", f"Known are {', '.join(sorted(known))}."
        )


def _typed(
    path: Path, values: dict[str, Any], kind: type, shown: Mapping[str, str] = _SAME
) -> dict[str, Any]:
    """Values of fields of a dataclass, as they are there; lists become tuples.

    Args:
        path: Of the recipe.
        values: By the names of the fields.
        kind: The dataclass.
        shown: What the recipe calls fields, where that differs.
    """
    defaults = {f.name: f.default for f in dataclasses.fields(kind)}
    out = {}
    for name, value in values.items():
        default = defaults[name]
        out[name] = _like(default, value)
        if out[name] is None:
            raise RecipeError(
                f"{path}: {shown.get(name, name)} cannot be {value!r}.",
                f"Give something like {_example(default)}.",
            )
    return out


def _example(default: Any) -> str:
    """A value as TOML writes it."""
    if isinstance(default, tuple):
        return json.dumps(list(default) or ["a name"])
    return json.dumps(default)


def _like(default: Any, value: Any) -> Any:
    """A value of a default's kind; None if it is of another one."""
    if isinstance(default, tuple):
        if not isinstance(value, list) or (default and len(value) != len(default)):
            return None
        parts = tuple(_like(default[0] if default else "", part) for part in value)
        return None if None in parts else parts
    if isinstance(default, float) and type(value) in (int, float):
        return float(value) if 0 <= value < math.inf else None
    if type(value) is not type(default) or (type(value) is int and value < 0):
        return None
    return value
