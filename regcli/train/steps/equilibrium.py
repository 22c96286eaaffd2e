"""Equilibria: a network learns steps whose fixed point registers a pair (DEQReg).

A pair is drawn and the network's own map iterated without a graph. Some of the states that it
passes, and the last one, are then taken a few steps further with a graph, one after another: what
the loss says there is all that the network learns from, so memory does not grow with the steps.

Source: Zhang et al., DEQReg, MICCAI 2025.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor

from regcli.errors import RecipeError
from regcli.nets.update import StepNet
from regcli.ops.filter import gaussian
from regcli.registration.equilibrium.force import LearnedForce
from regcli.registry import STEP_ADJOINTS, build
from regcli.solve.step_adjoint import ImplicitStep, squared_slopes, trajectory
from regcli.train.data.subjects import Subjects
from regcli.train.objective import Objective
from regcli.train.plan import TrainPlan
from regcli.train.steps.pairs import StepObjective, TrainingPair, training_pairs
from regcli.train.steps.training import OR_ZERO, STEP_DEFAULTS, StepTraining
from regcli.train.training import DICE_OF_PAIRS
from regcli.transforms.grids import resample_field

_CONTRACTION = 1.0  # of distances, by a step at the last state: what exceeds it is penalized
_SMOOTH = 2.0  # voxels: random directions that the smoothing within the map leaves alone
_SCORE = DICE_OF_PAIRS.replace("pairs", "pairs with as many steps as in training")
_COARSE = 0.5  # weight of the loss on a level that a finer one follows


@dataclass(frozen=True)
class EquilibriumTraining(StepTraining):
    """DEQReg: one network, iterated to a fixed point.

    Nearest to the paper's: deq:levels=1,sigma=0,jacobian=0,folds=0,network=update-full,steps=48.

    Attributes:
        network: A spec of registry.UPDATES.
        levels: Voxel sizes on which the network is iterated, each half of the one before; a third,
            of 8 mm in a brain, misleads where people differ much.
        steps: Iterations on each level in training.
        states: How many states on the way to the last are corrected, too.
        gamma: Their weight in the loss.
        sigma: Of the smoothing within the map, voxels.
        jacobian: Weight of the map's slopes at its last state, as far as it does not contract.
        labels: Weight of the overlap of structures, where label maps tell them.
        smoothness: Weight of the squared length of the displacement's differences.
        folds: Weight of how far determinants fall below .2; of its mean over voxels.

    Source: Zhang et al., DEQReg, MICCAI 2025.
    """

    network: str = "guided"
    levels: int = 2
    steps: int = 24
    states: int = field(default=3, metadata=OR_ZERO)
    gamma: float = 0.5
    sigma: float = field(default=0.6, metadata=OR_ZERO)
    jacobian: float = field(default=0.5, metadata=OR_ZERO)
    labels: float = field(default=0.0, metadata=OR_ZERO)
    smoothness: float = 0.1
    folds: float = field(default=5.0, metadata=OR_ZERO)

    defaults: ClassVar[Mapping[str, Any]] = STEP_DEFAULTS | {"adjoint": "phantom:steps=2,rate=1"}

    def check(self, plan: TrainPlan) -> None:
        """See Training."""
        net = self.usable_network(plan)
        if net.sense in ("slopes", "derived"):
            raise RecipeError(
                f"{plan.model}: {self.network} has no equilibrium: its steps depend on more than "
                "the displacement.",
                "Use guided, update or update-full.",
            )
        if self.states >= self.steps:
            raise RecipeError(
                f"{plan.model}: {self.states} states before the last of {self.steps} steps.",
                "Give fewer states, or more steps.",
            )
        if plan.adjoint.partition(":")[0] not in STEP_ADJOINTS:
            raise RecipeError(
                f"--adjoint {plan.adjoint} is not for --model deq.",
                "Use phantom:steps=K,rate=X, jfb or ift:iterations=N.",
            )
        adjoint = build(STEP_ADJOINTS, plan.adjoint)
        if isinstance(adjoint, ImplicitStep) and net.sense != "none":
            raise RecipeError(
                f"--adjoint ift: no gradients pass through what {self.network} senses.",
                "Use phantom, or deq:network=update.",
            )

    def objectives(self, plan: TrainPlan, subjects: Subjects) -> list[Objective[Any, Any]]:
        """See Training."""
        return [Equilibria(training_pairs(subjects, plan), plan, self)]

    @property
    def scores(self) -> Mapping[str, str]:
        """See StepTraining."""
        return {Equilibria.name: _SCORE}


@dataclass(frozen=True, eq=False)
class Equilibria(StepObjective):
    """Registration by a fixed point.

    Attributes:
        options: The map and its training.
    """

    name: ClassVar[str] = "equilibria"

    options: EquilibriumTraining

    def losses(self, net: StepNet, sample: TrainingPair, done: float) -> Iterator[Tensor]:
        """See Objective: one for every state that is corrected, and the map's slopes."""
        options, adjoint = self.options, build(STEP_ADJOINTS, self.plan.adjoint)
        probe = torch.Generator().manual_seed(sample.seed)
        levels = self.pairs.views(sample, options.levels, net.multiple)
        u = levels[0].start
        for number, view in enumerate(levels):
            if number:
                u = resample_field(u, levels[number - 1].space, view.space)
            g = LearnedForce(net, view, options.sigma, autocast=self.plan.autocast).onward
            weight = 1.0 if number == len(levels) - 1 else _COARSE
            misfit = self.misfit(sample, view)
            *visited, u = trajectory(g, u, options.steps, options.states)
            for state, gamma in (*((v, options.gamma) for v in visited), (u, 1.0)):
                share = weight * gamma
                yield share * misfit(adjoint.attach(g, state))
            if options.jacobian:
                with torch.no_grad():
                    step = g(u) - u
                # where it converges slowest, and along some smooth direction
                for v in (step, gaussian(torch.randn(u.shape, generator=probe).to(u), _SMOOTH)):
                    excess = (squared_slopes(g, u, v) - _CONTRACTION**2).clamp(min=0)
                    yield 0.5 * weight * options.jacobian * excess
