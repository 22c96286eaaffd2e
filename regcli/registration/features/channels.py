"""Names of feature channels: the structures that a network was trained to distinguish."""

from dataclasses import dataclass
from typing import Any

FREESURFER = (2, 3, 41, 42)  # white matter and cortex of both sides: label maps with these are its
BACKGROUND = "background"
# of the left side, or of the middle: a type holds both sides
_STRUCTURES = {
    2: "cerebral white matter",
    3: "cerebral cortex",
    4: "lateral ventricle",
    7: "cerebellar white matter",
    8: "cerebellar cortex",
    10: "thalamus",
    11: "caudate",
    12: "putamen",
    13: "pallidum",
    14: "third ventricle",
    15: "fourth ventricle",
    16: "brainstem",
    17: "hippocampus",
    18: "amygdala",
    24: "cerebrospinal fluid",
    26: "accumbens",
    28: "ventral diencephalon",
}


@dataclass(frozen=True)
class Channel:
    """One channel.

    Attributes:
        name: For people.
        codes: Of the label maps, those that count as it.
    """

    name: str
    codes: tuple[int, ...]


def channels(count: int, facts: dict[str, Any]) -> tuple[Channel, ...]:
    """The channels of a network.

    Args:
        count: How many.
        facts: The header of its weights; `codes` there say which type each code counts as, and
            `types`, if it is there, what the types are called.
    """
    types = facts.get("codes")
    types = types if isinstance(types, dict) else {}
    held: list[list[int]] = [[] for _ in range(count)]
    for code, type_ in types.items():
        if isinstance(type_, int) and 0 <= type_ < count and str(code).isdecimal():
            held[type_].append(int(code))
    known = set(FREESURFER) <= {code for codes in held for code in codes}
    names = facts.get("types")
    if not (isinstance(names, list) and len(names) == count):
        names = [_name(n, c, known) for n, c in enumerate(held)]
    return tuple(Channel(str(n), tuple(sorted(c))) for n, c in zip(names, held, strict=True))


def _name(number: int, codes: list[int], known: bool) -> str:
    if number == 0:
        return BACKGROUND
    if not codes:
        return f"channel {number}"
    if known and min(codes) in _STRUCTURES:
        return _STRUCTURES[min(codes)]
    return f"code{'s' * (len(codes) > 1)} {', '.join(map(str, sorted(codes)))}"
