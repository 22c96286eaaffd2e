"""TrainPlan: all options of a training as plain values."""

import contextlib
import math
from dataclasses import dataclass, replace
from typing import Any

import torch

from regcli.errors import RecipeError
from regcli.nets.base import fitting
from regcli.registry import TRAININGS, build
from regcli.train.synth.drawing import Drawing

MOST_VOXELS = 2_500_000  # of an image that is drawn: a network takes gigabytes for more
_LEAST = {"rise": 1, "cool": 1, "validate_every": 1, "warm_steps": 0, "steps": 0, "batch": 0}
_MOST, _MOST_SAMPLES = 1_000_000_000, 4096
_POSITIVE = {"warm_rate": "--warm-lr", "rate": "--lr", "clip": "clip", "smoothness": "smoothness"}


@dataclass(frozen=True)
class TrainPlan:
    """Everything that decides the weights, but the data.

    Attributes:
        model: A spec of registry.TRAININGS.
        network: A spec of registry.NETWORKS.
        start: Weights to begin with: a name, a path, or empty for random ones.
        spacing_mm: Voxel size that the network is made for.
        shape: (I, J, K) of the images that are drawn.
        warm_steps: Of the optimizer, learning the types of label maps.
        steps: Of the optimizer, learning through registrations.
        warm_rate: Learning rate at its highest, of the warm start.
        rate: Likewise, through registrations.
        rise: Steps over which it rises at the beginning.
        cool: Steps over which it falls to 0 at the end; all steps, where there are fewer.
        batch: Samples a step, of all processes together.
        decay: Weight decay.
        average: Decay of the moving average of the weights.
        clip: Largest norm of a gradient.
        transform: A dense spec of registry.TRANSFORMS, by which training registers; registrations
            are free to take another.
        adjoint: A spec of registry.ADJOINTS or STEP_ADJOINTS, by which gradients pass through a
            registration; "unroll" of networks made for a fixed number of steps.
        seed: Of everything random.
        validate_every: Steps between validations.
        gains: Weight in the energy of registrations of the features of levels 4, 2 and 1.
        muted: Names of types that take no part in users' registrations: in real images they are
            found too unsurely to drive any.
        smoothness: Factor of the weight of diffusion where training registers.
        stages: What is drawn at first, besides the usual: steps before which a stage ends, and
            what is different in it.
        device: "cpu", "cuda", "cuda:N" or "mps".
        precision: "fp32" or "bf16", of the network; all else is in fp32.
    """

    model: str = "dio"
    network: str = "unet"
    start: str = ""
    spacing_mm: float = 2.0
    shape: tuple[int, int, int] = (81, 97, 81)
    warm_steps: int = 6000
    steps: int = 600
    warm_rate: float = 2e-2
    rate: float = 2e-4
    rise: int = 100
    cool: int = 2000
    batch: int = 1
    decay: float = 1e-4
    average: float = 0.995
    clip: float = 5.0
    transform: str = "diffeo"
    adjoint: str = "gn-ift"
    seed: int = 0
    validate_every: int = 100
    gains: tuple[float, float, float] = (0.3, 0.3, 0.3)
    muted: tuple[str, ...] = ()
    smoothness: float = 1.0
    stages: tuple[tuple[int, dict[str, Any]], ...] = ()
    device: str = "cpu"
    precision: str = "fp32"

    @property
    def drawing(self) -> Drawing:
        """How images are drawn after the last stage."""
        return Drawing(spacing_mm=self.spacing_mm, shape=self.shape)

    def drawing_at(self, step: int) -> Drawing:
        """How images are drawn at a step."""
        for end, changes in self.stages:
            if step < end:
                return replace(self.drawing, **changes)
        return self.drawing

    def holding(self, reach_mm: tuple[float, float, float]) -> "TrainPlan":
        """The plan with images that are at least so large, and that the network takes.

        Args:
            reach_mm: Along each axis.

        Returns:
            The plan as it is where they would have more than MOST_VOXELS.
        """
        multiple = build(TRAININGS, self.model).multiple(self)
        i, j, k = (
            max(n, fitting(math.ceil(mm / self.spacing_mm), multiple))
            for n, mm in zip(self.shape, reach_mm, strict=True)
        )
        return replace(self, shape=(i, j, k)) if i * j * k <= MOST_VOXELS else self

    @property
    def torch_device(self) -> torch.device:
        """The device of the network."""
        return torch.device(self.device)

    @property
    def dtype(self) -> torch.dtype:
        """Type of the numbers in a network of features."""
        return torch.float32 if self.precision == "fp32" else torch.bfloat16

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        """The precision of a network of steps."""
        if self.precision == "fp32":
            return contextlib.nullcontext()
        return torch.autocast(self.torch_device.type, torch.bfloat16)


def check_limits(plan: TrainPlan) -> None:
    """Refuse numbers that the command line would not let through, but a recipe may hold.

    Args:
        plan: Of a recipe and of options.

    Raises:
        RecipeError: Naming the first setting that is out of range.
    """
    for name, least in _LEAST.items():
        if not least <= getattr(plan, name) <= _MOST:
            raise RecipeError(
                f"{name} = {getattr(plan, name)} is out of range.",
                f"Give a whole number from {least} to {_MOST}.",
            )
    for name, shown in _POSITIVE.items():
        if not 0 < getattr(plan, name) < math.inf:
            raise RecipeError(
                f"{shown} {getattr(plan, name):g} is not a positive number.", "Give one above 0."
            )
    if plan.batch > _MOST_SAMPLES:
        raise RecipeError(
            f"A --batch of {plan.batch} is too large.", f"Give {_MOST_SAMPLES} at most."
        )
    if not 0 <= plan.decay < 1:
        raise RecipeError(f"decay = {plan.decay:g} is not below 1.", "0.0001 is normal.")
    if not any(plan.gains):
        raise RecipeError("gains of 0 leave features no weight.", "Give some above 0.")
    if not 0 <= plan.average < 1:
        raise RecipeError(f"average = {plan.average:g} is not below 1.", "0.999 is normal.")
    if plan.precision not in ("auto", "fp32", "bf16"):
        raise RecipeError(
            f"precision = '{plan.precision}' does not exist.", "Choose from auto, fp32, bf16."
        )
    for _, changes in plan.stages:
        shape = changes.get("shape", (1,))
        if min(shape) < 1 or math.prod(shape) > MOST_VOXELS:
            raise RecipeError(
                f"A stage has the shape {list(shape)}.",
                f"Write it like [65, 81, 65], with {MOST_VOXELS:,} voxels at most.",
            )
