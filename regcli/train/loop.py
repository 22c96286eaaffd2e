"""train: a network learns one objective after another; a run that was killed goes on exactly."""

import csv
import dataclasses
import math
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from regcli.errors import InputError, RecipeError, WeightsError
from regcli.train.checkpoint import (
    Averaged,
    read_checkpoint,
    read_facts,
    read_weights,
    write_checkpoint,
    write_tensors,
)
from regcli.train.distributed.team import ALONE, Team
from regcli.train.gradients import Learner
from regcli.train.objective import Objective
from regcli.train.plan import TrainPlan

LAST, BEST, LOG = "last.safetensors", "best.safetensors", "train.csv"
_COLUMNS = ["task", "step", "loss", "gradient", "score"]
_CHECKPOINT_S = 300.0  # at most so much work is lost by a kill


@dataclass(frozen=True, eq=False)
class Callbacks:
    """The outside world of a training.

    Attributes:
        going: Asked before every step; False ends the run, which can then be resumed.
        tell: Takes a line about every validation.
        progress: Takes the task's name and the share of its steps that is done.
    """

    going: Callable[[], bool]
    tell: Callable[[str], None]
    progress: Callable[[str, float], None]


def train(
    objectives: list[Objective[Any, Any]],
    make: Callable[[], nn.Module],
    facts: dict[str, Any],
    plan: TrainPlan,
    run: Path,
    callbacks: Callbacks,
    start: dict[str, Tensor] | None = None,
    team: Team = ALONE,
) -> Path:
    """Train, or go on where `run` left off; returns the best weights' path.

    Args:
        objectives: One after another; each starts from the best weights of the one before.
        make: The network, with random weights.
        facts: What the header of the weights says besides what training finds out: model,
            network, channels and so on.
        plan: What to do; of a run that goes on, the same as before.
        run: Folder for last.safetensors, best.safetensors and train.csv.
        callbacks: The outside world.
        start: Weights to begin with, by the names of the network's state; None for random ones.
        team: Of which this is the first process; the others are in `Learner.help`.

    Returns:
        best.safetensors in `run`, which is there after the first validation.
    """
    torch.manual_seed(plan.seed)
    net = make().to(plan.torch_device)
    if start is not None:
        net.load_state_dict(start)
    learner = Learner(objectives, net, plan, team)
    planned = dataclasses.asdict(plan)
    del planned["start"]  # a path, which means nothing elsewhere
    facts = facts | {"plan": planned, "seconds": 0.0}
    begun = (
        read_facts(run / LAST) if (run / LAST).exists() else {"task": objectives[0].name, "step": 0}
    )
    names = [objective.name for objective in objectives]
    first = names.index(begun["task"])
    for number in range(first, len(objectives)):
        if not callbacks.going():
            break
        learned = number > 0 or start is not None
        course = _Course(learner, number, make, facts, run, callbacks)
        course.follow(resumed=number == first, learned=learned)
        if not (run / LAST).exists():  # the time was over before the first step
            break
        facts |= read_facts(run / LAST)
    learner.dismiss()
    return run / BEST


class _Course:
    """One objective of a run, from its first step or from where it was left."""

    def __init__(
        self,
        learner: Learner,
        number: int,
        make: Callable[[], nn.Module],
        facts: dict[str, Any],
        run: Path,
        callbacks: Callbacks,
    ) -> None:
        self.learner, self.number, self.make = learner, number, make
        self.objective, self.net, self.plan = learner.objectives[number], learner.net, learner.plan
        self.facts = facts | {"task": self.objective.name, "step": 0, "best": -math.inf}
        self.last, self.best, self.log = (run / name for name in (LAST, BEST, LOG))
        self.callbacks = callbacks
        self.rows: list[list[Any]] = []
        self.optimizer = self.objective.optimizer(self.net)

    def follow(self, *, resumed: bool, learned: bool) -> None:
        """Take the steps that are left.

        Args:
            resumed: Whether an earlier process began the objective; its checkpoint may be missing.
            learned: Whether the network has been trained before.
        """
        self.averaged = Averaged(self.net, self.plan.average)
        if resumed and self.last.exists():
            plan = self.facts["plan"]  # of now: a finished copy has another end
            said = read_checkpoint(self.last, self.net, self.averaged, self.optimizer)
            self.facts |= said | {"plan": plan}
        elif self.number:
            self.net.load_state_dict(read_weights(self.best))
            self.averaged = Averaged(self.net, self.plan.average)
        forget(self.log, self.objective.name, self.facts["step"])
        self.began = self.saved = time.monotonic()
        self.before = self.facts["seconds"]
        known, kept = self.facts["best"], self._kept()
        if kept > known > -math.inf:
            raise InputError(
                f"{self.best} scored {kept:.4f}, but {self.last} knows of {known:.4f} at most.",
                "Put the state back that belongs to it, or take it elsewhere to go on without.",
            )
        lost = kept < known  # deleted, damaged, or another's
        if lost:
            self.facts["best"] = -math.inf
        if lost or (learned and self.facts["step"] == 0):
            self._validate()  # what was learned before is the least to beat
        with closing(self.learner.samples(self.number, self.facts["step"])) as samples:
            for step in range(self.facts["step"], self.objective.steps):
                if not self.callbacks.going():
                    break
                self._step(step, samples)
        if self.rows:
            self._save()

    def _step(self, step: int, samples: Iterator[Any]) -> None:
        loss, norm = self._learn(step, samples)
        self.averaged.update(self.net, step)
        self.facts["step"] = step + 1
        self.rows.append([self.objective.name, step, f"{loss:.5f}", f"{norm:.3f}", ""])
        self.callbacks.progress(self.objective.name, (step + 1) / self.objective.steps)
        if (step + 1) % self.plan.validate_every == 0 or step + 1 == self.objective.steps:
            self._validate()
        elif time.monotonic() - self.saved > _CHECKPOINT_S:
            self._save()

    def _learn(self, step: int, samples: Iterator[Any]) -> tuple[float, float]:
        """One step of the optimizer, on the next samples: loss, gradient."""
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.objective, self.plan, step)
        loss = float(self.learner.learn(self.number, step, samples))
        norm = torch.nn.utils.clip_grad_norm_(self.net.parameters(), self.plan.clip)
        if not (math.isfinite(loss) and math.isfinite(float(norm))):
            raise RecipeError(
                f"The loss is {loss} at step {step} of {self.objective.name}: "
                "the learning rate is too high.",
                "Train again in another folder, with a smaller --lr or --warm-lr.",
            )
        self.optimizer.step()
        return loss, float(norm)

    def _kept(self) -> float:
        """The score of this task's best weights that are kept; the least if there are none."""
        try:
            facts = read_facts(self.best)
            whole = read_weights(self.best).keys() == self.averaged.values.keys()
            own = (
                whole and facts["task"] == self.objective.name
            )  # scores of two objectives do not compare
            return float(facts["best"]) if own else -math.inf
        except (WeightsError, KeyError, TypeError, ValueError):
            return -math.inf

    def _validate(self) -> None:
        net = self.make().to(self.plan.torch_device)
        net.load_state_dict(self.averaged.values)
        net.eval()
        with torch.no_grad():
            score, found = self.objective.validate(net)
        self.facts |= found | {"seconds": self.before + time.monotonic() - self.began}
        if self.rows:
            self.rows[-1][-1] = f"{score:.4f}"
        better = score > self.facts["best"]
        if better:
            self.facts["best"] = score
        self._save()  # first: the best weights can be had again from it
        if better:
            write_tensors(self.best, self.averaged.values, self.facts)
        seconds, step = self.facts["seconds"], self.facts["step"]
        kinds = "".join(f", {kind} {d:.4f}" for kind, d in found.get("dice", {}).items())
        self.callbacks.tell(
            f"{self.objective.name}, step {step}: score {score:.4f}{kinds}, {seconds:.0f} s"
        )

    def _save(self) -> None:
        self.facts["seconds"] = self.before + time.monotonic() - self.began
        _append(self.log, self.rows)  # before the state: rows too many are forgotten, not lost ones
        write_checkpoint(self.last, self.net, self.averaged, self.optimizer, self.facts)
        self.rows, self.saved = [], time.monotonic()


def learning_rate(objective: Objective[Any, Any], plan: TrainPlan, step: int) -> float:
    """Learning rate of a step, counted from 0: it rises, stays, and falls to 0 at the end.

    A run whose end is far away can always go on; a copy of it is cooled down to be used.
    """
    up = min(1.0, (step + 1) / plan.rise)
    down = min(1.0, (objective.steps - step) / min(plan.cool, objective.steps))
    return objective.rate * up * down


def _append(log: Path, rows: list[list[Any]]) -> None:
    new = not log.exists()
    with log.open("a", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([_COLUMNS, *rows] if new else rows)


def forget(log: Path, objective: str, step: int) -> None:
    """Drop rows after a step of an objective, which a kill may leave in the log, even torn."""
    if not log.exists():
        return
    try:
        with log.open(newline="", encoding="utf-8") as file:
            rows = [row for row in csv.reader(file) if len(row) == len(_COLUMNS)][1:]
        names = [row[0] for row in rows]
        own = names.index(objective) if objective in names else len(rows)
        rows = rows[: own + step]
        for row in rows:
            [float(number) for number in row[1:4]]
    except (ValueError, csv.Error) as error:
        raise InputError(f"{log} is damaged.", "Delete it, and go on without it.") from error
    aside = log.with_name(log.name + ".part")
    with aside.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([_COLUMNS, *rows])
    aside.replace(log)
