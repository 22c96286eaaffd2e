"""The answer of a registration: Warp, the map phi(x) = A (x + u(x)), fixed world to moving world.

A moving image is carried onto the fixed grid by moved(x) = moving(phi(x)); points go the other
way, from moving to fixed, by the inverse.
"""

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from regcli.image import Image, Space, transform_points
from regcli.ops import field
from regcli.ops.sample import sample, sample_points
from regcli.ops.spline import sample_cubic

Interpolation = Literal["linear", "nearest", "label", "cubic"]
_NEWTON_STEPS = 20
_PROBE_MM = 0.01
_AXES = torch.eye(3, dtype=torch.float64)


@dataclass(frozen=True, eq=False)
class Warp:
    """phi(x) = affine (x + u(x)), both sides in RAS+ mm.

    Attributes:
        space: The grid that u lives on; outside it, u is that of the nearest edge.
        affine: (4, 4) float64.
        displacement: u, (1, 3, I, J, K) float32 mm along the world axes; None for zero.
    """

    space: Space
    affine: Tensor
    displacement: Tensor | None = None

    def __call__(self, points: Tensor) -> Tensor:
        """World points (N, 3) of the fixed side carried to the moving side, mm, float64."""
        points = points.to(torch.float64)
        if self.displacement is not None:
            voxels = self.space.world_to_voxel(points)
            points = points + sample_points(self.displacement, voxels).to(torch.float64)
        return transform_points(self.affine, points)

    def apply(
        self, moving: Image, onto: Space | None = None, interpolation: Interpolation = "linear"
    ) -> Image:
        """The moving image on a fixed grid, interpolated once; zero outside its field of view.

        Args:
            moving: Any image of the moving side; (C, I, J, K).
            onto: The grid of the result; default the warp's own.
            interpolation: "label" never invents a code; "cubic" is an interpolating B-spline.

        Returns:
            An image on `onto`, in float32, or in the moving image's type for "nearest", "label".
        """
        onto = onto or self.space
        matrix = torch.linalg.inv(moving.space.affine) @ self.affine @ onto.affine
        u = self._displacement_on(onto)
        data = moving.data[None]
        if interpolation in ("linear", "cubic"):
            data = data.to(torch.float32)
        if interpolation == "cubic":
            moved = sample_cubic(data, u, matrix=matrix[:3], shape=onto.shape)
        else:
            moved = sample(
                data,
                u,
                matrix=matrix[:3],
                shape=onto.shape,
                interpolation=interpolation,
                border=False,
            )
        return replace(moving, data=moved[0], space=onto)

    def then(self, later: "Warp") -> "Warp":
        """The map x -> later(self(x)), on this warp's grid."""
        affine = later.affine @ self.affine
        if later.displacement is None:
            return Warp(self.space, affine, self.displacement)
        # later.A (p + v(p)) with p = A (x + u) is later.A A (x + u + A^-1 v(p))
        change = torch.linalg.inv(later.space.affine) @ self.affine @ self.space.affine
        u = self._displacement_on(self.space)
        v = sample(later.displacement, u, matrix=change[:3], shape=self.space.shape)
        v = field.rotate(torch.linalg.inv(self.affine[:3, :3]), v)
        return Warp(self.space, affine, v if self.displacement is None else v + self.displacement)

    def inverse(self) -> tuple["Warp", Tensor]:
        """The map from the moving side back to the fixed side, and its error.

        (Id + u)^-1 = Id + v is found on u's own grid. The inverse of A (x + u(x)) is then
        A^-1 (y + A v(A^-1 y)): a warp on that grid carried by A.

        Returns:
            The inverse, and |v(x) + u(x + v(x))| of every voxel, (I, J, K) mm.
        """
        affine = torch.linalg.inv(self.affine)
        if self.displacement is None:
            return Warp(self.space.moved(self.affine), affine), torch.zeros(self.space.shape)
        v, residual = field.invert(self.space.vectors_to_voxel(self.displacement))
        v = self.space.vectors_to_world(v)
        error = field.lengths(self.space.vectors_to_world(residual))[0]
        v = field.rotate(self.affine[:3, :3], v)
        return Warp(self.space.moved(self.affine), affine, v), error

    def undo(self, inverse: "Warp", points: Tensor) -> Tensor:
        """x of phi(x) = points, better than an inverse field says between its voxels.

        Damped Newton steps from inverse(points); one that does not bring phi(x) closer is taken
        back and halved, so that folds and edges do no harm.

        Args:
            inverse: Of this map, exact at voxels only.
            points: World points (N, 3) of the moving side, mm.

        Returns:
            World points (N, 3) of the fixed side, mm, float64.
        """
        x = inverse(points)
        rest = points - self(x)
        damping = torch.ones(len(points), 1, dtype=torch.float64)
        for _ in range(_NEWTON_STEPS):
            slopes = [(self(x + h) - self(x - h)) / (2 * _PROBE_MM) for h in _PROBE_MM * _AXES]
            step = torch.linalg.lstsq(torch.stack(slopes, dim=-1), rest[..., None]).solution
            trial = x + damping * step[..., 0]
            new = points - self(trial)
            closer = new.norm(dim=1, keepdim=True) < rest.norm(dim=1, keepdim=True)
            x, rest = torch.where(closer, trial, x), torch.where(closer, new, rest)
            damping = torch.where(closer, (2 * damping).clamp(max=1), damping / 2)
        return x

    def _displacement_on(self, space: Space) -> Tensor | None:
        """u on another grid, (1, 3, I, J, K) voxels of that grid."""
        if self.displacement is None:
            return None
        u = self.displacement
        if not self.space.agrees(space):
            change = torch.linalg.inv(self.space.affine) @ space.affine
            u = sample(u, matrix=change[:3], shape=space.shape)
        return space.vectors_to_voxel(u)
