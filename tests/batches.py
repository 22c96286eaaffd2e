"""Batches of tiny pairs that are done in this process."""

from concurrent.futures import Executor, Future
from contextlib import contextmanager

import torch

from regcli.batch.crew import Crew
from regcli.batch.worker import run_row
from regcli.image import Space
from regcli.recipe import RegisterRecipe

SPACE = Space((12, 13, 14), torch.diag(torch.tensor([4.0, 4.4, 3.8, 1.0])).double())
QUICK = RegisterRecipe(model="classical", init="none", iterations=(2,), deterministic=True)


class Inline(Executor):
    """Calls at once what is submitted."""

    def submit(self, fn, /, *args, **kwargs):
        future = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


class Rows:
    """A crew of this process, and the folders of the rows that it was given."""

    def __init__(self, executor=None, size=1, memory=None, row=None):
        self.done = []
        self.row = row or (lambda job: run_row(job, 1, 0, lambda: None))
        self.crew = Crew(executor or Inline(), self._row, lambda: size, 1, memory)

    def _row(self, job, threads):
        self.done.append(job.out.name)
        return self.row(job)

    @contextmanager
    def __call__(self):
        yield self.crew
