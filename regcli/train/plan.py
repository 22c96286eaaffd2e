"""What to train, as plain values."""

from dataclasses import dataclass


@dataclass(frozen=True)
class TrainPlan:
    """Everything that decides the weights, but the data.

    Attributes:
        network: A spec of registry.NETWORKS.
        spacing_mm: Voxel size that the network is made for.
        shape: (I, J, K) of the images that are drawn.
        steps: Of the optimizer.
        rate: Learning rate at its highest; it rises over `warmup` steps and falls as a cosine.
        warmup: Steps.
        decay: Weight decay.
        average: Decay of the moving average of the weights.
        clip: Largest norm of a gradient.
        seed: Of everything random.
        validate_every: Steps between validations and checkpoints.
    """

    network: str = "unet"
    spacing_mm: float = 2.0
    shape: tuple[int, int, int] = (81, 97, 81)
    steps: int = 6000
    rate: float = 2e-3
    warmup: int = 100
    decay: float = 1e-4
    average: float = 0.995
    clip: float = 5.0
    seed: int = 0
    validate_every: int = 250
