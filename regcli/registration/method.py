"""Method: a way to deform two images that are aligned already, and what a stage found."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

from regcli.registration.aligned import AlignedPair
from regcli.registration.contrast import Contrast
from regcli.registration.equilibrium.solve import Diagnosis
from regcli.registration.features.trust import Trust
from regcli.registration.levels import Trace, Watch


@dataclass(frozen=True, eq=False)
class StageResult:
    """The map after a stage, and what is to be known of how it was found.

    Attributes:
        affine: (4, 4) fixed world to moving world.
        displacement: RAS mm on the fixed image's own grid, (1, 3, I, J, K); None if the map is
            linear.
        metrics: Specs of what was compared, learned features not counted; with learned steps, of
            what suits the images' contrasts.
        weights: Name and SHA-256 of the weights that took part.
        traces: What happened on each level.
        seconds: By part.
        trust: How far the images suit weights of features.
        diagnosis: Of an equilibrium.
        contrast: How the images compare inside.
        notes: Decisions that were made, in words.
        warnings: What the user should look at.
    """

    affine: Tensor
    displacement: Tensor | None = None
    metrics: tuple[str, ...] = ()
    weights: tuple[str, str] | None = None
    traces: tuple[Trace, ...] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)
    trust: Trust | None = None
    diagnosis: Diagnosis | None = None
    contrast: Contrast | None = None
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


class Method(ABC):
    """A way to register; each has a name in registry.METHODS, and what makes it of a recipe.

    That is a function of the recipe, the priors, the grid of the fixed image and the device. It
    loads weights, and refuses what the method cannot do, before anything is computed.

    Attributes:
        notes: Decisions that were made with the recipe alone, in words.
    """

    notes: tuple[str, ...]

    @abstractmethod
    def run(self, pair: AlignedPair, watch: Watch) -> StageResult:
        """Deform the moving image of a pair, or improve its affine.

        Args:
            pair: Both images.
            watch: Progress and time limit.
        """


@dataclass(frozen=True)
class LinearOnly(Method):
    """The map of the linear stage, as it is."""

    notes: tuple[str, ...] = ()

    def run(self, pair: AlignedPair, watch: Watch) -> StageResult:
        """See Method."""
        return StageResult(pair.affine)
