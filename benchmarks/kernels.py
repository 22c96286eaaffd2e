"""The hot loops, timed against plain torch and against the memory bandwidth of the machine.

A loop's floor is the time in which the volumes that it must read and write once can be copied.
"""

import itertools
import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from regcli.ops import correlation, field, filter, jacobian, match, newton
from regcli.ops.backends import reference
from regcli.ops.sample import sample, sample_covered, scatter
from regcli.ops.twogrid import factors

Shape = tuple[int, int, int]
_HERE = torch.eye(3, 4, dtype=torch.float64)


@dataclass(frozen=True)
class Case:
    """A loop, the same in plain torch, and how many float32 volumes it must read and write."""

    name: str
    loop: Callable[[], object]
    plain: Callable[[], object]
    volumes: int


def bandwidth(values: int = 1 << 26) -> float:
    """Bytes per second that copying moves, reading and writing; of more than caches hold."""
    a, b = torch.rand(values), torch.empty(values)
    return 2 * a.numel() * 4 / seconds(lambda: b.copy_(a))


def seconds(call: Callable[[], object], repeats: int = 5) -> float:
    """The fastest of several calls, after one that warms up."""
    call()
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        call()
        times.append(time.perf_counter() - began)
    return min(times)


def cases(shape: Shape, channels: int = 16) -> list[Case]:
    """Every loop on volumes of one shape."""
    draw = torch.Generator().manual_seed(0)
    f, m = (torch.rand(1, 1, *shape, generator=draw) for _ in range(2))
    u = _deformation(shape, draw)
    w = torch.ones(1, 1, *shape)
    features = [
        torch.rand(1, channels, *shape, generator=draw).contiguous(
            memory_format=torch.channels_last_3d
        )
        for _ in range(2)
    ]
    model = match.Quadratic(torch.zeros(()), u.clone(), torch.rand(1, 6, *shape, generator=draw))
    model.A[:, [0, 3, 5]] += 2
    stiffness = torch.full((3, 3), 0.15)
    return [
        Case(
            f"match, {channels} channels",
            lambda: match.exact_squares(*features, u, w, 1.0),
            lambda: _autograd(*features, u),
            2 * channels + 3 + 1 + 9,
        ),
        Case(
            f"match, {channels} channels, moved slopes",
            lambda: match.squares(match.Moved(features[0], u), features[1], w, 1.0),
            lambda: _autograd(*features, u),
            2 * channels + 3 + 1 + 9,
        ),
        Case(
            "warp, 1 channel",
            lambda: sample_covered(m, u, _HERE, shape),
            lambda: _plain_warp(m, u, shape),
            6,
        ),
        Case(
            "transpose of warp, 3 channels",
            lambda: scatter(u, u),
            lambda: reference.scatter(u, reference.positions(_HERE, u, shape), shape),
            9,
        ),
        Case("compose", lambda: field.compose(u, u), lambda: u + _plain_warp(u, u, shape), 9),
        Case(
            "exponentiate",
            lambda: field.exponentiate(u),
            lambda: _plain_exponential(u, shape),
            7 * 6,
        ),
        Case(
            "invert",
            lambda: field.invert(0.2 * u),
            lambda: field._invert_reference(0.2 * u, 1e-3, 40),
            9,
        ),
        Case(
            "lncc, radius 2",
            lambda: correlation.correlation_derivatives(f, m, w, 2, 1e-3),
            lambda: _plain_lncc(f, m, w, 2),
            5,
        ),
        Case(
            "gauss, sigma 1, 3 components",
            lambda: filter.gaussian(u, 1.0),
            lambda: reference.separable(u, (taps := filter.gaussian_taps(1.0), taps, taps), True),
            6,
        ),
        Case(
            "determinant",
            lambda: jacobian.jacobian_determinant(u),
            lambda: reference.determinant(reference.jacobian(u)),
            4,
        ),
        Case(
            "ten determinants, least",
            lambda: jacobian.least_determinant(u),
            lambda: _plain_corners(u),
            4,
        ),
        Case(
            "step on two grids",
            lambda: newton.two_grid(model, u, stiffness, 1e-3, 8),
            lambda: _plain_two_grid(model, u, stiffness),
            15,
        ),
    ]


def _deformation(shape: Shape, draw: torch.Generator) -> Tensor:
    """As smooth as between two brains at 2 mm: some voxels, changing over eight or so."""
    knots = [max(n // 8, 2) if n > 1 else 1 for n in shape]
    coarse = 4 * torch.rand(1, 3, *knots, generator=draw) - 2
    return F.interpolate(coarse, shape, mode="trilinear", align_corners=True)


def _autograd(moving: Tensor, fixed: Tensor, u: Tensor) -> Tensor:
    """Loss and dE/du of feature matching as one writes it in torch."""
    with torch.enable_grad():
        v = u.clone().requires_grad_()
        moved = sample(moving, v)
        (moved - fixed).square().mean().backward()
    assert v.grad is not None
    return v.grad


def _plain_warp(image: Tensor, u: Tensor, shape: Shape) -> Tensor:
    return reference.linear(image, reference.positions(_HERE, u, shape))


def _plain_exponential(v: Tensor, shape: Shape) -> Tensor:
    u = v / 2**7
    for _ in range(7):
        u = u + _plain_warp(u, u, shape)
    return u


def _plain_corners(u: Tensor) -> Tensor:
    """The least of the eight determinants at corners; the other two are left out."""
    sides = []
    for axis in range(3):
        wide = torch.cat([u.narrow(2 + axis, 0, 1), u, u.narrow(2 + axis, -1, 1)], 2 + axis)
        step = wide.diff(dim=2 + axis)
        unit = torch.eye(3)[axis].view(1, 3, 1, 1, 1)
        n = u.shape[2 + axis]
        sides.append([step.narrow(2 + axis, 0, n) + unit, step.narrow(2 + axis, 1, n) + unit])
    corners = (torch.stack(columns, dim=2) for columns in itertools.product(*sides))
    return torch.stack([reference.determinant(J) for J in corners]).amin(0)


def _plain_two_grid(model: match.Quadratic, u: Tensor, stiffness: Tensor) -> Tensor:
    steps, diagonal = factors(u), 2 * stiffness.sum(1)
    half = [reference.restrict(t, steps) for t in (model.g, model.A)]
    coarse = match.Quadratic(model.value, *half)
    mu = torch.tensor(0.01)
    d = newton._solve_reference(
        coarse, torch.zeros_like(half[0]), 2 * stiffness, mu, 2 * diagonal, 8
    )
    d = reference.prolong(d, steps, (u.shape[2], u.shape[3], u.shape[4]))
    return newton._relax_reference(d, u, model, stiffness, mu, diagonal)


def _plain_lncc(f: Tensor, m: Tensor, w: Tensor, radius: int) -> Tensor:
    """Value and derivative with box filters of torch."""
    width = 2 * radius + 1

    def box(stack: Tensor) -> Tensor:
        widths = [width if n > 1 else 1 for n in stack.shape[2:]]
        padding = [w // 2 for w in widths]
        return F.avg_pool3d(stack, widths, stride=1, padding=padding) * math.prod(widths)

    n, sf, sm, sff, smm, sfm = box(torch.cat([w, f, m, f * f, m * m, f * m], 1)).split(1, 1)
    ff, mm, fm = sff - sf * sf / n + 1e-3, smm - sm * sm / n + 1e-3, sfm - sf * sm / n
    a = (ff * mm).rsqrt()
    b = fm * a / mm
    a, af, b, bm = box(torch.cat([a, a * sf / n, b, b * sm / n], 1)).split(1, 1)
    return f * a - af - m * b + bm
