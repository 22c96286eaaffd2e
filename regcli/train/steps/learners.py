"""Learners: networks of steps that can be trained, by the names of `--model`."""

from dataclasses import dataclass, field

_OR_ZERO = {"zero": True}


@dataclass(frozen=True)
class Equilibrium:
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
    states: int = field(default=3, metadata=_OR_ZERO)
    gamma: float = 0.5
    sigma: float = field(default=0.6, metadata=_OR_ZERO)
    jacobian: float = field(default=0.5, metadata=_OR_ZERO)
    labels: float = field(default=0.0, metadata=_OR_ZERO)
    smoothness: float = 0.1
    folds: float = field(default=5.0, metadata=_OR_ZERO)


@dataclass(frozen=True)
class Unrolled:
    """A fixed number of steps of one network, learned by backpropagation through all of them.

    Attributes:
        network: A spec of registry.UPDATES.
        levels: As of `Equilibrium`; gradients pass through all of them.
        steps: On each level.
        rising: How much more the last step of the finest level counts than its first; 0 if only
            the last counts.
        sigma: Of the smoothing of the displacement after every step, voxels.
        labels: As of `Equilibrium`.
        smoothness: As of `Equilibrium`.
        folds: As of `Equilibrium`.
    """

    network: str = "update"
    levels: int = 3
    steps: int = 3
    rising: float = field(default=0.0, metadata=_OR_ZERO)
    sigma: float = field(default=0.0, metadata=_OR_ZERO)
    labels: float = field(default=0.0, metadata=_OR_ZERO)
    smoothness: float = 0.1
    folds: float = field(default=0.0, metadata=_OR_ZERO)


Steps = Equilibrium | Unrolled
