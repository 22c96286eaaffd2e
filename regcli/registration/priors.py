"""Priors: masks, a first map, prompts and a smoothness map that come with a pair."""

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from regcli.image import Image, Space, rearrange
from regcli.registration.checks import Masks
from regcli.registration.prompts import Prompts
from regcli.registration.pyramid import Prepared
from regcli.warp import Warp


@dataclass(frozen=True, eq=False)
class Priors:
    """Knowledge of a pair besides its images.

    Attributes:
        masks: Where the similarity counts.
        initial: Where to start: (4, 4) fixed world to moving world for the linear stage, or a whole
            map, which is composed after the result; None for what the recipe says.
        prompts: Points and labels that drive the registration too.
        rigidity: A factor of the regularization, (1, I, J, K) on the fixed grid; None for one.
        aligned: Whether the moving image lies where a first map took it: see `carried`.
    """

    masks: Masks = field(default_factory=Masks)
    initial: Tensor | Warp | None = None
    prompts: Prompts | None = None
    rigidity: Tensor | None = None
    aligned: bool = False

    @property
    def options(self) -> tuple[str, ...]:
        """Options of the command line that give what is here; see regcli.compatibility."""
        points = self.prompts is not None and self.prompts.points is not None
        labels = self.prompts is not None and self.prompts.labels is not None
        given = {
            "use_points": points,
            "use_labels": labels,
            "smoothness_map": self.rigidity is not None,
            "initial_warp": isinstance(self.initial, Warp),
        }
        return tuple(option for option, value in given.items() if value)

    def rigidity_on(self, space: Space, device: torch.device | str) -> Prepared | None:
        """The factor of the regularization, in canonical axis order.

        Args:
            space: Of the fixed image.
            device: Where it is wanted.
        """
        if self.rigidity is None:
            return None
        canonical = space.canonical()
        factor = rearrange(self.rigidity.to(torch.float32), space, canonical)
        return Prepared(canonical, factor[None].to(device))

    def swapped(self) -> "Priors":
        """The same where the fixed image is called moving and the moving one fixed.

        What belongs to the fixed image alone is left out.
        """
        initial, prompts = self.initial, self.prompts
        assert not isinstance(initial, Warp)
        if prompts is not None:
            labels, points = prompts.labels, prompts.points
            prompts = Prompts(
                None if labels is None else (labels[1], labels[0]),
                None if points is None else (points[1], points[0]),
            )
        return Priors(
            Masks(self.masks.moving, self.masks.fixed),
            None if initial is None else torch.linalg.inv(initial),
            prompts,
        )


def carried(start: Warp, fixed: Image, moving: Image, priors: Priors) -> tuple[Image, Priors]:
    """Carry the moving image, and what is known of it, onto the fixed grid by a first map.

    The moved image is then registered to the fixed one, and the result composed before the first
    map: x -> start(found(x)).

    Args:
        start: The first map, fixed world to moving world.
        fixed: Its grid is that of the result.
        moving: The moving image.
        priors: What is known of both images.
    """
    seen = Image(torch.ones_like(moving.data[:1], dtype=torch.float32), moving.space)
    if priors.masks.moving is not None:
        seen = replace(seen, data=priors.masks.moving.to(torch.float32))
    mask = start.apply(seen, fixed.space).data
    prompts = priors.prompts
    if prompts is not None:
        labels, points = prompts.labels, prompts.points
        if labels is not None:
            labels = labels[0], start.apply(labels[1], fixed.space, "label")
        if points is not None:
            points = points[0], start.undo(start.inverse()[0], points[1])
        prompts = Prompts(labels, points)
    # interpolated twice in all: by splines first, or what is compared would be blurred
    moved = start.apply(moving, fixed.space, "nearest" if moving.labels else "cubic")
    masks = Masks(priors.masks.fixed, None if bool((mask == 1).all()) else mask)
    return moved, replace(priors, masks=masks, initial=None, prompts=prompts, aligned=True)
