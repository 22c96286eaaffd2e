"""Unrolling: a network learns a fixed number of steps by backpropagation through all of them.

The baselines that DEQReg is compared with: memory grows with the steps, and nothing says what the
network does after the last one.

Source: Qiu et al., GraDIRN, MICCAI 2022; Zhang et al., RIIR, 2024; Balakrishnan et al., VoxelMorph,
TMI 2019.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor

from regcli.errors import RecipeError
from regcli.nets.recurrent import GradientNet
from regcli.nets.update import StepNet
from regcli.registration.equilibrium.force import march
from regcli.train.data.subjects import Subjects
from regcli.train.objective import Objective
from regcli.train.plan import TrainPlan
from regcli.train.steps.pairs import StepObjective, TrainingPair, training_pairs
from regcli.train.steps.training import OR_ZERO, STEP_DEFAULTS, StepTraining
from regcli.train.training import DICE_OF_PAIRS


@dataclass(frozen=True)
class UnrolledTraining(StepTraining):
    """A fixed number of steps of one network, learned by backpropagation through all of them.

    Attributes:
        network: A spec of registry.UPDATES.
        levels: As of `EquilibriumTraining`; gradients pass through all of them.
        steps: On each level.
        rising: How much more the last step of the finest level counts than its first; 0 if only
            the last counts.
        sigma: Of the smoothing of the displacement after every step, voxels.
        labels: As of `EquilibriumTraining`.
        smoothness: As of `EquilibriumTraining`.
        folds: As of `EquilibriumTraining`.
    """

    network: str = "update"
    levels: int = 3
    steps: int = 3
    rising: float = field(default=0.0, metadata=OR_ZERO)
    sigma: float = field(default=0.0, metadata=OR_ZERO)
    labels: float = field(default=0.0, metadata=OR_ZERO)
    smoothness: float = 0.1
    folds: float = field(default=0.0, metadata=OR_ZERO)

    defaults: ClassVar[Mapping[str, Any]] = STEP_DEFAULTS | {"adjoint": "unroll"}

    def check(self, plan: TrainPlan) -> None:
        """See Training."""
        net = self.usable_network(plan)
        if isinstance(net, GradientNet) and self.levels != len(net.rates):
            raise RecipeError(
                f"{plan.model}: {self.network} has weights for {len(net.rates)} levels, not for "
                f"{self.levels}.",
                f"Write levels={len(net.rates)}.",
            )

    def objectives(self, plan: TrainPlan, subjects: Subjects) -> list[Objective[Any, Any]]:
        """See Training."""
        return [Unrolling(training_pairs(subjects, plan), plan, self)]

    @property
    def scores(self) -> Mapping[str, str]:
        """See StepTraining."""
        return {Unrolling.name: DICE_OF_PAIRS}


@dataclass(frozen=True, eq=False)
class Unrolling(StepObjective):
    """Registration by a number of steps.

    Attributes:
        options: The steps and their training.
    """

    name: ClassVar[str] = "unrolled"

    options: UnrolledTraining

    def losses(self, net: StepNet, sample: TrainingPair, done: float) -> Iterator[Tensor]:
        """See Objective: one, of the steps on the finest level."""
        options = self.options
        levels = self.pairs.views(sample, options.levels, net.multiple)
        misfit = self.misfit(sample, levels[-1])
        losses, weights = [], []
        way = march(net, levels, options.steps, options.sigma, self.plan.autocast)
        for step, u in enumerate(way, 1):
            weights.append(_weight(step, options))
            if weights[-1]:
                losses.append(weights[-1] * misfit(u))
        yield torch.stack(losses).sum() / sum(weights)


def _weight(step: int, options: UnrolledTraining) -> float:
    """Weight of the loss after a step on the finest level, counted from 1."""
    if not options.rising:
        return float(step == options.steps)
    return options.rising ** ((step - 1) / max(options.steps - 1, 1))
