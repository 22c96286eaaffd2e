"""Common parts of all launches: blocks, grids, the device, and the flat index of a voxel.

A program takes a block of voxels by their flat index, so that lanes run along the last axis
whatever the shape. Voxels are counted in 32 bits, and offsets into tensors of several channels
or images in 64: only those can pass 2^31.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCK = 256  # voxels of a program: two per thread
_TILE = 1024  # values of a program that takes voxels and channels
_WIDEST = 16  # channels taken at once; more of them are taken in turns


def launch(kernel: Any, grid: tuple[int, ...], *arguments: Any, fuse: bool = True) -> None:
    """Run a kernel on the device of its first argument; Triton itself asks which is current.

    Args:
        kernel: A function compiled by `triton.jit`.
        grid: Programs along up to three axes.
        arguments: All of the kernel's, in order; the first is a tensor.
        fuse: Let products and sums be fused, so that equal sums may be rounded differently.
    """
    with torch.cuda.device_of(arguments[0]):
        kernel[grid](*arguments, enable_fp_fusion=fuse)


def blocks(voxels: int, block: int = BLOCK) -> int:
    """Programs that cover so many voxels."""
    assert voxels <= 2**31 - block, "a volume's voxels are counted in 32 bits"
    return triton.cdiv(voxels, block)


def tile(channels: int) -> tuple[int, int]:
    """Voxels and channels of a program that works on images with their channels last."""
    wide = min(triton.next_power_of_2(channels), _WIDEST)
    return _TILE // max(wide, _TILE // BLOCK), wide


def plain(tensor: Tensor) -> Tensor:
    """Float32, contiguous."""
    return tensor.detach().to(torch.float32).contiguous()


def channels_last(image: Tensor) -> Tensor:
    """(B, C, I, J, K), with the channels of a voxel side by side in memory."""
    return image.detach().contiguous(memory_format=torch.channels_last_3d)


def new_channels_last(like: Tensor, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Uninitialised (B, C, I, J, K), channels last, on the device of `like`."""
    return torch.empty(shape, dtype=dtype, device=like.device, memory_format=torch.channels_last_3d)


@triton.jit
def voxels_of(block, nj, nk, BLOCK: tl.constexpr):
    """Flat indices of a block's voxels, and their three indices in a volume (I, J, K)."""
    n = block * BLOCK + tl.arange(0, BLOCK)
    row = n // nk
    return n, row // nj, row % nj, n - row * nk
