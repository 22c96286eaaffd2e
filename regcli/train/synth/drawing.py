"""Drawing: the distribution of synthetic images, as plain numbers."""

from dataclasses import dataclass

from regcli.errors import RecipeError

# The largest values that still draw heads; the smallest is 0.
_MOST = {
    **dict.fromkeys(("random_contrast", "thick", "bare", "cut", "noise", "jitter"), 1.0),
    **{"turn_rad": 3.2, "scale": 1.0, "shift_mm": 200.0, "deepest_cut": 0.45, "bias": 2.0},
    "coarsest_mm": 20.0,
}
_MOST_ELASTIC_MM = 20.0


@dataclass(frozen=True)
class Drawing:
    """The distribution of synthetic images; the numbers are standard deviations or ranges.

    Attributes:
        spacing_mm: Of the drawn images.
        shape: (I, J, K) of them.
        random_contrast: Share of images whose tissues have random intensities.
        contrasts: Shares of the others that look like T1, T2, PD and FLAIR.
        jitter: Of a tissue's intensity, as a fraction of it.
        turn_rad: Rotation about each axis.
        scale: Logarithm of the scale along each axis.
        shift_mm: Of the anatomy's centre.
        mirror: Whether half of the anatomies are mirrored, if both sides have the same types.
        elastic_mm: Of displacements that change over about 40, 20 and 11 mm.
        bare: Share of images without anything but the brain; half of the others keep the fluid
            around it, the rest show the whole head.
        cut: Share of images whose field of view ends within the anatomy.
        deepest_cut: Largest share of the brain's extent that is cut off in the middle of a face.
        thick: Share of images with thick slices along one axis.
        coarsest_mm: Largest thickness of these.
        noise: Largest standard deviation, as a fraction of the range.
        bias: Of the logarithm of the bias field.
    """

    spacing_mm: float = 2.0
    shape: tuple[int, int, int] = (81, 97, 81)
    random_contrast: float = 0.3
    # what users register is T1 more than all else
    contrasts: tuple[float, float, float, float] = (0.45, 0.25, 0.12, 0.18)
    jitter: float = 0.08
    turn_rad: float = 0.15
    scale: float = 0.08
    shift_mm: float = 5.0
    mirror: bool = True
    elastic_mm: tuple[float, float, float] = (2.5, 1.6, 0.8)
    bare: float = 0.6
    cut: float = 0.3
    deepest_cut: float = 0.2
    thick: float = 0.5
    coarsest_mm: float = 5.0
    noise: float = 0.06
    bias: float = 0.2

    def __post_init__(self) -> None:
        for name, most in _MOST.items():
            if not 0 <= getattr(self, name) <= most:
                raise RecipeError(
                    f"{name} = {getattr(self, name):g} is out of range.",
                    f"Give a number from 0 to {most:g}.",
                )
        if not all(0 <= mm <= _MOST_ELASTIC_MM for mm in self.elastic_mm):
            raise RecipeError(
                f"elastic_mm = {list(self.elastic_mm)} is out of range.",
                f"Give numbers from 0 to {_MOST_ELASTIC_MM:g}.",
            )
        if not (all(0 <= share <= 1 for share in self.contrasts) and any(self.contrasts)):
            raise RecipeError(
                f"contrasts = {list(self.contrasts)} are no shares.",
                "Give numbers from 0 to 1 for T1, T2, PD and FLAIR, one of them above 0.",
            )
