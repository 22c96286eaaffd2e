"""Quadratic regularizers: diffusion, bending and linear elasticity."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from regcli.energy.base import Regularizer
from regcli.image import Space
from regcli.ops.penalty import Penalty
from regcli.ops.stencils import Part, Stencil, along

_NONE = torch.zeros(3, 3)


@dataclass(frozen=True)
class Diffusion(Regularizer):
    """weight / 2 sum over neighbours of |u(x) - u(y)|^2 / h^2, u and the distance h both in mm.

    On an isotropic grid that is the squared difference in voxels, at any voxel size.

    Attributes:
        weight: Without units; larger is smoother.
    """

    weight: float = 0.15

    def stiffness(self, spacing: tuple[float, float, float]) -> Tensor:
        """(3, 3): weight of (u_c(x) - u_c(y))^2 / 2 for neighbours x, y on axis k, at [c, k].

        Args:
            spacing: mm; u is in voxels.
        """
        h = torch.tensor(spacing, dtype=torch.float32)
        return self.weight * (h[:, None] / h[None, :]).square()

    def penalty(self, u: Tensor, space: Space, share: Tensor) -> Penalty:
        """See Regularizer."""
        if not share.dim():
            return Penalty(u, self.stiffness(space.spacing) * share)
        return Penalty(u, _NONE, slopes(u, space, self.weight, share))


@dataclass(frozen=True)
class Bending(Regularizer):
    """weight / 2 sum of the squared second derivatives of u, all nine of each component.

    Affine maps cost nothing.

    Attributes:
        weight: mm^2; larger is smoother.

    Source: Rueckert et al., TMI 1999.
    """

    weight: float = 1.0

    def penalty(self, u: Tensor, space: Space, share: Tensor) -> Penalty:
        """See Regularizer."""
        h, found = space.spacing, []
        for c in range(3):
            for a in _solid(space):
                part = Part(c, along({a: "dd"}), h[c] / h[a] ** 2)
                found.append((self.weight, (part,)))
                for b in range(a + 1, 3):
                    if space.solid[b]:
                        part = Part(c, along({a: "d", b: "d"}), h[c] / (h[a] * h[b]))
                        found.append((2 * self.weight, (part,)))
        return Penalty(u, _NONE, _stencils(u, found, share))


@dataclass(frozen=True)
class Elastic(Regularizer):
    """Linear elasticity: sum of mu |e|^2 + lam / 2 (trace e)^2, e the strain, (Du + Du^T) / 2.

    Small rotations cost nothing. Derivatives lie between neighbours, those of a shear in the middle
    of four voxels, those of a trace in the middle of eight.

    Attributes:
        mu: Lame's second parameter, of shear; larger is smoother.
        lam: Lame's first parameter, of volume.

    Source: Modersitzki, Numerical Methods for Image Registration, 2004.
    """

    mu: float = 0.1
    lam: float = field(default=0.05, metadata={"zero": True})

    def penalty(self, u: Tensor, space: Space, share: Tensor) -> Penalty:
        """See Regularizer."""
        h, solid = space.spacing, _solid(space)
        found: list[tuple[float, tuple[Part, ...]]] = [
            (2 * self.mu, (Part(a, along({a: "d"}), 1.0),)) for a in solid
        ]
        for a in range(3):  # in a slice, what leaves it is sheared as well
            for b in range(a + 1, 3):
                shear = []
                if space.solid[b]:
                    shear.append(Part(a, along({b: "d"} | _mean(space, a)), h[a] / h[b]))
                if space.solid[a]:
                    shear.append(Part(b, along({a: "d"} | _mean(space, b)), h[b] / h[a]))
                if shear:
                    found.append((self.mu, tuple(shear)))
        squeezed = dilatation(u, space, self.lam, share) if self.lam else ()
        return Penalty(u, _NONE, _stencils(u, found, share) + squeezed)


def slopes(u: Tensor, space: Space, weight: float, share: Tensor) -> tuple[Stencil, ...]:
    """weight / 2 sum of |u(x) - u(y)|^2 / h^2 times the mean share of x and y, in mm."""
    h = space.spacing
    found = [
        (weight, (Part(c, along({a: "d"}), h[c] / h[a]),)) for a in _solid(space) for c in range(3)
    ]
    return _stencils(u, found, share)


def dilatation(u: Tensor, space: Space, weight: float, share: Tensor) -> tuple[Stencil, ...]:
    """weight / 2 sum of (div u)^2 in the middle of eight voxels, times the mean share of them."""
    solid = _solid(space)
    means = dict.fromkeys(solid, "m")
    trace = tuple(Part(a, along(means | {a: "d"}), 1.0) for a in solid)
    return _stencils(u, [(weight, trace)] if trace else [], share)


def _stencils(
    u: Tensor, found: list[tuple[float, tuple[Part, ...]]], share: Tensor
) -> tuple[Stencil, ...]:
    if share.dim():
        stencils = (Stencil(parts, weight, share) for weight, parts in found)
    else:
        stencils = (Stencil(parts, weight * float(share)) for weight, parts in found)
    return tuple(s for s in stencils if s.fits(u.shape[2:]))


def _solid(space: Space) -> list[int]:
    return [axis for axis in range(3) if space.solid[axis]]


def _mean(space: Space, axis: int) -> dict[int, str]:
    return {axis: "m"} if space.solid[axis] else {}
