"""FeatureTraining: a feature network (dio) learns from label maps and through registrations."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from torch import Tensor, nn

from regcli.errors import InputError, RecipeError
from regcli.io.weights import facts as header
from regcli.io.weights import find, tensors
from regcli.nets.base import fitting
from regcli.registration.features.model import assemble, network
from regcli.registry import ADJOINTS, NETWORKS, TRANSFORMS, build, parse
from regcli.train.data.subjects import Subjects
from regcli.train.features.pairs import Pairs
from regcli.train.features.types import Types
from regcli.train.objective import Objective
from regcli.train.plan import TrainPlan
from regcli.train.training import DICE_OF_PAIRS, Summary, Training, check_pairs

_DENSE = ("diffeo", "freeform")
_CHANNELS = 16  # of features that no labels name


@dataclass(frozen=True)
class FeatureTraining(Training):
    """See the module."""

    defaults: ClassVar[Mapping[str, Any]] = {}

    def check(self, plan: TrainPlan) -> None:
        """See Training."""
        parse(NETWORKS, plan.network)
        if plan.adjoint.partition(":")[0] == "unroll":
            raise RecipeError(
                "--adjoint unroll does not differentiate the solver that registers.",
                "Use gn-ift, ift, phantom:steps=K or jfb; benchmarks/adjoints.py compares unroll.",
            )
        build(ADJOINTS, plan.adjoint)
        build(TRANSFORMS, plan.transform)
        if plan.transform.partition(":")[0] not in _DENSE:
            raise RecipeError(
                f"--transform {plan.transform}: features are trained with dense maps.",
                f"Use {' or '.join(_DENSE)}; registrations may use any other.",
            )
        multiple = self.multiple(plan)
        for shape in (plan.shape, *(changes.get("shape", ()) for _, changes in plan.stages)):
            fits = tuple(max(fitting(n, multiple), multiple + 1) for n in shape)
            if any(shape) and fits != shape:
                raise RecipeError(
                    f"--shape {'x'.join(map(str, shape))} does not suit the network.",
                    f"Use {'x'.join(map(str, fits))}: multiples of {multiple} and one more.",
                )

    def multiple(self, plan: TrainPlan) -> int:
        """See Training."""
        return network(plan.network, 2).multiple

    def completed(self, plan: TrainPlan, subjects: Subjects) -> TrainPlan:
        """See Training."""
        if strange := sorted(set(plan.muted) - set(subjects.vocabulary.names[1:])):
            raise RecipeError(
                f"muted: '{strange[0]}' is no type.", "Name some that are declared in [types]."
            )
        if len(set(plan.muted)) < len(plan.muted):
            raise RecipeError("muted names a type twice.", "Leave one of them out.")
        if len(plan.muted) + 2 > subjects.vocabulary.count > 1:
            raise RecipeError("muted leaves no type to register by.", "Leave one out of it.")
        if subjects.vocabulary.count == 1:
            plan = replace(plan, warm_steps=0)
        if plan.warm_steps + plan.steps == 0:
            labels = subjects.vocabulary.count > 1
            why = "--warm-steps 0 and" if labels else "no labels to warm up with and"
            raise InputError(f"With {why} --steps 0 nothing is learned.", "Give --steps.")
        if plan.warm_steps and not subjects.validation:
            raise InputError(
                "There is no case to validate with.",
                "Name some with --validation, or in the collections of a recipe.",
            )
        if plan.steps:
            check_pairs(subjects, ", or give --steps 0")
        return plan

    def objectives(self, plan: TrainPlan, subjects: Subjects) -> list[Objective[Any, Any]]:
        """See Training."""
        objectives: list[Objective[Any, Any]] = []
        if plan.warm_steps:
            objectives.append(Types(subjects, plan))
        if plan.steps:
            objectives.append(Pairs(subjects, plan))
        return objectives

    def make_network(self, plan: TrainPlan, subjects: Subjects) -> nn.Module:
        """See Training."""
        return network(plan.network, _channels(subjects))

    def facts(self, plan: TrainPlan, subjects: Subjects) -> dict[str, Any]:
        """See Training; `registration.features.model.assemble` reads them."""
        vocabulary = subjects.vocabulary
        return {
            "model": "dio",
            "network": plan.network,
            "channels": _channels(subjects),
            "spacing_mm": plan.spacing_mm,
            "gains": list(plan.gains),
            "smoothness": plan.smoothness,
            "codes": {str(code): type_ for code, type_ in vocabulary.types.items()},
            "types": list(vocabulary.names),
            "muted": list(plan.muted),
        }

    def started(
        self, plan: TrainPlan, subjects: Subjects
    ) -> tuple[TrainPlan, dict[str, Tensor] | None]:
        """See Training: gains and smoothness are what suits the features that are begun with."""
        if not plan.start:
            return plan, None
        file, facts = find(plan.start), self.facts(plan, subjects)
        begun = header(file.path)
        for key in ("network", "channels", "codes"):
            if begun.get(key) != facts[key]:
                raise InputError(
                    f"--start {plan.start}: its {key} differ from what the data asks for.",
                    "Leave --start out, or train on data with the same labels.",
                )
        start = assemble(file.name, file.sha256, begun, tensors(file.path))
        plan = replace(plan, gains=start.gains, smoothness=start.smoothness)
        return plan, start.net.state_dict()

    def summary(self, plan: Mapping[str, Any]) -> Summary:
        """See Training."""
        return Summary(
            f"a {plan['network']} for registration (dio)",
            f"{plan['warm_steps']} steps on types, {plan['steps']} through registrations",
            "elsewhere --model auto falls back on the classical registration",
            {
                Types.name: "mean Dice of the types that it finds in images of the held-out "
                "subjects",
                Pairs.name: DICE_OF_PAIRS,
            },
        )


def _channels(subjects: Subjects) -> int:
    return subjects.vocabulary.count if subjects.vocabulary.count > 1 else _CHANNELS
