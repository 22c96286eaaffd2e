"""Second-order models of an energy: its force and Gauss-Newton Hessian at every voxel."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from regcli.ops.filter import box_sum
from regcli.ops.kernels import reference
from regcli.ops.kernels.cpu import correlation, histogram, match
from regcli.ops.kernels.cpu.memory import empty
from regcli.ops.kernels.cpu.slabs import run, run_with_scratch


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

    def plus(self, other: "Quadratic") -> "Quadratic":
        """The model of the sum of both energies, in this model's memory."""
        return Quadratic(self.value + other.value, self.g.add_(other.g), self.A.add_(other.A))


def squares(moved: Tensor, fixed: Tensor, weight: Tensor, scale: float) -> Quadratic:
    """Model of scale / 2 sum_x w sum_c (moved - fixed)^2.

    Args:
        moved: (1, C, I, J, K).
        fixed: (1, C, I, J, K).
        weight: w, (1, 1, I, J, K).
        scale: Factor of the energy.
    """
    if moved.device.type != "cpu":
        r = moved - fixed
        value = 0.5 * scale * (weight * r.square()).sum(dtype=torch.float64)
        return _assemble(value, moved, scale * weight * r, scale * weight.expand_as(r))
    m, f = (t[0].permute(1, 2, 3, 0).contiguous().numpy() for t in (moved, fixed))
    shape = m.shape[:3]
    g, a = empty(1, 3, *shape), empty(1, 6, *shape)
    loss = np.empty(shape[0])
    w = weight[0, 0].contiguous().numpy()
    run(match.squares, shape[0], m, f, w, scale, g[0].numpy(), a[0].numpy(), loss)
    return Quadratic(torch.tensor(loss.sum(), dtype=torch.float64), g, a)


def pointwise(value: Tensor, moved: Tensor, slope: Tensor, curvature: Tensor) -> Quadratic:
    """Model of an energy of one channel from dE/dmoved and a curvature >= 0 at every voxel.

    Args:
        value: () the energy.
        moved: (1, 1, I, J, K).
        slope: (1, 1, I, J, K).
        curvature: (1, 1, I, J, K).
    """
    if moved.device.type != "cpu":
        return _assemble(value, moved, slope, curvature)
    shape = moved.shape[2:]
    g, a = empty(1, 3, *shape), empty(1, 6, *shape)
    arrays = (t[0, 0].contiguous().numpy() for t in (moved, slope, curvature))
    run(match.force, shape[0], *arrays, g[0].numpy(), a[0].numpy())
    return Quadratic(value, g, a)


def _assemble(value: Tensor, moved: Tensor, slope: Tensor, curvature: Tensor) -> Quadratic:
    D = reference.gradient(moved)  # (1, C, 3, I, J, K)
    g = (slope[:, :, None] * D).sum(1)
    pairs = [(0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2)]
    A = torch.stack([(curvature * D[:, :, p] * D[:, :, q]).sum(1) for p, q in pairs], dim=1)
    return Quadratic(value, g, A)


def correlation_derivatives(
    fixed: Tensor, moved: Tensor, weight: Tensor, radius: int, floor: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Energy sum_x w (1 - rho) of local correlations, dE/dmoved and its Gauss-Newton curvature.

    rho is the correlation in the window around x. With both windows scaled to zero mean and unit
    length, 1 - rho is half their squared difference: a least-squares energy, whence the curvature.

    Args:
        fixed: (1, 1, I, J, K).
        moved: (1, 1, I, J, K).
        weight: (1, 1, I, J, K): of a voxel inside windows, and of the window centred on it.
        radius: Of the windows, voxels.
        floor: Added to the variances and the covariance of every window, so that flat ones count
            as matching and pull at nothing.

    Returns:
        () float64, and two (1, 1, I, J, K).
    """
    if moved.device.type != "cpu":
        return _correlation_reference(fixed, moved, weight, radius, floor)
    f, m, w = (t[0, 0].contiguous().numpy() for t in (fixed, moved, weight))
    planes, rows, columns = f.shape
    windows, loss = empty(5, *f.shape).numpy(), np.empty(planes)
    size = correlation.scratch_size(6, radius, rows, columns)
    arrays = (f, m, w, radius, floor, windows, loss)
    run_with_scratch(correlation.coefficients, planes, size, *arrays)
    slope, curvature = (empty(*fixed.shape) for _ in range(2))
    size = correlation.scratch_size(5, radius, rows, columns)
    arrays = (windows, w, f, m, radius, slope[0, 0].numpy(), curvature[0, 0].numpy())
    run_with_scratch(correlation.derivatives, planes, size, *arrays)
    return torch.tensor(loss.sum(), dtype=torch.float64), slope, curvature


def _correlation_reference(
    fixed: Tensor, moved: Tensor, weight: Tensor, radius: int, floor: float
) -> tuple[Tensor, Tensor, Tensor]:
    f, m, w = fixed, moved, weight
    stack = torch.cat([w, w * f, w * m, w * f * f, w * m * m, w * f * m], dim=1)
    n, sf, sm, sff, smm, sfm = box_sum(stack, radius).split(1, dim=1)
    valid = ((w > 0) & (n > correlation.LEAST)).to(f.dtype)
    n = n.clamp(min=1e-6)
    mean_f, mean_m = sf / n, sm / n
    ff = (sff - n * mean_f * mean_f).clamp(min=0) + n * floor
    mm = (smm - n * mean_m * mean_m).clamp(min=0) + n * floor
    a = (ff * mm).rsqrt()
    rho = (sfm - n * mean_f * mean_m + n * floor) * a
    value = (valid * w * (1 - rho)).sum(dtype=torch.float64)
    b = rho / mm
    stack = torch.cat([a, a * mean_f, b, b * mean_m, 1 / mm], dim=1) * (valid * w)
    a, af, b, bm, c = box_sum(stack, radius).split(1, dim=1)
    return value, -w * (f * a - af - m * b + bm), w * c


def squared_correlation(a: Tensor, b: Tensor, weight: Tensor, radius: int, flat: float) -> float:
    """Mean over voxels, by weight, of the squared correlation in the window around each.

    Args:
        a: (1, 1, I, J, K), about standardised; on the CPU, as the others.
        b: (1, 1, I, J, K).
        weight: (1, 1, I, J, K): of a voxel inside windows, and of the window centred on it.
        radius: Of the windows, voxels.
        flat: Windows in which either variance is at most this count 0.
    """
    arrays = [t[0, 0].contiguous().numpy() for t in (a, b, weight)]
    planes, rows, columns = arrays[0].shape
    size, out = correlation.scratch_size(6, radius, rows, columns), np.empty(planes)
    run_with_scratch(correlation.squared, planes, size, *arrays, radius, flat, out)
    return float(out.sum()) / float(weight.sum(dtype=torch.float64))


def moments(image: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Weighted mean and variance, () float64; the variance is at least 1e-12.

    Args:
        image: (1, 1, I, J, K), about in [0, 1].
        weight: (1, 1, I, J, K).
    """
    if image.device.type != "cpu":
        n = weight.sum(dtype=torch.float64).clamp(min=1e-12)
        mean = (weight * image).sum(dtype=torch.float64) / n
        variance = (weight * (image - mean.to(image)).square()).sum(dtype=torch.float64) / n
        return mean, variance.clamp(min=1e-12)
    sums = np.empty((image.shape[2], 3))
    arrays = (t[0, 0].contiguous().numpy() for t in (image, weight))
    run(histogram.moments, image.shape[2], *arrays, sums)
    n, first, second = torch.from_numpy(sums.sum(0))
    mean = first / n.clamp(min=1e-12)
    return mean, (second / n.clamp(min=1e-12) - mean * mean).clamp(min=1e-12)


def index_moments(stack: Tensor) -> Tensor:
    """Sums over voxels of v i^p j^q k^r for p, q, r = 0, 1, 2: (C, I, J, K) to (C, 3, 3, 3).

    Float64, on the CPU.
    """
    index = [torch.arange(n, dtype=torch.float64) for n in stack.shape[1:]]
    powers = [torch.stack([torch.ones_like(x), x, x * x]) for x in index]  # (3, n) each
    if stack.device.type == "cpu":
        planes = np.empty((stack.shape[1], stack.shape[0], 3, 3))
        run(histogram.index_moments, stack.shape[1], stack.numpy(), planes)
        sums = torch.from_numpy(planes)
    else:
        wide = stack.to("cpu", torch.float64)
        sums = torch.einsum("cijk,qj,rk->icqr", wide, powers[1], powers[2])
    return torch.einsum("icqr,pi->cpqr", sums, powers[0])


def joint_histogram(fixed: Tensor, moved: Tensor, weight: Tensor, bins: int) -> Tensor:
    """Weights of the pairs (fixed, moved), each in [0, 1]: (bins, bins) float64, fixed first.

    Args:
        fixed: (1, 1, I, J, K).
        moved: (1, 1, I, J, K).
        weight: (1, 1, I, J, K).
        bins: The first is centred on 0, the last on 1; a pair is shared among the nearest four.
    """
    if moved.device.type != "cpu":
        return _histogram_reference(fixed, moved, weight, bins)
    f, m, w = (t[0, 0].contiguous().numpy() for t in (fixed, moved, weight))
    out = np.empty((f.shape[0], bins, bins))
    run(histogram.joint, f.shape[0], f, m, w, out)
    return torch.from_numpy(out.sum(0))


def _histogram_reference(fixed: Tensor, moved: Tensor, weight: Tensor, bins: int) -> Tensor:
    lower, upper = [], []
    for image in (fixed, moved):
        x = image.flatten().clamp(0, 1) * (bins - 1)
        low = x.long().clamp(max=bins - 2)
        lower.append(low)
        upper.append((x - low).to(torch.float64))
    w = weight.flatten().to(torch.float64)
    out = torch.zeros(bins * bins, dtype=torch.float64, device=moved.device)
    for p in (0, 1):
        for q in (0, 1):
            share = (upper[0] if p else 1 - upper[0]) * (upper[1] if q else 1 - upper[1])
            out.index_add_(0, (lower[0] + p) * bins + lower[1] + q, w * share)
    return out.view(bins, bins)


def lookup(fixed: Tensor, moved: Tensor, weight: Tensor, table: Tensor) -> Tensor:
    """weight * table(fixed, moved), bilinear between the bins of `joint_histogram`.

    Args:
        fixed: (1, 1, I, J, K).
        moved: (1, 1, I, J, K).
        weight: (1, 1, I, J, K).
        table: (bins, bins).

    Returns:
        (1, 1, I, J, K).
    """
    if moved.device.type != "cpu":
        return _lookup_reference(fixed, moved, weight, table)
    out = torch.empty_like(moved)
    arrays = (t[0, 0].contiguous().numpy() for t in (fixed, moved, weight))
    run(histogram.lookup, moved.shape[2], *arrays, table.numpy(), out[0, 0].numpy())
    return out


def _lookup_reference(fixed: Tensor, moved: Tensor, weight: Tensor, table: Tensor) -> Tensor:
    where = torch.stack([fixed.flatten(), moved.flatten(), torch.zeros_like(moved.flatten())])
    grid = (where.clamp(0, 1) * (table.shape[0] - 1)).view(1, 3, -1, 1, 1)
    values = reference.linear(table.to(moved)[None, None, :, :, None], grid)
    return weight * values.view(moved.shape)


def additive(model: Quadratic, displacement: Tensor) -> Quadratic:
    """The model of E(Id + u + d) from that of E((Id + u) o (Id + d)).

    Args:
        model: For a displacement composed before the map.
        displacement: u, (1, 3, I, J, K), voxels.
    """
    if displacement.device.type != "cpu":
        return _additive_reference(model, displacement)
    g, A = empty(*model.g.shape), empty(*model.A.shape)
    arrays = (t[0].numpy() for t in (displacement, model.g, model.A, g, A))
    run(match.additive, displacement.shape[2], *arrays)
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
