"""GaussNewtonForce: the energy of a map between two images, and the step that lowers it."""

from dataclasses import dataclass

import torch
from torch import Tensor

from regcli.energy.base import Regularizer, Similarity
from regcli.energy.features import Features
from regcli.energy.landmarks import Landmarks
from regcli.image import Space
from regcli.models.pyramid import Prepared
from regcli.ops.match import Moved, Quadratic
from regcli.ops.penalty import Penalty, together
from regcli.ops.sample import after, sample, sample_covered
from regcli.ops.totals import total
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


@dataclass(frozen=True)
class GaussNewtonForce:
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
        """The registration of one level as a problem for a solver."""
        terms = [(s, s.describe(pair.fixed), s.describe(pair.moving)) for s in self.similarities]
        if pair.features is not None and pair.gain > 0:
            terms.append((Features(self.feature_gain * pair.gain), *pair.features))
        terms += [(Features(pair.label_weight), *channels) for channels in pair.labels]
        space = pair.space
        share = self._share(space, pair.fixed.device)
        weight = pair.fixed_weight
        voxels = torch.full((), pair.fixed.numel(), dtype=torch.float64, device=pair.fixed.device)
        whole = voxels if weight is None else total(weight)

        def evaluate(y: Tensor) -> tuple[Tensor, State]:
            M, u = transform.parts(y, space)
            matrix = after(pair.matrix, M)
            moved, weight = sample_covered(pair.moving, u, matrix, space.shape)
            if pair.fixed_weight is not None:
                weight.mul_(pair.fixed_weight)
            if pair.moving_weight is not None:
                weight.mul_(sample(pair.moving_weight, u, matrix=matrix, shape=space.shape))
            # the mean over the overlap, so that leaving the field of view lowers nothing
            overlap = total(weight)
            weight.mul_((whole / torch.maximum(overlap, _LEAST_OVERLAP * whole)).to(weight))
            model: Quadratic | None = None
            for similarity, f, m in terms:
                # most compare the image itself, which is moved already
                seen = Moved(moved) if m is pair.moving else Moved(m, u, matrix, space.shape)
                model = similarity.model(f, seen, weight, model)
            assert model is not None
            if pair.landmarks is not None:
                model = pair.landmarks.onto(model, u, matrix)
            missing = (_LEAST_OVERLAP * whole - overlap).clamp(min=0)
            energy = model.value + 10 * missing
            if u is None:  # linear maps cost nothing
                return energy, (model, None)
            penalty = together([r.penalty(u, space, share) for r in self.regularizers], self.axes)
            return energy + penalty.value, (model, penalty)

        return Problem(
            evaluate,
            lambda y, state, damping: transform.step(y, state[0], state[1], space, damping),
            lambda y, delta: transform.retract(y, delta, space),
        )

    def _share(self, space: Space, device: torch.device) -> Tensor:
        """The factor of the regularizers on a level: () or (1, 1, I, J, K)."""
        if self.rigidity is None:
            return torch.tensor(self.smoothness)
        local = self.rigidity.onto(space, torch.eye(4, dtype=torch.float64)).data
        return self.smoothness * local.to(device)
