"""Vocabulary: which codes of label maps a network tells apart, and which of them look alike."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from regcli.errors import InputError, RecipeError
from regcli.registration.features.channels import BACKGROUND, FREESURFER

FLUID = 24  # FreeSurfer's code of the fluid around the brain, partly outside a stripped one
MOST_CODES = 250  # a byte holds a code's place
# FreeSurfer codes of the right side and of the left; one type serves both, so that mirrored
# anatomy needs no new labels. Inferior horns and choroid plexus belong to their ventricles.
_LEFT = {41: 2, 42: 3, 43: 4, 44: 4, 5: 4, 46: 7, 47: 8, 49: 10, 50: 11, 51: 12, 52: 13, 53: 17}
_LEFT |= {54: 18, 57: 25, 58: 26, 60: 28, 62: 30, 63: 31, 137: 136, 164: 163}
_PARCELS = (*range(1000, 1036), *range(2000, 2036))  # of the cortex, Desikan and Killiany's
_TISSUE = _LEFT | dict.fromkeys(_PARCELS, 3) | dict.fromkeys(range(251, 256), 2)  # callosum: white
_TYPES = (2, 3, 4, 7, 8, 10, 11, 12, 13, 14, 15, 16, 17, 18, 24, 26, 28)
_OUTSIDE = range(500, 1000)  # codes of what lies outside the brain


@dataclass(frozen=True)
class Vocabulary:
    """Which codes a network tells apart.

    Attributes:
        codes: Of every label map, sorted; their places are the indices that anatomies hold.
        classes: For each of them the class it counts as: a type, 0 being everything else; or,
            from the number of types on, one of the sets.
        sets: Types among which a code does not tell.
        names: Of the types, the background first; empty if only codes are known.
        mirrored: Whether both sides share types, so that a mirrored anatomy is one like others.
    """

    codes: tuple[int, ...]
    classes: tuple[int, ...]
    sets: tuple[tuple[int, ...], ...] = ()
    names: tuple[str, ...] = ()
    mirrored: bool = False

    @property
    def count(self) -> int:
        """How many types there are, with 0."""
        return 1 + max(self.classes) - len(self.sets)

    @property
    def types(self) -> dict[int, int]:
        """The type of every code that tells one."""
        return {c: n for c, n in zip(self.codes, self.classes, strict=True) if n < self.count}

    @property
    def inside(self) -> tuple[bool, ...]:
        """For each code whether it lies within the brain; only FreeSurfer's may lie outside it."""
        return tuple(c > 0 and not (self.mirrored and c in _OUTSIDE) for c in self.codes)

    @property
    def solid(self) -> tuple[bool, ...]:
        """For each code whether it is brain, and not the fluid around it."""
        fluid = (self.mirrored and c == FLUID for c in self.codes)
        return tuple(a and not b for a, b in zip(self.inside, fluid, strict=True))

    @property
    def tissues(self) -> tuple[int, ...]:
        """For each code the place of the one whose intensity it shares, or its own."""
        if not self.mirrored:
            return tuple(range(len(self.codes)))
        first: dict[int, int] = {}
        for place, code in enumerate(self.codes):
            first.setdefault(_TISSUE.get(code, code), place)
        return tuple(first[_TISSUE.get(code, code)] for code in self.codes)

    def common(self, *maps: Tensor) -> list[Tensor]:
        """Maps of classes, any shape, told apart no better than the coarsest of them does."""
        out = list(maps)
        for n, members in enumerate(self.sets, start=self.count):
            if any(bool((classes == n).any()) for classes in maps):
                those = torch.tensor(members)
                out = [torch.where(torch.isin(t, those.to(t)), n, t) for t in out]
        return out

    def tissue(self, place: int) -> int:
        """The FreeSurfer code, of the left side, whose intensity the code at a place has."""
        return _TISSUE.get(self.codes[place], self.codes[place])


@dataclass(frozen=True)
class DeclaredTypes:
    """Types as a recipe declares them; every code of its label maps is to occur here.

    Attributes:
        types: Codes of each type, by name; a type is a channel of the network.
        groups: By name, codes of maps that do not tell some types apart, and those types.
        other: Codes that are none of the types.
    """

    types: Mapping[str, tuple[int, ...]]
    groups: Mapping[str, tuple[tuple[int, ...], tuple[str, ...]]] = field(default_factory=dict)
    other: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        seen: dict[int, str] = {0: BACKGROUND}
        lists = [*self.types.items(), *((n, codes) for n, (codes, _) in self.groups.items())]
        for name, codes in [*lists, ("other", self.other)]:
            if not name.strip() or name == BACKGROUND:
                raise RecipeError(f"'{name}' is no name of a type.", "Give it another one.")
            if not codes and name != "other":
                raise RecipeError(f"'{name}' has no codes.", "Give it some, or leave it out.")
            for code in codes:
                if code in seen:
                    raise RecipeError(
                        f"The code {code} is declared as '{seen[code]}' and as '{name}'.",
                        "Declare it once; codes of several types at once belong in [groups].",
                    )
                seen[code] = name
        for name, (_, types) in self.groups.items():
            unknown = sorted(set(types) - set(self.types))
            if unknown or len(set(types)) < 2:
                cause = f"'{unknown[0]}' is no type" if unknown else "it has fewer than two types"
                raise RecipeError(
                    f"The group '{name}': {cause}.", f"Choose from {', '.join(self.types)}."
                )

    @property
    def codes(self) -> frozenset[int]:
        """All that are declared."""
        grouped = (codes for codes, _ in self.groups.values())
        return frozenset((0, *self.other)).union(*self.types.values(), *grouped)

    def listed(self) -> list[Any]:
        """Everything as lists: the order of types is that of a network's channels."""
        return [list(self.types.items()), list(self.groups.items()), self.other]


def vocabulary_of(codes: Iterable[int], declared: DeclaredTypes | None = None) -> Vocabulary:
    """The classes of codes: as declared, or FreeSurfer's structures, or any others one each.

    Args:
        codes: All that occur, 0 for background.
        declared: What a recipe declares.

    Raises:
        InputError: If a code is not declared, or a type does not occur.
    """
    every = tuple(sorted({0, *codes}))
    if declared is not None:
        return _declared(every, declared)
    if not set(FREESURFER) <= set(every):
        return Vocabulary(every, tuple(range(len(every))))
    lefts = [c for c in every if c and c not in _OUTSIDE and c not in _TISSUE]
    wanted = _TYPES if set(_TYPES) <= set(every) else lefts
    numbers = {code: n + 1 for n, code in enumerate(wanted)}
    classes = tuple(numbers.get(_TISSUE.get(c, c), 0) for c in every)
    return Vocabulary(every, classes, mirrored=True)


def _declared(every: tuple[int, ...], declared: DeclaredTypes) -> Vocabulary:
    numbers = {name: n for n, name in enumerate(declared.types, start=1)}
    classes = dict.fromkeys((0, *declared.other), 0)
    classes |= {code: numbers[name] for name, codes in declared.types.items() for code in codes}
    sets = []
    for codes, names in declared.groups.values():
        if set(codes) & set(every):
            classes |= dict.fromkeys(codes, 1 + len(numbers) + len(sets))
            sets.append(tuple(sorted(numbers[name] for name in names)))
    if strange := sorted(set(every) - set(classes)):
        raise InputError(
            f"The label maps, or what fills them, hold the code {strange[0]}, which the recipe "
            "does not declare.",
            "Add it to a type, to a group or to 'other'.",
        )
    found = {classes[code] for code in every}
    for name, number in numbers.items():
        if number not in found:
            raise InputError(
                f"No label map outlines '{name}'.", "Add maps that do, or leave the type out."
            )
    mirrored = {*FREESURFER[:1], *FREESURFER[2:3]} <= set(every)
    held = tuple(classes[code] for code in every)
    return Vocabulary(every, held, tuple(sets), (BACKGROUND, *declared.types), mirrored)
