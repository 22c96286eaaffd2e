"""StepTraining: the training of a network of steps: DEQReg's, and the unrolled ones beside it."""

from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from regcli.errors import InputError, RecipeError
from regcli.io.weights import facts as header
from regcli.io.weights import find, tensors
from regcli.nets.recurrent import GradientNet
from regcli.registration.equilibrium.model import (
    MOST_LEVELS,
    MOST_STEPS,
    assemble,
    step_network,
)
from regcli.registry import LEARNERS, STEP_ADJOINTS, build
from regcli.solve.step_adjoint import ImplicitStep
from regcli.train.data.subjects import Subjects
from regcli.train.objective import Objective
from regcli.train.plan import TrainPlan
from regcli.train.steps.equilibrium import Equilibria
from regcli.train.steps.learners import Equilibrium, Steps, Unrolled
from regcli.train.steps.pairs import TrainingPairs
from regcli.train.steps.unrolled import Unrolling
from regcli.train.training import Training, check_pairs


class StepTraining(Training):
    """See the module."""

    def check(self, plan: TrainPlan) -> None:
        """See Training."""
        if plan.muted:
            raise RecipeError(
                f"muted has no effect with {plan.model}: steps hear no types.", "Leave it out."
            )
        recipe: Steps = build(LEARNERS, plan.model)
        net, name = step_network(recipe.network), plan.model.partition(":")[0]
        if recipe.levels > MOST_LEVELS or recipe.steps > MOST_STEPS:
            raise RecipeError(
                f"{plan.model}: {recipe.levels} levels of {recipe.steps} steps.",
                f"At most {MOST_LEVELS} of {MOST_STEPS} can be registered with.",
            )
        if isinstance(recipe, Equilibrium) and net.sense in ("slopes", "derived"):
            raise RecipeError(
                f"{plan.model}: {recipe.network} has no equilibrium: its steps depend on more than "
                "the displacement.",
                "Use guided, update or update-full.",
            )
        if isinstance(net, GradientNet) and recipe.levels != len(net.rates):
            raise RecipeError(
                f"{plan.model}: {recipe.network} has weights for {len(net.rates)} levels, not for "
                f"{recipe.levels}.",
                f"Write levels={len(net.rates)}.",
            )
        if isinstance(recipe, Unrolled):
            if plan.adjoint != "unroll":
                raise RecipeError(
                    f"--adjoint {plan.adjoint} has no effect with --model {name}.", "Leave it out."
                )
            return
        if recipe.states >= recipe.steps:
            raise RecipeError(
                f"{plan.model}: {recipe.states} states before the last of {recipe.steps} steps.",
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
                f"--adjoint ift: no gradients pass through what {recipe.network} senses.",
                "Use phantom, or deq:network=update.",
            )

    def completed(self, plan: TrainPlan, subjects: Subjects) -> TrainPlan:
        """See Training."""
        if plan.steps == 0:
            raise InputError("With --steps 0 nothing is learned.", "Give --steps.")
        check_pairs(plan, subjects)
        return plan

    def objectives(self, plan: TrainPlan, subjects: Subjects) -> list[Objective[Any, Any]]:
        """See Training."""
        recipe: Steps = build(LEARNERS, plan.model)
        training, validation = (  # elastic draws cannot carry landmarks
            [replace(one, points=None) for one in people]
            for people in (subjects.training, subjects.validation)
        )
        pairs = TrainingPairs(replace(subjects, training=training, validation=validation), plan)
        if isinstance(recipe, Equilibrium):
            return [Equilibria(pairs, plan, recipe)]
        return [Unrolling(pairs, plan, recipe)]

    def network(self, plan: TrainPlan, subjects: Subjects) -> nn.Module:
        """See Training."""
        return step_network(build(LEARNERS, plan.model).network)

    def facts(self, plan: TrainPlan, subjects: Subjects) -> dict[str, Any]:
        """See Training; `registration.equilibrium.model.assemble` reads them."""
        recipe: Steps = build(LEARNERS, plan.model)
        return {
            "model": plan.model.partition(":")[0],
            "network": recipe.network,
            "spacing_mm": plan.spacing_mm,
            "levels": recipe.levels,
            "steps": recipe.steps,
            "sigma": recipe.sigma,
            "recipe": vars(recipe),
        }

    def started(
        self, plan: TrainPlan, subjects: Subjects
    ) -> tuple[TrainPlan, dict[str, Tensor] | None]:
        """See Training."""
        if not plan.start:
            return plan, None
        file = find(plan.start)
        start = assemble(file.name, file.sha256, header(file.path), tensors(file.path))
        wanted, begun = build(LEARNERS, plan.model).network, header(file.path)["network"]
        if wanted != begun:
            raise InputError(
                f"--start {plan.start} holds a network {begun}, not {wanted}.",
                "Leave --start out, or train the model that it is of.",
            )
        return plan, start.net.state_dict()
