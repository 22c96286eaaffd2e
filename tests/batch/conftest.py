"""A tiny pair, and batches of it."""

from dataclasses import replace

import pytest
from batches import QUICK, SPACE, Rows
from phantoms import pair
from scans import write_pair

from regcli.batch.plan import Batch
from regcli.batch.run import run_batch
from regcli.batch.table import read_table
from regcli.commands.register.job import Job


@pytest.fixture(scope="session")
def pairs(tmp_path_factory):
    """A folder with a pair of images, labels and points."""
    folder = tmp_path_factory.mktemp("pairs")
    write_pair(folder, pair(SPACE, linear=False))
    return folder


@pytest.fixture
def batch(pairs, tmp_path):
    """batch("a", "b", resume=True) is one with these folders as rows."""

    def make(*names, part=None, resume=False, recipe=QUICK, lines=None, **common):
        lines = lines or [f"fixed.nii.gz,moving.nii.gz,{name}" for name in names]
        table = tmp_path / "pairs.csv"
        table.write_text("\n".join(["fixed,moving,out", *lines]))
        # the table lies beside the images
        rows = read_table(table)
        rows = [
            replace(row, files={k: pairs / path.name for k, path in row.files.items()})
            for row in rows
        ]
        job = Job(pairs, pairs, tmp_path / "runs", recipe, **common)
        return Batch(rows, job, part, resume)

    return make


@pytest.fixture
def done(batch):
    """done(batch, rows) runs it and returns its record."""

    def run(some, rows=None, watch=lambda finished: None):
        return run_batch(some, rows or Rows(), watch)

    return run
