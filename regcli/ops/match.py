"""Second-order models of an energy: its force and Gauss-Newton Hessian at every voxel."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from regcli.ops.backends import reference
from regcli.ops.backends.choose import backend, triton
from regcli.ops.backends.numba import additive as additive_loops
from regcli.ops.backends.numba import match as loops
from regcli.ops.backends.numba.memory import empty
from regcli.ops.backends.numba.slabs import run, run_with_scratch
from regcli.ops.sample import Shape, is_identity, sample


@dataclass(frozen=True, eq=False)
class Quadratic:
    """E(phi o (Id + d)) is about value + sum_x g . d + d . A d / 2, for a small displacement d.

    Attributes:
        value: () float64, the energy, summed over voxels.
        g: (1, 3, I, J, K), the force, per voxel.
        A: (1, 6, I, J, K), the Hessian's entries 00 01 02 11 12 22.
    """

    value: Tensor
    g: Tensor
    A: Tensor


@dataclass(frozen=True, eq=False)
class Moved:
    """An image seen through a map, moved only when someone asks for its values.

    Attributes:
        image: (1, C, i, j, k), of any type.
        displacement: u, (1, 3, I, J, K) voxels; None if the image is where it should be.
        matrix: (3, 4), voxel of the grid it is seen on to image voxel; None for the identity.
        shape: (I, J, K) of that grid; the image's by default.
    """

    image: Tensor
    displacement: Tensor | None = None
    matrix: Tensor | None = None
    shape: Shape | None = None

    @cached_property
    def values(self) -> Tensor:
        """(1, C, I, J, K), moving(matrix (x + u(x))), the nearest edge outside."""
        image = self.image.to(torch.float32)
        if self.displacement is None and self.matrix is None:
            return image
        return sample(image, self.displacement, matrix=self.matrix, shape=self.shape)


def squares(
    moved: Moved, fixed: Tensor, weight: Tensor, scale: float, onto: Quadratic | None = None
) -> Quadratic:
    """Model of scale / 2 sum_x w sum_c (moved - fixed)^2 for steps composed before the map.

    The slopes are central differences of the moved features, which thus hold the map's Jacobian.

    Args:
        moved: Of C channels; it is never stored where its map starts on its own grid.
        fixed: (1, C, I, J, K), of the moving features' type.
        weight: w, (1, 1, I, J, K).
        scale: Factor of the energy.
        onto: A model to add this one to, in its memory.
    """
    u, image = moved.displacement, moved.image
    own = u is not None and is_identity(moved.matrix) and image.shape == fixed.shape
    where = backend(fixed, image, u)
    if where == "triton":
        if not own:
            image, u = moved.values, fixed.new_zeros(1, 3, *fixed.shape[2:], dtype=torch.float32)
        return _added(Quadratic(*triton("match").central(image, fixed, u, weight, scale)), onto)
    if where == "reference":
        m = moved.values
        r = m - fixed
        value = 0.5 * scale * (weight * r.square()).sum(dtype=torch.float64)
        h = scale * weight.expand_as(r)
        return _assemble(value, reference.gradient(m), h * r, h, onto)
    if u is None or not own:
        image, fixed = moved.values, fixed.to(torch.float32)
        u = torch.zeros(1, 3, *fixed.shape[2:])
    _, channels, planes, rows, columns = fixed.shape
    size = loops.scratch_size(rows, columns, channels)
    arrays, loss, (g, A) = _features(image, fixed), np.empty(planes), _memory(fixed, onto)
    others = (u[0].contiguous().numpy(), weight[0, 0].contiguous().numpy(), scale, onto is None)
    run_with_scratch(
        loops.squares, planes, size, *arrays, *others, g[0].numpy(), A[0].numpy(), loss
    )
    return _sum(torch.tensor(loss.sum()), g, A, onto)


def exact_squares(
    moving: Tensor, fixed: Tensor, displacement: Tensor, weight: Tensor, scale: float
) -> Quadratic:
    """Model of scale / 2 sum_x w sum_c (moving(x + u(x)) - fixed(x))^2 for steps added to u.

    The slopes are those of the interpolated features, so g is the energy's gradient by u exactly,
    as implicit differentiation wants it. For solving, the smoother slopes of `squares` do better:
    with MIND, a T1-T2 pair lost 7 points of Dice by these.

    Args:
        moving: (1, C, I, J, K).
        fixed: (1, C, I, J, K).
        displacement: u, (1, 3, I, J, K) voxels.
        weight: w, (1, 1, I, J, K).
        scale: Factor of the energy.
    """
    where = backend(moving, fixed, displacement)
    if where == "triton":
        return Quadratic(*triton("match").exact(moving, fixed, displacement, weight, scale))
    if where == "reference":
        return _exact_reference(moving, fixed, displacement, weight, scale)
    arrays, loss, (g, A) = _features(moving, fixed), np.empty(fixed.shape[2]), _memory(fixed, None)
    others = (t[0].contiguous().numpy() for t in (displacement, weight[0]))
    run(loops.slopes, len(loss), *arrays, *others, scale, True, g[0].numpy(), A[0].numpy(), loss)
    return Quadratic(torch.tensor(loss.sum()), g, A)


def _exact_reference(
    moving: Tensor, fixed: Tensor, u: Tensor, weight: Tensor, scale: float
) -> Quadratic:
    i, j, k = fixed.shape[2:]
    points = reference.positions(torch.eye(3, 4), u, (i, j, k))
    with torch.enable_grad():
        p = points.detach().requires_grad_()
        moved = reference.linear(moving, p)
        slopes = [torch.autograd.grad(c.sum(), p, retain_graph=True)[0] for c in moved[0]]
    D, r = torch.stack(slopes, dim=1), moved.detach() - fixed  # (1, C, 3, I, J, K)
    value = 0.5 * scale * (weight * r.square()).sum(dtype=torch.float64)
    return _assemble(value, D, scale * weight * r, scale * weight.expand_as(r), None)


def pointwise(
    value: Tensor, moved: Tensor, slope: Tensor, curvature: Tensor, onto: Quadratic | None = None
) -> Quadratic:
    """Model of an energy of one channel from dE/dmoved and a curvature >= 0 at every voxel.

    Args:
        value: () the energy.
        moved: (1, 1, I, J, K).
        slope: (1, 1, I, J, K).
        curvature: (1, 1, I, J, K).
        onto: A model to add this one to, in its memory.
    """
    if backend(moved) != "numba":
        return _assemble(value, reference.gradient(moved), slope, curvature, onto)
    g, A = _memory(moved, onto)
    arrays = (t[0, 0].contiguous().numpy() for t in (moved, slope, curvature))
    run(loops.force, moved.shape[2], *arrays, onto is None, g[0].numpy(), A[0].numpy())
    return _sum(value, g, A, onto)


def _features(moving: Tensor, fixed: Tensor) -> tuple[Any, np.ndarray, np.ndarray]:
    """How many channels, as the loops want it, and both images with channels last."""
    m, f = (t[0].permute(1, 2, 3, 0).contiguous().numpy() for t in (moving, fixed))
    return (0,) * fixed.shape[1], m, f


def _memory(like: Tensor, onto: Quadratic | None) -> tuple[Tensor, Tensor]:
    if onto is not None:
        return onto.g, onto.A
    A = empty(1, 6, *like.shape[2:])  # first, or g might take a block that would hold A
    return empty(1, 3, *like.shape[2:]), A


def _sum(value: Tensor, g: Tensor, A: Tensor, onto: Quadratic | None) -> Quadratic:
    return Quadratic(value if onto is None else onto.value + value, g, A)


def _added(model: Quadratic, onto: Quadratic | None) -> Quadratic:
    if onto is None:
        return model
    return Quadratic(onto.value + model.value, onto.g.add_(model.g), onto.A.add_(model.A))


def _assemble(
    value: Tensor, D: Tensor, slope: Tensor, curvature: Tensor, onto: Quadratic | None
) -> Quadratic:
    """From the slopes D of the moved image, (1, C, 3, I, J, K), and the energy's derivatives."""
    g = (slope[:, :, None] * D).sum(1)
    pairs = [(0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2)]
    A = torch.stack([(curvature * D[:, :, p] * D[:, :, q]).sum(1) for p, q in pairs], dim=1)
    return _added(Quadratic(value, g, A), onto)


def additive(model: Quadratic, displacement: Tensor) -> Quadratic:
    """The model of E(Id + u + d) from that of E((Id + u) o (Id + d)).

    Args:
        model: For a displacement composed before the map.
        displacement: u, (1, 3, I, J, K), voxels.
    """
    if backend(displacement) != "numba":
        return _additive_reference(model, displacement)
    g, A = empty(*model.g.shape), empty(*model.A.shape)
    arrays = (t[0].numpy() for t in (displacement, model.g, model.A, g, A))
    run(additive_loops.additive, displacement.shape[2], *arrays)
    return Quadratic(model.value, g, A)


def _additive_reference(model: Quadratic, displacement: Tensor) -> Quadratic:
    J = reference.jacobian(displacement)
    det = reference.determinant(J)[:, None, None]
    a, b, c = J.unbind(1)
    rows = [torch.linalg.cross(p, q, dim=1) for p, q in ((b, c), (c, a), (a, b))]
    # det J^-1 as cross products: at a fold, the inverse need not exist
    B = torch.stack(rows, dim=2) / torch.where(det < 0, det.clamp(max=-0.1), det.clamp(min=0.1))
    A = model.A[:, [0, 1, 2, 1, 3, 4, 2, 4, 5]].unflatten(1, (3, 3))
    A = torch.einsum("bcpijk,bcdijk,bdqijk->bpqijk", B, A, B).flatten(1, 2)
    g = torch.einsum("bcpijk,bcijk->bpijk", B, model.g)
    return Quadratic(model.value, g, A[:, [0, 1, 2, 4, 5, 8]])
