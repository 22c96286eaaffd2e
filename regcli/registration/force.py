"""GaussNewtonForce: the energy of a map between two images, and the step that lowers it."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from regcli.energy.base import Regularizer, Similarity
from regcli.energy.features import Features
from regcli.energy.landmarks import Landmarks
from regcli.image import Space
from regcli.ops.match import Moved, Quadratic
from regcli.ops.penalty import Penalty, together
from regcli.ops.sample import after, sample, sample_covered
from regcli.ops.totals import total
from regcli.registration.pyramid import Prepared
from regcli.solve.base import Problem
from regcli.transforms.base import Transform

State = tuple[Quadratic, Penalty | None]
_LEAST_OVERLAP = 0.1  # of the fixed image; below it, the energy rises as the overlap shrinks


@dataclass(frozen=True, eq=False)
class Pair:
    """A fixed and a moving image on one level.

    Attributes:
        space: The fixed grid of the level.
        fixed: (1, 1, I, J, K).
        moving: (1, 1, i, j, k), on a grid of its own.
        matrix: (3, 4) fixed voxel to moving voxel, where the transform is the identity.
        fixed_weight: (1, 1, I, J, K) in [0, 1], or None for one everywhere.
        moving_weight: (1, 1, i, j, k), or None for one everywhere.
        features: What a network says of both, (1, C, ...) on their grids; None without one.
        gain: Weight of the features in the energy.
        labels: Shares of labels that a user names, (1, C, ...) on the images' grids.
        label_weight: What those weigh in the energy.
        landmarks: Points that a user names; None without.
    """

    space: Space
    fixed: Tensor
    moving: Tensor
    matrix: Tensor
    fixed_weight: Tensor | None = None
    moving_weight: Tensor | None = None
    features: tuple[Tensor, Tensor] | None = None
    gain: float = 1.0
    labels: tuple[tuple[Tensor, Tensor], ...] = ()
    label_weight: float = 1.0
    landmarks: Landmarks | None = None


class Force(ABC):
    """The energy of a map between two images."""

    @abstractmethod
    def problem(self, pair: Pair, transform: Transform) -> Problem:
        """The registration of one level as a problem for a solver."""


@dataclass(frozen=True)
class GaussNewtonForce(Force):
    """Weighted similarities and regularizers, as a least-squares problem.

    Attributes:
        similarities: Their energies are added, and that of the pair's features, if it has any.
        regularizers: Of a displacement; linear maps need none.
        feature_gain: Factor of what the pair's features weigh.
        smoothness: Factor of the regularizers.
        rigidity: A further one at every point of the fixed space; None for one everywhere.
        axes: Of the fixed grid, along which displacements may be.
    """

    similarities: tuple[Similarity, ...]
    regularizers: tuple[Regularizer, ...] = ()
    feature_gain: float = 1.0
    smoothness: float = 1.0
    rigidity: Prepared | None = None
    axes: tuple[bool, bool, bool] = (True, True, True)

    def problem(self, pair: Pair, transform: Transform) -> Problem:
        """See Force."""
        terms, penalty_of, space = self.terms(pair), self.penalty_on(pair), pair.space

        def evaluate(y: Tensor) -> tuple[Tensor, State]:
            M, u = transform.parts(y, space)
            matrix = after(pair.matrix, M)
            moved, weight = sample_covered(pair.moving, u, matrix, space.shape)
            if pair.fixed_weight is not None:
                weight.mul_(pair.fixed_weight)
            if pair.moving_weight is not None:
                weight.mul_(sample(pair.moving_weight, u, matrix=matrix, shape=space.shape))
            weight, missing = balanced(weight, pair.fixed_weight)
            model: Quadratic | None = None
            for similarity, f, m in terms:
                # most compare the image itself, which is moved already
                seen = Moved(moved) if m is pair.moving else Moved(m, u, matrix, space.shape)
                model = similarity.model(f, seen, weight, model)
            assert model is not None
            if pair.landmarks is not None:
                model = pair.landmarks.onto(model, u, matrix)
            energy = model.value + missing
            if u is None:  # linear maps cost nothing
                return energy, (model, None)
            penalty = penalty_of(u)
            return energy + penalty.value, (model, penalty)

        return Problem(
            evaluate,
            lambda y, state, damping: transform.step(y, state[0], state[1], space, damping),
            lambda y, delta: transform.retract(y, delta, space),
        )

    def terms(self, pair: Pair) -> list[tuple[Similarity, Tensor, Tensor]]:
        """Everything that is compared, with what is said of the fixed and of the moving image."""
        terms = [(s, s.describe(pair.fixed), s.describe(pair.moving)) for s in self.similarities]
        if pair.features is not None and pair.gain > 0:
            terms.append((Features(self.feature_gain * pair.gain), *pair.features))
        return terms + [(Features(pair.label_weight), *channels) for channels in pair.labels]

    def penalty_on(self, pair: Pair) -> Callable[[Tensor], Penalty]:
        """The sum of the regularizers' penalties, as a function of the displacement."""
        space, share = pair.space, torch.tensor(self.smoothness)
        if self.rigidity is not None:
            local = self.rigidity.onto(space, torch.eye(4, dtype=torch.float64)).data
            share = self.smoothness * local.to(pair.fixed.device)

        def penalty(u: Tensor) -> Penalty:
            return together([r.penalty(u, space, share) for r in self.regularizers], self.axes)

        return penalty


def balanced(weight: Tensor, whole: Tensor | None) -> tuple[Tensor, Tensor]:
    """The weight for a mean over the overlap, so that leaving the field of view lowers nothing.

    Args:
        weight: (1, 1, I, J, K), of what counts and is covered; overwritten.
        whole: Likewise if everything were covered; None for one everywhere.

    Returns:
        The weight, and () float64 the price of an overlap that is too small.
    """
    voxels = torch.full((), weight.numel(), dtype=torch.float64, device=weight.device)
    most = voxels if whole is None else total(whole)
    overlap = total(weight)
    weight.mul_((most / torch.maximum(overlap, _LEAST_OVERLAP * most)).to(weight))
    return weight, 10 * (_LEAST_OVERLAP * most - overlap).clamp(min=0)
