"""Gradients of a training's steps: of samples that are drawn ahead, by one process or by several.

A step's samples are the same on any number of processes: the number of a sample decides it.
"""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from regcli.train.distributed.team import Team
from regcli.train.objective import Objective
from regcli.train.plan import TrainPlan
from regcli.train.synth.images import generator_of

S = TypeVar("S")

_AHEAD, _AHEAD_OF_GPU = 1, 8  # threads that draw: a network on a GPU is faster than one of them
_APART = 1 << 32  # between the random numbers of two objectives


@dataclass(frozen=True, eq=False)
class Learner:
    """A network, and what it learns.

    Attributes:
        objectives: One after another.
        net: On the plan's device.
        plan: What to do; its batch has a sample for each process.
        team: Whose gradients count.
    """

    objectives: list[Objective[Any, Any]]
    net: nn.Module
    plan: TrainPlan
    team: Team

    def samples(self, number: int, begin: int) -> Generator[Any]:
        """This process's samples of a task's steps, from one on."""
        objective, batch, rank = self.objectives[number], self.plan.batch, self.team.rank
        every = range(begin * batch, objective.steps * batch)
        most = _AHEAD if self.plan.torch_device.type == "cpu" else _AHEAD_OF_GPU
        return drawn(
            lambda n: objective.draw(generator_of(self.plan.seed, number * _APART + n), n // batch),
            (n for n in every if n % batch % rank.count == rank.number),
            min(torch.get_num_threads() - 1, most),
        )

    def learn(self, number: int, step: int, samples: Iterator[Any]) -> Tensor:
        """Leave the gradient of a step in the network of the first process, which alone calls it.

        Args:
            number: Of the objective.
            step: After the one before.
            samples: Of `samples`.

        Returns:
            The loss, ().
        """
        self.team.told((number, step))
        return self._step(number, step, samples)

    def help(self, progress: Callable[[str, float], None]) -> None:
        """Do this process's share of the steps that the first one takes, until it has enough.

        Args:
            progress: Takes a task's name and the share of its steps that is done.
        """
        order = self.team.told()
        while order is not None:
            number, step = order
            with closing(self.samples(number, step)) as samples:
                while order is not None and order[0] == number:
                    step = order[1]
                    self._step(number, step, samples)
                    progress(self.objectives[number].name, step / self.objectives[number].steps)
                    order = self.team.told()

    def dismiss(self) -> None:
        """Let the others go: the first process has enough."""
        self.team.told(None)

    def _step(self, number: int, step: int, samples: Iterator[Any]) -> Tensor:
        objective, batch, rank = self.objectives[number], self.plan.batch, self.team.rank
        self.team.equalize(self.net)
        self.net.train()
        self.net.zero_grad()
        total = torch.zeros((), device=self.plan.torch_device)
        for sample in islice(samples, len(range(rank.number, batch, rank.count))):
            for part in objective.losses(self.net, sample, step / objective.steps):
                (part / batch).backward()
                total += part.detach() / batch  # a GPU is not waited for
        return self.team.summed(self.net, total)


def drawn(draw: Callable[[int], S], numbers: Iterable[int], threads: int) -> Generator[S]:
    """draw(n) for every n, in order; close it to stop before the end.

    Args:
        draw: Whose results depend on n alone.
        numbers: What to draw.
        threads: How many samples are drawn ahead, each on its own; 0: when they are asked for.
    """
    if threads == 0:
        yield from map(draw, numbers)
        return
    waiting: deque[Future[S]] = deque()
    pool = ThreadPoolExecutor(threads, thread_name_prefix="regcli-draw")
    try:
        for n in numbers:
            waiting.append(pool.submit(draw, n))
            if len(waiting) > threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
