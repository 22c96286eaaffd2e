"""Folders full of files that are there, and what is read from them as cases to train on."""

from dataclasses import astuple
from pathlib import Path

import pytest

from regcli.errors import InputError
from regcli.io.cases import Cohort, read_cohort
from regcli.io.listings import Case


def fill(folder: Path, *names: str) -> Path:
    """Files that are there; what they hold is not looked at."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"something")
    return folder


def shown(cohort: Cohort, folder: Path) -> dict[str, list[str | None]]:
    """Image, labels, points and mask by name of case, relative to a folder."""
    everyone = (*cohort.training, *cohort.validation)
    files = {case.name: astuple(case)[1:] for case in everyone}
    return {
        name: [path and path.relative_to(folder).as_posix() for path in paths]
        for name, paths in files.items()
    }


def names(some: tuple[Case, ...]) -> list[str]:
    return [case.name for case in some]


def refused(data: Path, *words: str, validation=(), labels_only=False) -> InputError:
    """The one-line error, which holds the words, that reading must end in."""
    with pytest.raises(InputError) as caught:
        read_cohort(data, validation=validation, labels_only=labels_only)
    for word in words:
        assert word in caught.value.cause, caught.value.cause
    assert caught.value.remedy
    assert "\n" not in caught.value.cause + caught.value.remedy
    return caught.value
