"""The only sampling of volumes; positions are voxels of the sampled volume, centres integers."""

from typing import Literal

import numpy as np
import torch
from torch import Tensor

from regcli.ops.backends import reference
from regcli.ops.backends.choose import backend, triton
from regcli.ops.backends.numba import sample as loops
from regcli.ops.backends.numba.memory import empty
from regcli.ops.backends.numba.slabs import run

Interpolation = Literal["linear", "nearest", "label"]
Shape = tuple[int, int, int]
_LOOPS = {"linear": loops.linear, "nearest": loops.nearest, "label": loops.label}
_NO_FIELD = np.zeros((3, 0, 0, 0), np.float32)


def sample(
    image: Tensor,
    displacement: Tensor | None = None,
    *,
    matrix: Tensor | None = None,
    shape: Shape | None = None,
    interpolation: Interpolation = "linear",
    border: bool = True,
) -> Tensor:
    """image(matrix (x + u(x))) for every voxel x of the output grid.

    Args:
        image: (B, C, I, J, K); "nearest" and "label" take any dtype, "linear" floats.
        displacement: u, (B, 3, i, j, k) voxels of the output grid; None for zero.
        matrix: (3, 4), output voxel to image voxel; None for the identity.
        shape: (i, j, k) of the output where there is no displacement; default the image's.
        interpolation: "label" picks the code with the largest trilinear weight.
        border: Outside the image, repeat its edge; else zero.

    Returns:
        (B, C, i, j, k).
    """
    matrix = torch.eye(3, 4, dtype=torch.float64) if matrix is None else matrix
    if displacement is not None:
        shape = _shape(displacement)
    shape = _shape(image) if shape is None else shape
    where = backend(image, displacement, matrix if matrix.requires_grad else None)
    if where == "triton" and interpolation != "label":
        nearest = interpolation == "nearest"
        arguments = (image, matrix, displacement, shape)
        return triton("sample").warp(*arguments, border=border, nearest=nearest)
    if where == "numba":
        return _sample_compiled(image, displacement, matrix, shape, interpolation, border)
    points = reference.positions(matrix.to(image.device), displacement, shape)
    if interpolation == "label":
        out = _sample_labels(image, points)
    elif interpolation == "nearest":
        out = reference.linear(image.to(torch.float64), points, mode="nearest").to(image.dtype)
    else:
        out = reference.linear(image, points)
    return out if border else out * reference.inside(points, _shape(image)).to(out.dtype)


def coverage(source: Shape, displacement: Tensor | None, matrix: Tensor, shape: Shape) -> Tensor:
    """1 where matrix (x + u(x)) lies inside a volume of shape `source`, else 0.

    Args:
        source: (I, J, K) of the sampled volume.
        displacement: (1, 3, i, j, k) voxels of the output grid, or None for zero.
        matrix: (3, 4), output voxel to source voxel.
        shape: (i, j, k) of the output.

    Returns:
        (1, 1, i, j, k) float32.
    """
    if displacement is not None and backend(displacement) != "numba":
        points = reference.positions(matrix.to(displacement.device), displacement, shape)
        return reference.inside(points, source).to(torch.float32)
    out = np.empty(shape, np.float32)
    field = _NO_FIELD if displacement is None else _array(displacement[0])
    run(loops.coverage, shape[0], np.array(source), _matrix(matrix), field, out)
    return torch.from_numpy(out)[None, None]


def after(outer: Tensor, inner: Tensor) -> Tensor:
    """(3, 4) matrix of x -> outer(inner(x))."""
    out = outer[:, :3] @ inner
    out[:, 3] += outer[:, 3]
    return out


def sample_covered(
    image: Tensor, displacement: Tensor | None, matrix: Tensor, shape: Shape
) -> tuple[Tensor, Tensor]:
    """`sample` with the edge repeated outside, and `coverage`, in one pass where that can be.

    Args:
        image: (1, C, I, J, K).
        displacement: u, (1, 3, i, j, k) voxels of the output grid; None for zero.
        matrix: (3, 4), output voxel to image voxel.
        shape: (i, j, k) of the output.

    Returns:
        (1, C, i, j, k) and (1, 1, i, j, k), both its own memory.
    """
    where, own = backend(image, displacement), image.shape[1:] == (1, *shape)
    if displacement is None or not own or not is_identity(matrix) or where == "reference":
        moved = sample(image, displacement, matrix=matrix, shape=shape)
        return moved, coverage(_shape(image), displacement, matrix, shape)
    if where == "triton":
        return triton("sample").pull(image, displacement)
    moved, inside, _ = empty(3, 1, 1, *shape)  # one more than needed: a step's block afterwards
    arrays = (_array(image[0, 0]), _array(displacement[0]), moved[0, 0].numpy())
    run(loops.pull, shape[0], *arrays, inside[0, 0].numpy())
    return moved, inside


def scatter(
    values: Tensor,
    displacement: Tensor | None = None,
    *,
    matrix: Tensor | None = None,
    shape: Shape | None = None,
) -> Tensor:
    """The transpose of linear `sample`: each value is shared among the voxels it came from.

    It is the gradient with respect to the image of what was sampled.

    Args:
        values: (B, C, i, j, k), on the output grid of `sample`.
        displacement: u, (B, 3, i, j, k) voxels of that grid; None for zero.
        matrix: (3, 4), voxel of that grid to image voxel; None for the identity.
        shape: (I, J, K) of the image; default that of the grid.

    Returns:
        (B, C, I, J, K) float32.
    """
    matrix = torch.eye(3, 4, dtype=torch.float64) if matrix is None else matrix
    shape = _shape(values) if shape is None else shape
    where = backend(values, displacement, matrix if matrix.requires_grad else None)
    if where == "triton":
        return triton("sample").scatter(values, matrix, displacement, shape)
    if where == "reference":
        points = reference.positions(matrix.to(values.device), displacement, _shape(values))
        return reference.scatter(values, points, shape)
    out = torch.zeros(*values.shape[:2], *shape)
    for b, (part, image) in enumerate(zip(values, out, strict=True)):
        field = _NO_FIELD if displacement is None else _array(displacement[b])
        run(loops.scatter, len(part), _array(part), _matrix(matrix), field, image.numpy())
    return out


def is_identity(matrix: Tensor | None) -> bool:
    """Whether a (3, 4) matrix leaves voxels where they are, but for rounding; None does."""
    if matrix is None:
        return True
    return torch.allclose(matrix, torch.eye(3, 4).to(matrix), rtol=0, atol=1e-9)


def sample_points(image: Tensor, points: Tensor) -> Tensor:
    """image (1, C, I, J, K) at voxel positions (N, 3), trilinear, edge outside: (N, C)."""
    grid = points.T.to(image.device, image.dtype).reshape(1, 3, -1, 1, 1)
    return reference.linear(image, grid)[0, :, :, 0, 0].T


def resize(image: Tensor, shape: Shape) -> Tensor:
    """image (B, C, I, J, K) on a grid of another shape with the same corner voxels, trilinear."""
    matrix = torch.zeros(3, 4, dtype=torch.float64)
    for axis, (old, new) in enumerate(zip(_shape(image), shape, strict=True)):
        matrix[axis, axis] = (old - 1) / (new - 1) if new > 1 else 1.0
        matrix[axis, 3] = 0.0 if new > 1 else (old - 1) / 2
    return sample(image, matrix=matrix, shape=shape)


def _shape(tensor: Tensor) -> Shape:
    i, j, k = tensor.shape[-3:]
    return i, j, k


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().to(torch.float32).contiguous().numpy()


def _matrix(matrix: Tensor) -> np.ndarray:
    return matrix.detach().to("cpu", torch.float64).contiguous().numpy()


def _sample_compiled(
    image: Tensor,
    displacement: Tensor | None,
    matrix: Tensor,
    shape: Shape,
    interpolation: Interpolation,
    border: bool,
) -> Tensor:
    batch = image.shape[0] if displacement is None else displacement.shape[0]
    dtype = torch.float32 if interpolation == "linear" else image.dtype
    size = (batch, *shape, image.shape[1])  # channels last
    out = empty(*size) if dtype == torch.float32 else torch.empty(size, dtype=dtype)
    for b in range(batch):
        source = image[min(b, image.shape[0] - 1)].to(dtype).permute(1, 2, 3, 0).contiguous()
        field = _NO_FIELD if displacement is None else _array(displacement[b])
        arrays = (source.numpy(), _matrix(matrix), field, border, out[b].numpy())
        run(_LOOPS[interpolation], shape[0], *arrays)
    return out.permute(0, 4, 1, 2, 3)


def _sample_labels(image: Tensor, points: Tensor) -> Tensor:
    best = torch.full(points.shape[-3:], -1.0, device=points.device)
    out = torch.zeros(image.shape[0], 1, *points.shape[-3:], device=image.device).to(image.dtype)
    for code in image.unique():
        weight = reference.linear((image == code).to(points.dtype), points)
        out = torch.where(weight > best, code, out)
        best = torch.maximum(weight, best)
    return out
