"""Sources: the cases of DATA, as collections of a recipe or as DATA itself lists them."""

import dataclasses
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from regcli.errors import InputError
from regcli.io.cases import Cohort, read_cohort
from regcli.train.recipe import Collection, TrainRecipe
from regcli.train.subjects import Source, Subjects, read_subjects


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
    return cohort, read_subjects(sources, recipe.words, partial(progress, "read"))


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
