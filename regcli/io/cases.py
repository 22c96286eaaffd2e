"""Cases to train on and to validate with, from a folder, a CSV or a Learn2Reg JSON."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice, pairwise
from pathlib import Path

from regcli.errors import InputError, RecipeError
from regcli.io.files import open_input
from regcli.io.images import FORMATS
from regcli.io.listings import Case, Pairs, list_data

PAIR_LIMIT = 20  # validation pairs, where DATA names none


@dataclass(frozen=True)
class Cohort:
    """Whom to learn from and whom to be tested on.

    Attributes:
        training: Sorted by name; at least one.
        validation: Sorted by name; may be empty.
        pairs: Names (fixed, moving) of validation: those that DATA names, else all ordered
            pairs, or PAIR_LIMIT of them in which all cases come up equally often.
        training_pairs: Those that DATA names; empty if any two cases may be paired.
    """

    training: tuple[Case, ...]
    validation: tuple[Case, ...]
    pairs: Pairs
    training_pairs: Pairs = ()


def read_cohort(
    data: Path,
    *,
    validation: Sequence[str] = (),
    share: float = 0.1,
    least: int = 1,
    labels_only: bool = False,
) -> Cohort:
    """The cases that DATA holds, as training and validation.

    DATA is a folder: of images, or one that holds `images`, `labels`, `keypoints` and `masks`
    (or `imagesTr` and so on), or any of these; a folder with a `*_dataset.json` is read by it.
    Or it is a CSV with columns image, labels, points, mask, name and split (validation; training
    or nothing), its paths relative to it. Or a Learn2Reg JSON; its test images are left out.

    Args:
        data: Folder, .csv, .tsv or .json.
        validation: Names of cases, or of BIDS subjects (sub-01), to hold out instead of what
            DATA says.
        share: Of the subjects to hold out if nobody says whom: the last by name.
        least: So many at least, if that leaves two others; with a share of 0, none.
        labels_only: Label maps are what counts; images may be missing.

    Raises:
        InputError: If nothing is found, a file is missing or empty, names are not unique, it is
            open what belongs together, DATA is malformed, or a name in `validation` is unknown.
        RecipeError: If `share` is not in [0, 1).

    Source: the layout of Learn2Reg (Hering et al., TMI 2023); names of BIDS (sub-, desc-, dseg).
    """
    if not 0 <= share < 1:
        raise RecipeError(f"A share of {share} cannot be held out.", "Give 0 or more, below 1.")
    data = data.absolute()  # "." has no name and no parent
    listing = list_data(data, labels_only)
    cases = sorted(listing.cases, key=lambda case: case.name)
    _check(cases, data, labels_only)
    held_out = _named(cases, validation, data) or listing.held_out
    if held_out is None:
        held_out = _last(cases, share, least)
    kept = frozenset(case.name for case in cases) - held_out
    if not kept:
        raise InputError(f"{data} leaves no case to train on.", "Hold out fewer cases.")
    pairs = _within(listing.pairs, held_out) or _within(listing.training_pairs, held_out)
    return Cohort(
        training=tuple(case for case in cases if case.name in kept),
        validation=tuple(case for case in cases if case.name in held_out),
        pairs=pairs or _all_pairs(sorted(held_out)),
        training_pairs=_within(listing.training_pairs + listing.pairs, kept),
    )


def _check(cases: Sequence[Case], data: Path, labels_only: bool) -> None:
    what = "label maps" if labels_only else "images"
    if not cases:
        raise InputError(
            f"{data} holds no {what} ({', '.join(FORMATS)}).",
            "Name the folder that they are in, or list them in a CSV"
            + ("." if labels_only else "; label maps alone need --synth."),
        )
    lacking = [c.name for c in cases if (c.labels if labels_only else c.image) is None]
    if lacking:
        raise InputError(
            f"{len(lacking)} of {len(cases)} cases lack {what}, {lacking[0]} among them.",
            f"Add the {what}, or list the cases that have them in a CSV.",
        )
    for one, other in pairwise(cases):
        if one.name == other.name:
            raise InputError(f"{data} holds two cases {one.name}.", "Give each its own name.")
    for case in cases:
        for path in filter(None, (case.image, case.labels, case.points, case.mask)):
            open_input(path).close()


def _named(cases: Sequence[Case], names: Sequence[str], data: Path) -> frozenset[str]:
    held_out = {case.name: {case.name, _subject(case)} & set(names) for case in cases}
    unknown = set(names).difference(*held_out.values())
    if unknown:
        raise InputError(
            f"{min(unknown)} is no case of {data}.",
            f"Its {len(cases)} cases are named like {cases[0].name}.",
        )
    return frozenset(name for name, found in held_out.items() if found)


def _last(cases: Sequence[Case], share: float, least: int) -> frozenset[str]:
    """The last cases by name; all of a subject or none, or what is tested would be known."""
    subjects = sorted({_subject(case) for case in cases})
    count = math.ceil(share * len(subjects) - 1e-9) if len(subjects) > 2 else 0
    count = max(count, min(least, len(subjects) - 2)) if count else 0
    last = subjects[len(subjects) - min(count, len(subjects) - 1) :]
    return frozenset(case.name for case in cases if _subject(case) in last)


def _subject(case: Case) -> str:
    return case.name.partition("_")[0] if case.name.startswith("sub-") else case.name


def _within(pairs: Pairs, names: frozenset[str]) -> Pairs:
    return tuple(dict.fromkeys(pair for pair in pairs if names.issuperset(pair)))


def _all_pairs(names: Sequence[str]) -> Pairs:
    count = len(names)
    pairs = ((i, (i + step) % count) for step in range(1, count) for i in range(count))
    return tuple((names[i], names[j]) for i, j in islice(pairs, PAIR_LIMIT))
