"""Principal components of features, the same at every call.

Components come in the order of falling variance; each is turned so that its largest loading, by
absolute value, is positive. Without that rule its sign would be an accident of the eigensolver.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

COUNT = 3
_PLANES = 8  # at a time: floats take four to eight times the memory of bytes


@dataclass(frozen=True, eq=False)
class Moments:
    """Sums over voxels; those of bytes are exact, in whatever order they are added.

    Attributes:
        voxels: How many.
        first: (C,) float64, sum of the features.
        second: (C, C) float64, sum of their products.
    """

    voxels: int
    first: Tensor
    second: Tensor

    def __add__(self, other: "Moments") -> "Moments":
        """The moments of both sets of voxels together."""
        return Moments(
            self.voxels + other.voxels, self.first + other.first, self.second + other.second
        )

    @property
    def mean(self) -> Tensor:
        """(C,)."""
        return self.first / self.voxels

    @property
    def covariance(self) -> Tensor:
        """(C, C)."""
        return self.second / self.voxels - self.mean.outer(self.mean)


@dataclass(frozen=True, eq=False)
class Components:
    """The axes along which features vary most.

    Attributes:
        mean: (C,) float64, of the features.
        axes: (3, C) float64, of length 1, or 0 where there are fewer than three channels.
    """

    mean: Tensor
    axes: Tensor

    def of(self, features: Tensor) -> Tensor:
        """Features (C, I, J, K) along the axes, from their mean: (3, I, J, K) float32."""
        out = torch.empty(COUNT, *features.shape[1:])
        axes, start = self.axes.float(), (self.axes @ self.mean).float()
        for i in range(0, features.shape[1], _PLANES):
            slab = features[:, i : i + _PLANES].float()
            turned = axes @ slab.reshape(len(slab), -1) - start[:, None]
            out[:, i : i + _PLANES] = turned.view(COUNT, *slab.shape[1:])
        return out

    def explained(self, moments: Moments) -> list[float]:
        """Share of the variance of some voxels along each axis; 0 if they do not vary."""
        covariance = moments.covariance
        along = (self.axes @ covariance * self.axes).sum(dim=1).clamp(min=0)
        return (along / covariance.trace()).nan_to_num(0.0, 0.0, 0.0).tolist()


def moments(features: Tensor, inside: Tensor) -> Moments:
    """Sums of features, (C, I, J, K), over the voxels of a mask, (I, J, K) bool."""
    first = torch.zeros(len(features), dtype=torch.float64)
    second = torch.zeros(len(features), len(features), dtype=torch.float64)
    for i in range(0, features.shape[1], _PLANES):
        x = features[:, i : i + _PLANES][:, inside[i : i + _PLANES]].to(torch.float64)
        first += x.sum(dim=1)
        second += x @ x.T
    return Moments(int(inside.sum()), first, second)


def principal_components(of: Moments) -> Components:
    """The first three of what has these sums."""
    _, vectors = torch.linalg.eigh(of.covariance)  # of rising variance
    axes = torch.zeros(COUNT, len(of.first), dtype=torch.float64)
    for n in range(min(COUNT, len(of.first))):
        axis = vectors[:, -1 - n]
        axes[n] = axis * axis[axis.abs().argmax()].sign()
    return Components(of.mean, axes)
