"""Types: a network learns to tell the structures of label maps apart, in any contrast."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Generator, Tensor, nn

from regcli.evaluate.metrics import dice
from regcli.image import Space
from regcli.nets.base import Corner, FeatureNet
from regcli.registration.features.extract import extract
from regcli.registration.features.trust import LEAST_ML
from regcli.registration.normalize import FOREGROUND
from regcli.registration.pyramid import Prepared
from regcli.train.data.anatomy import Anatomy
from regcli.train.data.subjects import Subjects
from regcli.train.losses import segmentation_loss
from regcli.train.muon import Muon
from regcli.train.objective import Objective
from regcli.train.plan import TrainPlan
from regcli.train.synth.drawing import Drawing
from regcli.train.synth.images import Sample, draw, generator_of

_IMAGES = 2  # of each validation subject, and of each kind
_KNOWN = 0.8  # of the Dice of the best: images that score less are strange to a network
VALIDATION = 1 << 20  # steps from here on draw what is validated: no training step sees it
# T1 of usual resolution: two subjects' of these are registered more than all else
CLEAN = {"contrasts": (1.0, 0.0, 0.0, 0.0), "random_contrast": 0.0, "thick": 0.0}


@dataclass(frozen=True, eq=False)
class Lesson:
    """An image, and where a network's finest level is asked about it.

    Attributes:
        sample: The image and its types.
        finest: First of the voxels, every second along each axis: neighbours say almost the same,
            and all of them would take half as much time again.
    """

    sample: Sample
    finest: Corner


@dataclass(frozen=True, eq=False)
class Types(Objective[Lesson, FeatureNet]):
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
        """See Objective."""
        return self.plan.warm_steps

    @property
    def rate(self) -> float:
        """See Objective."""
        return self.plan.warm_rate

    def optimizer(self, net: nn.Module) -> torch.optim.Optimizer:
        """See Objective."""
        return Muon(net, self.rate, self.plan.decay)

    def draw(self, generator: Generator, step: int) -> Lesson:
        """See Objective."""
        subjects = self.subjects
        who = int(torch.randint(len(subjects.training), (), generator=generator))
        drawing = self.plan.drawing_at(step)
        i, j, k = torch.randint(2, (3,), generator=generator).tolist()
        return Lesson(_drawn(subjects.training[who], subjects, drawing, generator), (i, j, k))

    def losses(self, net: FeatureNet, sample: Lesson, done: float) -> Iterator[Tensor]:
        """See Objective: one."""
        seen, device = sample.sample, self.plan.torch_device
        image, types = seen.image.to(device), seen.types.to(device)
        scores = net(image.to(self.plan.dtype), image > FOREGROUND, sample.finest)
        yield segmentation_loss(scores, types, self.subjects.vocabulary.sets, sample.finest)

    def validate(self, net: FeatureNet) -> tuple[float, dict[str, Any]]:
        """See Objective: mean Dice of the types, and and `Volumes` of what was found.

        Half of the images are clean T1; both means, and the Dice of every type in T1, are facts.
        Usual volumes are those in images that the network knows: with what it finds in others,
        they would have so wide a spread that any image would suit it.
        """
        subjects = self.subjects
        # whole anatomies, whatever was trained on: theirs are the usual volumes
        plan = self.plan.holding(subjects.whole_mm)
        every = replace(plan.drawing, cut=0.0)
        clean = replace(every, **CLEAN)
        mm = torch.diag(torch.tensor([*[plan.spacing_mm] * 3, 1.0], dtype=torch.float64))
        scores: dict[str, list[dict[int, float]]] = {"T1": [], "all": []}
        seen = []
        for n in range(_IMAGES * len(subjects.validation)):
            who = subjects.validation[n % len(subjects.validation)]
            for kind, drawing in zip(scores, (clean, every), strict=True):
                sample = _drawn(who, subjects, drawing, generator_of(0, VALIDATION + n))
                image = Prepared(Space(plan.shape, mm), sample.image.to(plan.torch_device))
                found = extract(net, image, plan.gains)
                types = found.levels[-1][0].argmax(dim=0).cpu()
                truth, types = subjects.vocabulary.common(sample.types[0, 0], types)
                scores[kind].append(dice(truth, types))
                seen.append((_mean(scores[kind][-1].values()), found.volumes()))
        means = {kind: _mean([_mean(one.values()) for one in of]) for kind, of in scores.items()}
        by_type = {
            str(t): round(_mean([one[t] for one in scores["T1"] if t in one]), 4)
            for t in sorted({t for one in scores["T1"] for t in one})
        }
        seen.sort(key=lambda one: -one[0])
        known = [volumes for score, volumes in seen if score >= _KNOWN * seen[0][0]]
        known = known if len(known) > 2 else [volumes for _, volumes in seen]
        return _mean(means.values()), {"volumes": usual(known), "dice": means, "T1": by_type}


def _mean(values: Iterable[float]) -> float:
    every = list(values)
    return sum(every) / max(len(every), 1)


def _drawn(who: Anatomy, subjects: Subjects, drawing: Drawing, generator: Generator) -> Sample:
    """A sample without landmarks: types have none, and what is elastic cannot carry them."""
    return draw(replace(who, points=None), subjects.vocabulary, drawing, generator)


def usual(volumes: list[list[float]]) -> dict[str, list[float]]:
    """`registration.features.trust.Volumes` of what a network found.

    Args:
        volumes: mL by type, of some images.
    """
    logarithms = torch.tensor(volumes).clamp(min=LEAST_ML).log()
    spread, means = torch.std_mean(logarithms, dim=0)
    return {"means": means.tolist(), "deviations": spread.tolist()}
