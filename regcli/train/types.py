"""Types: a network learns to tell the structures of label maps apart, in any contrast."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Generator, Tensor

from regcli.evaluate.metrics import dice
from regcli.image import Space
from regcli.models.features import describe
from regcli.models.prepare import FOREGROUND
from regcli.models.pyramid import Prepared
from regcli.models.trust import LEAST_ML
from regcli.nets.base import FeatureNet
from regcli.train.anatomy import Anatomy
from regcli.train.drawing import Drawing
from regcli.train.losses import segmentation_loss
from regcli.train.plan import TrainPlan
from regcli.train.subjects import Subjects
from regcli.train.synth import Sample, draw, generator_of
from regcli.train.task import Task

_IMAGES = 4  # of each validation subject
VALIDATION = 1 << 20  # steps from here on draw what is validated: no training step sees it


@dataclass(frozen=True, eq=False)
class Types(Task[Sample, FeatureNet]):
    """Segmentation, as a warm start: no solver in the loop.

    Attributes:
        subjects: With label maps.
        plan: What to do.
    """

    name: ClassVar[str] = "types"

    subjects: Subjects
    plan: TrainPlan

    @property
    def steps(self) -> int:
        """See Task."""
        return self.plan.warm_steps

    @property
    def rate(self) -> float:
        """See Task."""
        return self.plan.warm_rate

    def draw(self, generator: Generator) -> Sample:
        """See Task."""
        subjects = self.subjects
        who = int(torch.randint(len(subjects.training), (), generator=generator))
        return _drawn(subjects.training[who], subjects, self.plan.drawing, generator)

    def losses(self, net: FeatureNet, sample: Sample, done: float) -> Iterator[Tensor]:
        """See Task: one."""
        image, types = (t.to(self.plan.torch_device) for t in (sample.image, sample.types))
        with self.plan.autocast():
            scores = net(image, image > FOREGROUND)
        yield segmentation_loss([s.to(torch.float32) for s in scores], types)

    def validate(self, net: FeatureNet) -> tuple[float, dict[str, Any]]:
        """See Task: mean Dice of the types, and `models.trust.Volumes` of what was found."""
        subjects = self.subjects
        # whole anatomies, whatever was trained on: theirs are the usual volumes
        plan = self.plan.holding(subjects.whole_mm)
        drawing = replace(plan.drawing, cut=0.0)
        scores, seen = [], []
        mm = torch.diag(torch.tensor([*[plan.spacing_mm] * 3, 1.0], dtype=torch.float64))
        for n in range(_IMAGES * len(subjects.validation)):
            who = subjects.validation[n % len(subjects.validation)]
            sample = _drawn(who, subjects, drawing, generator_of(0, VALIDATION + n))
            image = Prepared(Space(plan.shape, mm), sample.image.to(plan.torch_device))
            found = describe(net, image, plan.gains)
            overlap = dice(sample.types[0, 0], found.levels[-1][0].argmax(dim=0).cpu())
            scores.append(sum(overlap.values()) / max(len(overlap), 1))
            seen.append(found.volumes())
        return sum(scores) / len(scores), {"volumes": usual(seen)}


def _drawn(who: Anatomy, subjects: Subjects, drawing: Drawing, generator: Generator) -> Sample:
    """A sample without landmarks: types have none, and what is elastic cannot carry them."""
    return draw(replace(who, points=None), subjects.words, drawing, generator)


def usual(volumes: list[list[float]]) -> dict[str, list[float]]:
    """`models.trust.Volumes` of what a network found.

    Args:
        volumes: mL by type, of some images.
    """
    logarithms = torch.tensor(volumes).clamp(min=LEAST_ML).log()
    spread, means = torch.std_mean(logarithms, dim=0)
    return {"means": means.tolist(), "deviations": spread.tolist()}
