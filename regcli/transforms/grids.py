"""Fields in voxels, carried from one grid to another along the same axes."""

import torch
from torch import Tensor

from regcli.image import Space
from regcli.ops.field import resize_field
from regcli.ops.sample import sample

_CLOSE = 1e-3  # voxels: corners that are so near are the same


def onto_grid(field: Tensor, old: Space, new: Space) -> Tensor:
    """A displacement or velocity on another grid; outside the old one, that of the nearest edge.

    Args:
        field: (1, 3, I, J, K), voxels of `old`.
        old: Its grid.
        new: Grid of the result, along the same axes.

    Returns:
        (1, 3, i, j, k), voxels of `new`.
    """
    if same_corners(old, new):
        return resize_field(field, new.shape)
    return resample_field(field, old, new)


def resample_field(field: Tensor, old: Space, new: Space) -> Tensor:
    """Linear interpolation of a field at the voxels of another grid; differentiable.

    Arguments and result are those of `onto_grid`.
    """
    change = torch.linalg.inv(old.affine) @ new.affine
    ratios = [a / b for a, b in zip(old.spacing, new.spacing, strict=True)]
    moved = sample(field, matrix=change[:3], shape=new.shape)
    return (moved * torch.tensor(ratios).to(moved).view(1, 3, 1, 1, 1)).contiguous()


def same_corners(old: Space, new: Space) -> bool:
    """Whether the corner voxels of two grids along the same axes lie at the same points."""
    change = torch.linalg.inv(old.affine) @ new.affine
    first, last = change[:3, 3], change[:3, :3] @ (torch.tensor(new.shape).double() - 1)
    away = torch.stack([first, first + last - (torch.tensor(old.shape).double() - 1)])
    solid = torch.tensor([a > 1 and b > 1 for a, b in zip(old.shape, new.shape, strict=True)])
    return float((away * solid).abs().max()) < _CLOSE
