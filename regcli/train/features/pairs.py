"""Pairs: a network learns features whose registration aligns anatomy, through the solver's optimum.

A pair is drawn, its features are registered without a graph, and the displacement is attached to
the features by an adjoint: what the labels then ask of the displacement reaches the network.

Source: Jena et al., DIO, 2025.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Generator, Tensor
from torch.nn.functional import interpolate

from regcli.energy.features import ONE
from regcli.energy.mind import MIND
from regcli.energy.regularizers import Diffusion
from regcli.evaluate.metrics import dice
from regcli.image import Space
from regcli.nets.base import FeatureNet
from regcli.ops.field import resize_field
from regcli.ops.mind import ONE as MIND_ONE
from regcli.ops.sample import sample
from regcli.recipe import RegisterRecipe
from regcli.registration.features.extract import FeaturePyramid, extract
from regcli.registration.force import GaussNewtonForce
from regcli.registration.levels import Watch
from regcli.registration.multiresolution import paired
from regcli.registration.normalize import FOREGROUND
from regcli.registration.presets import deformable
from regcli.registration.pyramid import Prepared
from regcli.registry import ADJOINTS, TRANSFORMS, build
from regcli.solve.adjoint import Adjoint, Energy
from regcli.solve.descent import Relaxation
from regcli.train.data.anatomy import Anatomy
from regcli.train.data.subjects import Subjects
from regcli.train.features.types import VALIDATION, usual
from regcli.train.losses import (
    fold_loss,
    landmark_loss,
    likeness_loss,
    overlap_loss,
    segmentation_loss,
)
from regcli.train.objective import Objective
from regcli.train.plan import TrainPlan
from regcli.train.synth.images import Sample, draw, generator_of

_MIND = MIND(weight=0.5)  # between what same and different contrasts are registered with
_STEPS = (15, 10, 6)  # of levels 4, 2 and 1, without a graph
# From coarse to fine in training, too: level 1 takes most of the time, and begins where 2 ends.
_FINEST = 0.3  # share of pairs that are solved on level 1 as well at the end; at first none
_LEVELS = ((0.5, 0.0), (0.5, 0.5), (1.0, 1.0))  # weights of the loss on 4, 2 and 1, first and last
_FOLDS, _LIKENESS, _MM = 5.0, 1.0, 0.1  # weights of losses; overlap's is 1


@dataclass(frozen=True, eq=False)
class Drawn:
    """A pair.

    Attributes:
        fixed: An image.
        moving: Another.
        chance: In [0, 1), decides whether the finest level is solved.
    """

    fixed: Sample
    moving: Sample
    chance: float


@dataclass(frozen=True, eq=False)
class Pairs(Objective[Drawn, FeatureNet]):
    """Registration.

    Attributes:
        subjects: At least two to learn from.
        plan: What to do.
    """

    name: ClassVar[str] = "pairs"

    subjects: Subjects
    plan: TrainPlan

    def draw(self, generator: Generator, step: int) -> Drawn:
        """See Objective."""
        pair = self.subjects.some_pair(generator)
        fixed, moving = (self._draw_one(who, generator) for who in pair)
        return Drawn(fixed, moving, float(torch.rand((), generator=generator)))

    def losses(self, net: FeatureNet, sample: Drawn, done: float) -> Iterator[Tensor]:
        """See Objective: one."""
        yield self.loss(net, sample, done)

    def loss(self, net: FeatureNet, sample: Drawn, done: float) -> Tensor:
        """The loss of a pair, () with a graph."""
        fixed, moving = sample.fixed, sample.moving
        finest = sample.chance < done * _FINEST
        scores = [self._scores(net, one.image) for one in (fixed, moving)]
        total = torch.zeros((), device=self.plan.torch_device)
        if self._labelled:  # what a type looks like is not to be forgotten
            for s, one in zip(scores, (fixed, moving), strict=True):
                types, sets = one.types.to(total.device), self.subjects.vocabulary.sets
                total = total + 0.5 * segmentation_loss(s, types, sets)
        images, last = [self._prepared(s) for s in (fixed, moving)], None
        for level in range(3 if finest else 2):
            shares = [torch.softmax(s[level], dim=1) for s in scores]
            last = self._equilibrium(level, images, shares, last)
            weight = (1 - done) * _LEVELS[level][0] + done * _LEVELS[level][1]
            if weight:
                total = total + weight * self._misfit(fixed, moving, self._fine(last))
        return total

    def validate(self, net: FeatureNet) -> tuple[float, dict[str, Any]]:
        """See Objective: mean Dice of the types after registration, or minus the loss."""
        scores, seen = [], []
        whole = replace(self, plan=self.plan.holding(self.subjects.whole_mm))
        for n, (f, m) in enumerate(self.subjects.pairs):
            draws = [
                whole._draw_one(self.subjects.validation[who], generator_of(1 + k, VALIDATION + n))
                for k, who in enumerate((f, m))
            ]
            images = [whole._prepared(drawn) for drawn in draws]
            found = [extract(net, image, self.plan.gains) for image in images]
            seen += [one.volumes() for one in found]
            scores.append(self._score(draws, images, found))
        return sum(scores) / len(scores), {"volumes": usual(seen)}

    def _draw_one(self, of: Anatomy, generator: Generator) -> Sample:
        """An image about as well aligned as a linear stage leaves it; landmarks stay exact."""
        drawing = replace(
            # not mirrored: the sides of a pair correspond; not cut: so does what they show
            self.plan.drawing,
            cut=0.0,
            turn_rad=0.05,
            scale=0.04,
            shift_mm=2.0,
            mirror=False,
        )
        if of.image is not None:
            drawing = replace(drawing, elastic_mm=(0.0, 0.0, 0.0))
        return draw(of, self.subjects.vocabulary, drawing, generator)

    def _scores(self, net: FeatureNet, image: Tensor) -> list[Tensor]:
        image = image.to(self.plan.torch_device)
        scores = net(image.to(self.plan.dtype), image > FOREGROUND)
        return [s.to(torch.float32) for s in scores]

    def _equilibrium(
        self, level: int, images: list[Prepared], shares: list[Tensor], start: Tensor | None
    ) -> Tensor:
        """The displacement of a level, with gradients for the probabilities; from a coarser one's.

        Gradients do not pass from level to level: each starts close to where it ends.
        """
        spacing, gain = self.plan.spacing_mm * 2 ** (2 - level), self.plan.gains[level]
        one, other = (image.at(spacing) for image in images)
        bytes_ = [(p.detach() * ONE).round_().to(torch.uint8) for p in shares]
        pair = paired(one, other, torch.eye(4, dtype=torch.float64))
        pair = replace(pair, features=(bytes_[0], bytes_[1]), gain=gain)
        transform = build(TRANSFORMS, self.plan.transform)
        smooth = Diffusion(self.plan.smoothness * Diffusion().weight)
        y = transform.identity(one.space, one.data.device)
        if start is not None:
            y = resize_field(start.detach(), one.space.shape)
        with torch.no_grad():
            problem = GaussNewtonForce((_MIND,), (smooth,)).problem(pair, transform)
            y = Relaxation(_STEPS[level], 1e-4).run(problem, y, lambda share: True).y
            own = math.sqrt(_MIND.weight) / MIND_ONE
            seen = [own * _MIND.describe(image.data) for image in (one, other)]
        F, M = (torch.cat([d, gain**0.5 * p], 1) for d, p in zip(seen, shares, strict=True))
        energy = Energy(one.weights, smooth.stiffness(one.space.spacing))
        adjoint: Adjoint = build(ADJOINTS, self.plan.adjoint)
        return adjoint.attach(y, M, F, energy)

    def _fine(self, u: Tensor) -> Tensor:
        """A level's displacement on the finest grid, in its voxels."""
        ratios = [
            (n - 1) / max(m - 1, 1) for n, m in zip(self.plan.shape, u.shape[2:], strict=True)
        ]
        fine = interpolate(u, self.plan.shape, mode="trilinear", align_corners=True)
        return fine * torch.tensor(ratios).to(u).view(1, 3, 1, 1, 1)

    @property
    def _labelled(self) -> bool:
        return self.subjects.vocabulary.count > 1

    def _prepared(self, sample: Sample) -> Prepared:
        mm = torch.diag(torch.tensor([*[self.plan.spacing_mm] * 3, 1.0], dtype=torch.float64))
        device = self.plan.torch_device
        weight = None if sample.weight is None else sample.weight.to(device)
        return Prepared(Space(self.plan.shape, mm), sample.image.to(device), weight)

    def _misfit(self, fixed: Sample, moving: Sample, u: Tensor) -> Tensor:
        """The loss of a displacement, (): by labels and landmarks, or else by the images."""
        loss = _FOLDS * fold_loss(u)
        if self._labelled:
            types = self.subjects.vocabulary.common(fixed.types, moving.types)
            loss = loss + overlap_loss(types[0].to(u.device), types[1].to(u.device), u)
        if fixed.points is not None and moving.points is not None:
            mm = _MM * self.plan.spacing_mm
            loss = loss + mm * landmark_loss(fixed.points, moving.points, u)
        elif not self._labelled:
            f, m = (s.image.to(u.device) for s in (fixed, moving))
            weight = torch.ones_like(u[:, :1]) if fixed.weight is None else fixed.weight.to(u)
            loss = loss + _LIKENESS * likeness_loss(f, m, u, weight)
        return loss

    def _score(
        self, draws: list[Sample], images: list[Prepared], found: list[FeaturePyramid]
    ) -> float:
        """The score of the registration that a user would get with the present weights."""
        (fixed, moving), still = draws, torch.eye(4, dtype=torch.float64)
        registration = deformable(RegisterRecipe(), (_MIND,), images[0])
        watch = Watch(lambda stage, share: None)
        u, _, _ = registration.run(images[0], images[1], still, watch, (found[0], found[1]))
        if not self._labelled:
            return -float(self._misfit(fixed, moving, u))
        truth, types = self.subjects.vocabulary.common(fixed.types, moving.types)
        moved = sample(types, u, interpolation="nearest")
        overlap = dice(truth[0, 0], moved[0, 0].cpu())
        return sum(overlap.values()) / max(len(overlap), 1)
