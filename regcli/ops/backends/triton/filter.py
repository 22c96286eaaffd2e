"""Separable filters: one pass over memory per axis."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from regcli.ops.backends.triton.launch import BLOCK, blocks, launch, plain, voxels_of


def separable(image: Tensor, taps: tuple[Tensor, Tensor, Tensor], replicate: bool) -> Tensor:
    """Filter along each axis with an odd number of taps.

    Args:
        image: (B, C, I, J, K).
        taps: Three of (2 r + 1,), on any device; on the host, a single 1 costs nothing.
        replicate: Repeat the edge outside the volume; else it is zero there.

    Returns:
        (B, C, I, J, K) float32; the image itself where there is nothing to do.
    """
    out = plain(image)
    batch, channels, *shape = out.shape
    for axis, tap in enumerate(taps):
        if len(tap) == 1 and tap.device.type == "cpu" and float(tap[0]) == 1:
            continue
        # non_blocking: a plain copy from the host waits for all that the device still has to do
        tap = tap.to(out.device, torch.float32, non_blocking=True).contiguous()
        source, out = out, torch.empty_like(out)
        grid = (blocks(out[0, 0].numel()), batch * channels)
        launch(_along, grid, source, tap, out, *shape, axis, len(tap), replicate, BLOCK)
    return out


@triton.jit(do_not_specialize=["ni", "nj", "nk"])
def _along(
    image, taps, out, ni, nj, nk,
    AXIS: tl.constexpr, TAPS: tl.constexpr, REPLICATE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    n, i, j, k = voxels_of(tl.program_id(0), nj, nk, BLOCK)
    mask = n < ni * nj * nk
    first = tl.program_id(1).to(tl.int64) * (ni * nj * nk).to(tl.int64)
    image += first
    if AXIS == 0:
        at, length, stride = i, ni, nj * nk
    elif AXIS == 1:
        at, length, stride = j, nj, nk
    else:
        at, length, stride = k, nk, 1
    total = tl.zeros([BLOCK], tl.float32)
    for t in range(0, TAPS):
        to = at + (t - TAPS // 2)
        inside = mask
        if REPLICATE:
            to = tl.minimum(tl.maximum(to, 0), length - 1)
        else:
            inside = mask & (to >= 0) & (to < length)
        value = tl.load(image + (n + (to - at) * stride), mask=inside, other=0.0)
        total += tl.load(taps + t) * value
    tl.store(out + first + n, total, mask=mask)
