"""The hot loops in plain torch: differentiable, on any device, and the oracle of the tests."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

EDGE = 0.5 + 1e-4  # a volume of n voxels covers [-1/2, n - 1/2): ITK's rule


def positions(matrix: Tensor, displacement: Tensor | None, shape: tuple[int, int, int]) -> Tensor:
    """matrix (x + u(x)) of every voxel x: (B, 3, i, j, k), from (3, 4) and (B, 3, i, j, k)."""
    like = matrix if displacement is None else displacement
    axes = [torch.arange(n, device=like.device, dtype=like.dtype) for n in shape]
    x = torch.stack(torch.meshgrid(*axes, indexing="ij"))[None]  # (1, 3, i, j, k)
    x = x if displacement is None else x + displacement
    matrix = matrix.to(x)
    return torch.einsum("cd,bdijk->bcijk", matrix[:, :3], x) + matrix[:, 3].view(1, 3, 1, 1, 1)


def inside(points: Tensor, shape: tuple[int, int, int]) -> Tensor:
    """(B, 1, i, j, k): 1 where points (B, 3, i, j, k) lie in a volume of that shape, else 0."""
    last = torch.tensor(shape, device=points.device, dtype=points.dtype).view(1, 3, 1, 1, 1) - 1
    within = (points >= -EDGE) & (points <= last + EDGE)
    return within.all(dim=1, keepdim=True).to(points.dtype)


def linear(image: Tensor, points: Tensor, mode: str = "bilinear") -> Tensor:
    """image (B, C, I, J, K) at points (B, 3, i, j, k), the nearest edge outside."""
    size = torch.tensor(image.shape[2:], device=points.device, dtype=points.dtype)
    cube = 2 * points / (size - 1).clamp(min=1).view(1, 3, 1, 1, 1) - 1
    cube = torch.where((size == 1).view(1, 3, 1, 1, 1), torch.zeros_like(cube), cube)
    grid = cube.flip(1).permute(0, 2, 3, 4, 1)  # grid_sample wants the last axis first
    batch = max(image.shape[0], grid.shape[0])
    return F.grid_sample(
        image.expand(batch, *image.shape[1:]),
        grid.expand(batch, *grid.shape[1:]).to(image.dtype),
        mode=mode,
        padding_mode="border",
        align_corners=True,
    )


def scatter(values: Tensor, points: Tensor, shape: tuple[int, int, int]) -> Tensor:
    """The transpose of `linear`: values (B, C, i, j, k) at points onto (B, C, *shape)."""
    with torch.enable_grad():
        image = values.new_zeros(*values.shape[:2], *shape, requires_grad=True)
        moved = linear(image, points.detach())
    return torch.autograd.grad(moved, image, values, create_graph=values.requires_grad)[0]


def separable(image: Tensor, taps: tuple[Tensor, Tensor, Tensor], replicate: bool) -> Tensor:
    """Filter (B, C, I, J, K) along each axis with an odd number of taps."""
    batch, channels = image.shape[:2]
    out = image.reshape(batch * channels, 1, *image.shape[2:])
    for axis, tap in enumerate(taps):
        radius = len(tap) // 2
        if radius == 0 and float(tap[0]) == 1:
            continue
        pad = [0, 0, 0, 0, 0, 0]
        pad[2 * (2 - axis)] = pad[2 * (2 - axis) + 1] = radius
        kernel = tap.to(out).view(1, 1, *(len(tap) if a == axis else 1 for a in range(3)))
        out = F.conv3d(F.pad(out, pad, mode="replicate" if replicate else "constant"), kernel)
    return out.reshape(image.shape)


def gradient(image: Tensor) -> Tensor:
    """Central differences along the last three axes, one-sided at edges: (..., 3, I, J, K)."""
    parts = []
    for axis in (-3, -2, -1):
        n = image.shape[axis]
        if n == 1:
            parts.append(torch.zeros_like(image))
            continue
        ahead = torch.cat([image.narrow(axis, 1, n - 1), image.narrow(axis, n - 1, 1)], axis)
        behind = torch.cat([image.narrow(axis, 0, 1), image.narrow(axis, 0, n - 1)], axis)
        steps = torch.full((n,), 2.0, device=image.device, dtype=image.dtype)
        steps[0] = steps[-1] = 1.0
        shape = [1] * image.ndim
        shape[axis] = n
        parts.append((ahead - behind) / steps.view(shape))
    return torch.stack(parts, dim=-4)


def jacobian(displacement: Tensor) -> Tensor:
    """I + Du of (B, 3, I, J, K): (B, 3, 3, I, J, K), row = component, column = axis."""
    eye = torch.eye(3, device=displacement.device, dtype=displacement.dtype)
    return eye.view(1, 3, 3, 1, 1, 1) + gradient(displacement)


def determinant(matrix: Tensor) -> Tensor:
    """Determinants of (B, 3, 3, ...): (B, ...)."""
    a, b, c = matrix.unbind(1)
    return (a * torch.linalg.cross(b, c, dim=1)).sum(1)


def restrict(fine: Tensor, steps: list[int]) -> Tensor:
    """Sums of (B, C, I, J, K) over blocks of steps[0] x steps[1] x steps[2] voxels."""
    pad = [
        p for n, step in zip(fine.shape[:1:-1], steps[::-1], strict=True) for p in (0, -n % step)
    ]
    return F.avg_pool3d(F.pad(fine, pad), steps) * math.prod(steps)


def prolong(coarse: Tensor, steps: list[int], shape: tuple[int, int, int]) -> Tensor:
    """(B, C, i, j, k) on the grid of `shape` that has steps[a] voxels per coarse one on axis a."""
    scale = tuple(float(step) for step in steps)
    i, j, k = shape
    return F.interpolate(coarse, scale_factor=scale, mode="trilinear")[:, :, :i, :j, :k]
