"""Whether an image is of the kind that a network was trained on: measured by what it finds there.

A network always answers. Shown a knee, one that learned brains finds a brain's structures in it,
but not of a brain's sizes: so the volumes that it finds are compared with those that it finds in
images like those it was trained on.
"""

import math
from dataclasses import dataclass

# Standard deviations. With dio-brain, real brains and heads, T1 and T2, stayed within 2.3,
# and in phantoms and noise at least one structure was further than 4.9 from its usual volume.
_SPREAD = 3.5
_CUT = 0.1  # of what was found of a structure, at the edge of the image; of whole heads .04 at most
_MOST_CUT = 1 / 3  # of the structures; in noise everything reaches the edge
_LEAST_SD = 0.2  # of the logarithm: people differ that much, whoever was trained on
LEAST_ML = 0.1  # less counts as this much, or a logarithm would not be finite


@dataclass(frozen=True)
class Trust:
    """How far a pair is of the kind that weights were trained on.

    Attributes:
        used: Whether the weights took part in the registration.
        fixed: Share of the structures of a usual volume in the fixed image.
        moving: In the moving image.
    """

    used: bool
    fixed: float
    moving: float


@dataclass(frozen=True)
class Volumes:
    """Volumes of structures in images that a network knows, by type, without the background.

    Attributes:
        means: Of the logarithm of the volume in mL.
        deviations: Its standard deviation.
    """

    means: tuple[float, ...]
    deviations: tuple[float, ...]

    def share(self, found: list[float], at_edge: list[float]) -> float:
        """Share of the types whose volume is one that images of this kind have.

        A structure that the edge of the image cuts may be smaller and is then left out, if that
        does not happen to more than a third of all.

        Args:
            found: mL, by type.
            at_edge: Share of it that lies where what the image covers ends, by type.
        """
        fits, cut = 0, 0
        every = zip(found, at_edge, self.means, self.deviations, strict=True)
        for ml, edge, mean, sd in every:
            off = math.log(max(ml, LEAST_ML)) - mean
            usual = abs(off) < _SPREAD * max(sd, _LEAST_SD)
            fits += usual
            cut += not usual and off < 0 and edge > _CUT
        counted = len(found) - cut if cut <= _MOST_CUT * len(found) else len(found)
        return fits / counted
