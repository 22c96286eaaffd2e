"""Prompts: what a user knows of a pair, corresponding points and labels, on every level."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from regcli.energy.features import ONE
from regcli.energy.landmarks import landmarks
from regcli.image import Image, Space, transform_points
from regcli.ops.filter import gaussian
from regcli.registration.force import Pair
from regcli.registration.pyramid import Prepared

_POINTS = 0.5  # weight per mm^2
_AGAINST_ALL = 0.04  # the same in linear maps, all points together, per voxel of the image
_ENOUGH = 3  # points, to start from them
# What labels weigh: a user who names them means them; but an affine map that follows two of them
# alone costs the others.
_DENSE, _LINEAR = 15.0, 1.0
_THIN = 1e-3  # spread across a line of points, relative to that along it
_CHANNELS = 8  # that are compared at once: the loops are compiled for this number
_BLUR = 0.5  # voxels; by 1, two labels given reached a Dice of .94 instead of .99


@dataclass(frozen=True, eq=False)
class Prompts:
    """Terms that are added to what is compared.

    Attributes:
        labels: Label maps of the fixed and the moving image, on any grids; None without.
        points: (N, 3) of the fixed and of the moving image, corresponding, RAS+ mm; None without.
    """

    labels: tuple[Image, Image] | None = None
    points: tuple[Tensor, Tensor] | None = None

    def rigid(self) -> Tensor | None:
        """(4, 4) fixed world to moving world that brings points and labels' centres together best.

        None for less than three of them, or if they lie in a line.

        Source: Kabsch, Acta Cryst. A 1976.
        """
        sides: list[list[Tensor]] = [[], []]
        if self.points is not None:
            for side, points in zip(sides, self.points, strict=True):
                side.append(points.to(torch.float64))
        if self.labels is not None:
            codes = common_codes(*self.labels)
            for side, image in zip(sides, self.labels, strict=True):
                side.append(torch.stack([_centre(image, code) for code in codes]))
        p, q = (torch.cat(side) for side in sides)
        if len(p) < _ENOUGH:
            return None
        middle_p, middle_q = p.mean(0), q.mean(0)
        U, S, V = torch.linalg.svd((q - middle_q).T @ (p - middle_p))
        if S[1] <= _THIN * S[0]:  # in a line, about which the rest could turn
            return None
        out = torch.eye(4, dtype=torch.float64)
        proper = torch.diag(torch.tensor([1, 1, torch.sign(torch.linalg.det(U @ V))]).double())
        out[:3, :3] = U @ proper @ V
        out[:3, 3] = middle_q - out[:3, :3] @ middle_p
        return out

    def on(self, pair: Pair, moving: Space, affine: Tensor, *, dense: bool) -> Pair:
        """A level's pair with its share of the prompts.

        Args:
            pair: Of one level.
            moving: The grid of its moving image.
            affine: (4, 4), world of that grid to the moving image's own world: what the moving
                image was carried by already.
            dense: Whether what is solved for is a displacement.
        """
        if self.points is not None:
            p = pair.space.world_to_voxel(self.points[0])
            q = transform_points(torch.linalg.inv(affine), self.points[1])
            q, axes = moving.world_to_voxel(q), moving.affine[:3, :3]
            device = pair.fixed.device
            marks = landmarks(p, q, pair.space, axes, _POINTS, device)
            if not dense:  # a whole image stands against what a few voxels say
                most = float(marks.share.sum().clamp(min=1e-6))
                weight = max(_POINTS, _AGAINST_ALL * pair.fixed.numel() / most)
                marks = replace(marks, weight=weight)
            pair = replace(pair, landmarks=marks)
        if self.labels is not None:
            codes = common_codes(*self.labels)
            still = torch.eye(4, dtype=torch.float64)
            device = pair.fixed.device
            f = _channels(self.labels[0], codes, pair.space, still, device)
            m = _channels(self.labels[1], codes, moving, affine, device)
            pair = replace(pair, labels=tuple(zip(f, m, strict=True)))
            pair = replace(pair, label_weight=_DENSE if dense else _LINEAR)
        return pair


def common_codes(fixed: Image, moving: Image) -> list[int]:
    """Labels that both maps have, but 0."""
    codes = set(fixed.data.unique().tolist()) & set(moving.data.unique().tolist())
    return sorted(int(code) for code in codes - {0})


def _centre(labels: Image, code: int) -> Tensor:
    """(3,) world, of a label."""
    return labels.space.voxel_to_world((labels.data[0] == code).nonzero().double().mean(0))


def _channels(
    labels: Image, codes: list[int], space: Space, affine: Tensor, device: torch.device
) -> list[Tensor]:
    """Shares of labels in the voxels of a grid, (1, 8, I, J, K) uint8 each, what is left over 0."""
    own, out = labels.canonical(), []
    for start in range(0, len(codes), _CHANNELS):
        part = torch.zeros(1, _CHANNELS, *space.shape, dtype=torch.uint8, device=device)
        part = part.to(memory_format=torch.channels_last_3d)
        for channel, code in enumerate(codes[start : start + _CHANNELS]):
            mask = (own.data == code).to(device, torch.float32)[None]
            share = gaussian(Prepared(own.space, mask).onto(space, affine).data, _BLUR)
            part[0, channel] = (share[0, 0] * ONE).round()
        out.append(part)
    return out
