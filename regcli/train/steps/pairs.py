"""TrainingPairs: what a network of displacements learns from: two people, one kind of scan."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Generator, Tensor

from regcli.evaluate.metrics import dice
from regcli.image import Space
from regcli.nets.update import StepNet
from regcli.ops.sample import sample
from regcli.registration.equilibrium.force import View, march, spacings, views
from regcli.registration.pyramid import Prepared
from regcli.train.data.anatomy import Anatomy
from regcli.train.data.subjects import Subjects
from regcli.train.losses import fold_loss, map_loss, overlap_loss
from regcli.train.objective import Objective
from regcli.train.plan import TrainPlan
from regcli.train.steps.training import StepTraining
from regcli.train.synth.images import PairStyle, Sample, draw, generator_of, look
from regcli.transforms.grids import resample_field

_VALIDATION = 1 << 20  # steps from here on draw what is validated: no training step sees it
_COARSEST_MM, _NOISE = 4.0, 0.03  # what maps learn in noise is to blur it
_TYPES = 6  # whose overlap is judged at a time: each is a volume to be carried
_ELASTIC_MM = (1.2, 0.8, 0.4)  # besides what tells two people apart


@dataclass(frozen=True, eq=False)
class TrainingPair:
    """A pair of the same contrast.

    Attributes:
        fixed: An image.
        moving: Another.
        seed: Of what else is random about a step.
    """

    fixed: Sample
    moving: Sample
    seed: int


@dataclass(frozen=True, eq=False)
class TrainingPairs:
    """Draws training pairs, and scores displacements on them.

    Attributes:
        subjects: At least two to learn from; without landmarks, which elastic draws cannot carry.
        plan: What to do.
    """

    subjects: Subjects
    plan: TrainPlan

    def draw(self, generator: Generator) -> TrainingPair:
        """To learn from; on any thread."""
        return self._pair(self.subjects.some_pair(generator), generator, self.plan)

    @cached_property
    def validation(self) -> list[TrainingPair]:
        """Always the same, of whole anatomies whatever is trained on."""
        people, plan = self.subjects.validation, self.plan.holding(self.subjects.whole_mm)
        return [
            self._pair((people[f], people[m]), generator_of(0, _VALIDATION + n), plan)
            for n, (f, m) in enumerate(self.subjects.pairs)
        ]

    def views(self, pair: TrainingPair, levels: int, multiple: int) -> list[View]:
        """A pair on the grids of a network, coarse to fine."""
        fixed, moving = (self._prepared(one) for one in (pair.fixed, pair.moving))
        still = torch.eye(4, dtype=torch.float64)
        steps = spacings(self.plan.spacing_mm, levels)
        return views(fixed, moving, still, spacings_mm=steps, multiple=multiple)

    def score(self, pair: TrainingPair, u: Tensor, view: View, smoothness: float) -> float:
        """Score of a displacement on a view's grid: mean Dice of the types, or minus the loss."""
        if self.subjects.vocabulary.count == 1:
            return -float(map_loss(view.fixed, view.moving, u, view.shown, smoothness))
        own = self._prepared(pair.fixed).space
        fine = resample_field(u, view.space, own)
        truth, types = self.subjects.vocabulary.common(pair.fixed.types, pair.moving.types)
        moved = sample(types, fine.cpu(), interpolation="nearest")
        overlap = dice(truth[0, 0], moved[0, 0])
        return sum(overlap.values()) / max(len(overlap), 1)

    def some_types(self, pair: TrainingPair, view: View) -> tuple[Tensor, Tensor]:
        """(1, 1, I, J, K) int64 each, on the view's grid; all other types count as background."""
        there = torch.cat([pair.fixed.types.unique(), pair.moving.types.unique()]).unique()
        there, generator = there[there > 0], torch.Generator().manual_seed(pair.seed)
        chosen = there[torch.randperm(len(there), generator=generator)[:_TYPES]]
        own = self._prepared(pair.fixed).space
        matrix = (torch.linalg.inv(own.affine) @ view.space.affine)[:3]
        one, other = (
            sample(
                torch.where(torch.isin(s.types, chosen), s.types, 0),
                matrix=matrix,
                shape=view.space.shape,
                interpolation="nearest",
                border=False,
            ).to(view.fixed.device)
            for s in (pair.fixed, pair.moving)
        )
        return one, other

    def _pair(
        self, people: tuple[Anatomy, Anatomy], generator: Generator, plan: TrainPlan
    ) -> TrainingPair:
        vocabulary = self.subjects.vocabulary
        drawing = replace(
            plan.drawing,
            cut=0.0,
            turn_rad=0.03,
            scale=0.03,
            shift_mm=1.5,
            mirror=False,
            elastic_mm=_ELASTIC_MM,
            coarsest_mm=_COARSEST_MM,
            noise=_NOISE,
        )
        shared = look(people[0], vocabulary, drawing, generator)
        fixed, moving = (self._one(who, drawing, shared, generator) for who in people)
        return TrainingPair(fixed, moving, int(torch.randint(1 << 31, (), generator=generator)))

    def _one(self, of: Anatomy, drawing, shared: PairStyle, generator: Generator) -> Sample:
        return draw(of, self.subjects.vocabulary, drawing, generator, shared)

    def _prepared(self, sample: Sample) -> Prepared:
        i, j, k = sample.image.shape[2:]
        mm = torch.diag(torch.tensor([*[self.plan.spacing_mm] * 3, 1.0], dtype=torch.float64))
        device = self.plan.torch_device
        weight = None if sample.weight is None else sample.weight.to(device)
        return Prepared(Space((i, j, k), mm), sample.image.to(device), weight)


def training_pairs(subjects: Subjects, plan: TrainPlan) -> TrainingPairs:
    """Pairs of subjects without their landmarks, which elastic draws cannot carry."""
    training, validation = (
        [replace(one, points=None) for one in people]
        for people in (subjects.training, subjects.validation)
    )
    return TrainingPairs(replace(subjects, training=training, validation=validation), plan)


@dataclass(frozen=True, eq=False)
class StepObjective(Objective[TrainingPair, StepNet]):
    """Registration by steps.

    Attributes:
        pairs: What to learn from.
        plan: What to do.
        options: The steps and their training.
    """

    pairs: TrainingPairs
    plan: TrainPlan
    options: StepTraining

    def draw(self, generator: Generator, step: int) -> TrainingPair:
        """See Objective."""
        return self.pairs.draw(generator)

    def validate(self, net: StepNet) -> tuple[float, dict[str, Any]]:
        """See Objective: after as many plain steps as in training, on every level."""
        scores, options = [], self.options
        for pair in self.pairs.validation:
            levels = self.pairs.views(pair, options.levels, net.multiple)
            *_, u = march(net, levels, options.steps, options.sigma, self.plan.autocast)
            scores.append(self.pairs.score(pair, u, levels[-1], options.smoothness))
        return sum(scores) / len(scores), {}

    def misfit(self, pair: TrainingPair, view: View) -> Callable[[Tensor], Tensor]:
        """The loss on a view's grid, as a function of the displacement: ().

        Args:
            pair: To register.
            view: The pair on a level; of its types, some are chosen by the pair's seed.
        """
        options, types = self.options, None
        if options.labels > 0 and self.pairs.subjects.vocabulary.count > 1:
            types = self.pairs.some_types(pair, view)
        if types is not None and not any(bool(t.any()) for t in types):
            types = None

        def loss(u: Tensor) -> Tensor:
            total = map_loss(view.fixed, view.moving, u, view.shown, options.smoothness)
            if options.folds:
                total = total + options.folds * fold_loss(u)
            return total if types is None else total + options.labels * overlap_loss(*types, u)

        return loss
