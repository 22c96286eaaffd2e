"""Subjects: whom to learn from and whom to be tested on, read from files once."""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import pairwise
from pathlib import Path

import torch
from torch import Generator

from regcli.errors import InputError
from regcli.image import Image
from regcli.io.cases import Cohort, read_cohort
from regcli.io.images import read_header, read_image
from regcli.io.listings import Case
from regcli.io.points import read_points
from regcli.registration.normalize import prepare
from regcli.train.data.anatomy import Anatomy, anatomy, photographed
from regcli.train.data.vocabulary import MOST_CODES, DeclaredTypes, Vocabulary, vocabulary_of
from regcli.train.recipe import Collection, TrainRecipe

_COUNTED = 1 << 16  # codes below are counted, which takes a fifth of sorting all voxels
_MARGIN = 0.07  # of a brain's size, on each side of it: what is drawn is moved and scaled


@dataclass(frozen=True, eq=False)
class Subjects:
    """Whom to learn from and whom to be tested on.

    Attributes:
        vocabulary: The vocabulary of all.
        training: Anatomies.
        validation: Others.
        pairs: (fixed, moving) places in `validation`.
        training_pairs: Places in `training` that belong together; empty if any two do.
    """

    vocabulary: Vocabulary
    training: list[Anatomy]
    validation: list[Anatomy]
    pairs: tuple[tuple[int, int], ...] = ()
    training_pairs: tuple[tuple[int, int], ...] = ()

    def some_pair(self, generator: Generator) -> tuple[Anatomy, Anatomy]:
        """Two of those to learn from, fixed and moving, at random."""
        named, people = self.training_pairs, self.training
        if named:
            one, other = named[int(torch.randint(len(named), (), generator=generator))]
        else:
            one, other = torch.randperm(len(people), generator=generator)[:2].tolist()
        return people[one], people[other]

    @cached_property
    def usual_mm(self) -> tuple[float, float, float]:
        """The size along each axis that holds nine training brains in ten, with a margin."""
        return _reach(self.training, 0.9)

    @cached_property
    def whole_mm(self) -> tuple[float, float, float]:
        """The size along each axis that holds every validation brain, with a margin."""
        return _reach(self.validation, 1.0)


def _reach(people: list[Anatomy], share: float) -> tuple[float, float, float]:
    sizes = [who.extent_mm for who in people]
    i, j, k = ((1 + 2 * _MARGIN) * torch.stack(sizes).quantile(share, dim=0)).tolist()
    return i, j, k


@dataclass(frozen=True)
class Source:
    """Cases and how they are learned from.

    Attributes:
        cohort: Whose files.
        synth: Whether images are drawn from label maps; images are then not read.
        fill: Code of what is not labelled within the brain.
    """

    cohort: Cohort
    synth: bool
    fill: int = 0


def read_data(
    data: Path,
    recipe: TrainRecipe,
    *,
    synth: bool,
    validation: Sequence[str],
    progress: Callable[[str, float], None],
) -> tuple[Cohort, Subjects]:
    """All cases, and everything in their files.

    Args:
        data: Folder, CSV or Learn2Reg JSON; of a recipe's collections, the folder that holds them.
        recipe: Collections and types, if it names some.
        synth: Whether images are drawn, where the recipe has no collections.
        validation: Cases to hold out, there; empty for a fifth.
        progress: Called with "read" and the share that is done.

    Raises:
        InputError: Naming what is missing or cannot be used.
    """
    if recipe.collections:
        sources = [_source(data, part) for part in recipe.collections]
        cohort = _joined(data, sources)
    else:
        cohort = read_cohort(data, validation=validation, share=0.2, least=2, labels_only=synth)
        sources = [Source(cohort, synth)]
    return cohort, read_subjects(sources, recipe.types, partial(progress, "read"))


def read_subjects(
    sources: Sequence[Source], declared: DeclaredTypes | None, progress: Callable[[float], None]
) -> Subjects:
    """Every file of some cohorts, read, checked and made ready.

    Args:
        sources: Of all cases; pairs are those of the first.
        declared: Types as a recipe declares them; None for those of the codes.
        progress: Called with the share that is done.

    Raises:
        InputError: Naming the first file that cannot be used.
    """
    cases = [(case, source) for source in sources for case in source.cohort.training]
    split = len(cases)
    cases += [(case, source) for source in sources for case in source.cohort.validation]
    for case, source in cases:
        path = case.labels if source.synth else case.image
        assert path is not None
        if not all(read_header(path).space.solid):
            raise InputError(f"{path} is 2-D.", "Train on 3-D images.")
    for source in sources:
        if not source.synth:
            _all_or_none((*source.cohort.training, *source.cohort.validation))
    labels: list[Image | None] = []
    for n, (case, _) in enumerate(cases):
        labels.append(None if case.labels is None else read_image(case.labels, labels=True).image)
        progress(0.5 * (n + 1) / len(cases))
    shown = [_codes(map_) for map_ in labels]
    _check_codes(every := set().union(*shown))
    for (case, _), codes in zip(cases, shown, strict=True):
        if declared is not None and (strange := sorted(codes - declared.codes)):
            raise InputError(
                f"{case.labels} holds the code {strange[0]}, which the recipe does not declare.",
                "Add it to a type, to a group or to 'other'.",
            )
    known = vocabulary_of(every | {source.fill for source in sources}, declared)
    brain = {code for code, inside in zip(known.codes, known.inside, strict=True) if inside}
    anatomies = []
    for n, ((case, source), map_) in enumerate(zip(cases, labels, strict=True)):
        if map_ is not None and not shown[n] & brain:
            raise InputError(f"{case.labels} labels nothing of a brain.", "Leave the case out.")
        anatomies.append(_anatomy(case, map_, known, source))
        labels[n] = None
        progress(0.5 + 0.5 * (n + 1) / len(cases))
    first = sources[0].cohort
    _corresponding(first, {c.name: one for (c, _), one in zip(cases, anatomies, strict=True)})
    parts = [[case.name for case, _ in part] for part in (cases[:split], cases[split:])]
    places = [{name: n for n, name in enumerate(part)} for part in parts]
    return Subjects(
        known,
        anatomies[:split],
        anatomies[split:],
        tuple((places[1][f], places[1][m]) for f, m in first.pairs),
        tuple((places[0][f], places[0][m]) for f, m in first.training_pairs),
    )


def _source(data: Path, part: Collection) -> Source:
    cohort = read_cohort(
        data / part.folder, validation=part.validation, share=0, labels_only=part.synth
    )
    return Source(cohort, part.synth, part.fill)


def _joined(data: Path, sources: list[Source]) -> Cohort:
    """All cases of a recipe's collections; pairs are those of the first."""
    training = tuple(case for source in sources for case in source.cohort.training)
    validation = tuple(case for source in sources for case in source.cohort.validation)
    held_out = {case.name.partition("_")[0] for case in validation}
    known = next((c.name for c in training if c.name.partition("_")[0] in held_out), None)
    if known:
        raise InputError(
            f"{data}: {known} is learned from in one collection and held out in another.",
            "Hold it out in both, or in none.",
        )
    return dataclasses.replace(sources[0].cohort, training=training, validation=validation)


def _all_or_none(cases: tuple[Case, ...]) -> None:
    """Refuse cases without what others have: it would count as showing nothing."""
    kinds = {"labels": [c.labels for c in cases], "points": [c.points for c in cases]}
    for kind, files in kinds.items():
        lacking = [case.name for case, file in zip(cases, files, strict=True) if file is None]
        if 0 < len(lacking) < len(cases):
            raise InputError(
                f"{len(lacking)} of {len(cases)} cases have no {kind}, {lacking[0]} among them.",
                f"Add the {kind}, or list cases that are alike in a CSV.",
            )


def _corresponding(cohort: Cohort, anatomies: dict[str, Anatomy]) -> None:
    """Refuse pairs with more landmarks on one side: their rows belong together."""
    names = [case.name for case in cohort.training]
    for one, other in (*cohort.pairs, *(cohort.training_pairs or pairwise(names))):
        counts = [0 if (p := anatomies[name].points) is None else len(p) for name in (one, other)]
        if counts[0] != counts[1]:
            raise InputError(
                f"{one} has {counts[0]} points, {other} has {counts[1]}.",
                "Give the same points in the same order for both.",
            )


def _codes(labels: Image | None) -> set[int]:
    """The codes of a label map; none without one."""
    if labels is None:
        return set()
    least, most = (int(v) for v in labels.data.aminmax())
    if least < 0 or most >= _COUNTED:
        return set(labels.data.unique().tolist())
    return set(labels.data.flatten().int().bincount().nonzero().flatten().tolist())


def _check_codes(codes: set[int]) -> None:
    if len(codes) > MOST_CODES:
        raise InputError(
            f"The label maps hold {len(codes)} different codes; {MOST_CODES} is the limit.",
            "Merge some, or check that they are label maps.",
        )
    if min(codes, default=0) < 0:
        raise InputError(
            f"The label maps hold the code {min(codes)}.", "Use codes from 0, the background, up."
        )


def _anatomy(case: Case, labels: Image | None, vocabulary: Vocabulary, source: Source) -> Anatomy:
    if source.synth:
        assert labels is not None
        return anatomy(labels, vocabulary, source.fill)
    assert case.image is not None
    image = read_image(case.image).image
    mask = None if case.mask is None else read_image(case.mask, constant=True).image
    for path, other in ((case.labels, labels), (case.mask, mask)):
        if other is not None and not other.space.agrees(image.space, tolerance_mm=0.1):
            raise InputError(
                f"{path} is not on the grid of {case.image}.",
                "Give a file with the image's shape and header.",
            )
    if mask is not None and not bool((mask.data > 0).any()):
        raise InputError(f"{case.mask} is empty.", "Give a mask with voxels above 0.")
    ready = prepare(image, None if mask is None else mask.data, torch.device("cpu"))
    points = None if case.points is None else read_points(case.points, "ras", image.space).world
    if points is not None:
        last = torch.tensor(image.space.shape) - 1
        voxels = image.space.world_to_voxel(points)
        if bool(((voxels < -last) | (voxels > 2 * last)).any()):
            raise InputError(
                f"{case.points} has points far outside of {case.image}.",
                "Give them in RAS mm of the image's world.",
            )
    return photographed(ready, labels, points, vocabulary, source.fill)
