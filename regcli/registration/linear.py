"""The linear stage: where to start, then rigid to affine, coarse to fine."""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from regcli.energy.base import Similarity
from regcli.image import Space, transform_points
from regcli.ops.totals import total
from regcli.registration.force import GaussNewtonForce
from regcli.registration.levels import Trace, Watch
from regcli.registration.multiresolution import Level, Registration, paired
from regcli.registration.prompts import Prompts
from regcli.registration.pyramid import Prepared
from regcli.solve.descent import LevenbergMarquardt
from regcli.transforms.linear import Linear, frame

_ORDER = ("translation", "rigid", "similarity", "affine")
_POOR = 0.88  # energy per voxel of a start that hardly fits
_COARSE = 20  # voxels along an average axis of the level on which starts are compared
# Across contrasts, a head turned by 180 degrees can fit up to 3 % better than the right one on
# that level; starts as close as this are compared again on a finer one.
_CLOSE, _FINER = 0.1, 40
_RIGID = (("translation", 5), ("rigid", 15))  # steps of each family in turn
_SCALED = (*_RIGID, ("similarity", 15))  # on the finer level, another size would decide


_CENTRES = "centres of mass"
# By so much must a slice seen from behind, mirrored, fit better: of an anatomy that is nearly
# symmetric it fits as well to a thousandth; where it is right, better by a tenth.
_BEHIND = 0.05


@dataclass(frozen=True)
class Start:
    """A candidate to start from.

    Attributes:
        name: What it rests on.
        matrix: (4, 4) fixed world to moving world.
        energy: After a short rigid registration on the coarsest level, per voxel.
    """

    name: str
    matrix: Tensor
    energy: float


def typical_extent(prepared: Prepared) -> float:
    """Geometric mean of the field of view's sides, mm; axes of one voxel do not count."""
    sides = [
        n * h for n, h in zip(prepared.space.shape, prepared.space.spacing, strict=True) if n > 1
    ]
    return math.prod(sides) ** (1 / len(sides))


def start(
    fixed: Prepared,
    moving: Prepared,
    similarity: Similarity,
    init: str,
    watch: Watch,
    *,
    turning: bool = True,
) -> Start:
    """The best of several starts, each refined rigidly on a coarse level.

    Args:
        fixed: Image.
        moving: Image.
        similarity: By which starts are compared.
        init: "header" (the identity; of a 2-D pair, brought into one plane), "moments" (centres and
            principal axes) or "auto" (both, and turns about every axis if none of them fits).
        watch: Progress and time limit.
        turning: Whether the map may turn; else starts are shifts alone.
    """
    spacing = typical_extent(fixed) / _COARSE
    coarse, other = fixed.at(spacing), moving.at(spacing)
    matrices: dict[str, Tensor] = {}
    if init != "moments":
        matrices["header"] = torch.eye(4, dtype=torch.float64)
    if not turning:
        if init != "header":
            matrices[_CENTRES] = _centred(coarse, other)
        shifts = refined(coarse, other, similarity, matrices, watch, _RIGID[:1])
        return min(shifts, key=lambda s: s.energy)
    if init != "header":
        matrices |= _moments(coarse, other)
    matrices = _coplanar(coarse, other, matrices)
    starts = _priced(refined(coarse, other, similarity, matrices, watch), coarse, other)
    if init == "auto" and min(s.energy for s in starts) > _POOR:
        turned = _coplanar(coarse, other, _turns(coarse, other))
        starts += _priced(refined(coarse, other, similarity, turned, watch), coarse, other)
    finalists = _finalists(starts, coarse.space)
    if len(finalists) > 1:
        matrices = {s.name: s.matrix for s in finalists}
        fine, other = (image.at(typical_extent(fixed) / _FINER) for image in (fixed, moving))
        again = _priced(refined(fine, other, similarity, matrices, watch, _SCALED), fine, other)
        energies = {s.name: s.energy for s in again}
        return min(finalists, key=lambda s: energies[s.name])
    return finalists[0]


def align(
    fixed: Prepared,
    moving: Prepared,
    similarity: Similarity,
    family: str,
    matrix: Tensor,
    watch: Watch,
    prompts: Prompts | None = None,
) -> tuple[Tensor, list[Trace]]:
    """Refine a start through ever larger linear families, on ever finer levels.

    Args:
        fixed: Image.
        moving: Image.
        similarity: To lower.
        family: "translation", "rigid", "similarity" or "affine": the last one.
        matrix: (4, 4) where to start.
        watch: Progress and time limit.
        prompts: What a user knows of both.

    Returns:
        (4, 4) fixed world to moving world, and what happened.
    """
    extent = typical_extent(fixed)
    families = [
        f for f in ("rigid", "similarity", "affine") if _ORDER.index(f) <= _ORDER.index(family)
    ]
    traces = []
    for name in families or ["translation"]:
        last = name == (families or ["translation"])[-1]
        divisions = (24, 48, 90) if last else (24,)
        levels = tuple(Level(extent / d, LevenbergMarquardt()) for d in divisions)
        registration = Registration(
            name, Linear(name), GaussNewtonForce((similarity,)), levels, dense=False
        )
        y, _, trace = registration.run(fixed, moving, matrix, watch, prompts=prompts)
        matrix = matrix @ y
        traces += trace
    return matrix, traces


def refined(
    fixed: Prepared,
    moving: Prepared,
    similarity: Similarity,
    matrices: dict[str, Tensor],
    watch: Watch,
    families: tuple[tuple[str, int], ...] = _RIGID,
) -> list[Start]:
    """Each matrix after a few steps, with its energy.

    Args:
        fixed: Image, on a coarse grid.
        moving: Image, on a coarse grid.
        similarity: To lower.
        matrices: (4, 4) each, fixed world to moving world, by name.
        watch: Time limit.
        families: Linear families in turn, and the steps of each.
    """
    force = GaussNewtonForce((similarity,))
    voxels = float(total(fixed.weights))
    out = []
    for name, matrix in matrices.items():
        y, energy = torch.eye(4, dtype=torch.float64), 0.0
        for family, steps in families:
            transform = Linear(family)
            problem = force.problem(paired(fixed, moving, matrix), transform)
            going = watch.steps("start", len(out) / len(matrices), 0.0)
            solution = LevenbergMarquardt(steps, tol=1e-4).run(problem, y, going)
            y, energy = solution.y, solution.energy
        out.append(Start(name, matrix @ y, energy / voxels))
    return out


def _finalists(starts: list[Start], space: Space) -> list[Start]:
    """The starts that fit about as well as the best one, but each place only once."""
    starts = sorted(starts, key=lambda s: s.energy)
    limit = starts[0].energy + _CLOSE * abs(starts[0].energy)
    last = [float(n - 1) for n in space.shape]
    corners = space.voxel_to_world(torch.cartesian_prod(*(torch.tensor([0, n]) for n in last)))
    kept: list[Start] = []
    for candidate in (s for s in starts if s.energy <= limit):
        places = [transform_points(s.matrix, corners) for s in (candidate, *kept)]
        gaps = [float((places[0] - place).norm(dim=1).max()) for place in places[1:]]
        if all(gap > 2 * max(space.spacing) for gap in gaps):
            kept.append(candidate)
    return kept


def _moments(fixed: Prepared, moving: Prepared) -> dict[str, Tensor]:
    """Starts that bring the centres of mass together: unturned, and along the principal axes."""
    (c_f, S_f), (c_m, S_m) = _mass(fixed), _mass(moving)
    out = {_CENTRES: _centred(fixed, moving)}
    U_f, U_m = (torch.linalg.eigh(S).eigenvectors for S in (S_f, S_m))
    U_f, U_m = (U * torch.linalg.det(U) for U in (U_f, U_m))
    for signs in ((1, 1, 1), (1, -1, -1), (-1, 1, -1), (-1, -1, 1)):
        R = U_m @ torch.diag(torch.tensor(signs, dtype=torch.float64)) @ U_f.T
        out[f"principal axes {''.join('+-'[s < 0] for s in signs)}"] = _about(R, c_f, c_m)
    return out


def _centred(fixed: Prepared, moving: Prepared) -> Tensor:
    """(4, 4), the shift that brings the centres of mass together."""
    return _about(torch.eye(3, dtype=torch.float64), _mass(fixed)[0], _mass(moving)[0])


def _turns(fixed: Prepared, moving: Prepared) -> dict[str, Tensor]:
    """Starts turned by 45, 90 and 180 degrees about every axis of the fixed grid."""
    c_f, c_m = _mass(fixed)[0], _mass(moving)[0]
    axes = frame(fixed.space)[:3, :3]
    out = {}
    for axis in range(3):
        for degrees in (-90, -45, 45, 90, 180):
            spin = torch.zeros(3, 3, dtype=torch.float64)
            a, b = (axis + 1) % 3, (axis + 2) % 3
            spin[a, b], spin[b, a] = -math.radians(degrees), math.radians(degrees)
            R = axes @ torch.linalg.matrix_exp(spin) @ axes.T
            out[f"turned {degrees} degrees about axis {axis}"] = _about(R, c_f, c_m)
    return out


def _coplanar(fixed: Prepared, moving: Prepared, matrices: dict[str, Tensor]) -> dict[str, Tensor]:
    """The starts, those of a 2-D pair tilted and shifted so that one plane falls into the other.

    What follows stays in the fixed plane, and outside its own plane a slice shows nothing.
    """
    if not _flat(fixed, moving):
        return matrices
    n_f, n_m = _normal(fixed.space), _normal(moving.space)
    c_f, c_m = _mass(fixed)[0], _mass(moving)[0]
    out = {}
    for name, matrix in matrices.items():
        v = matrix[:3, :3] @ n_f
        n = n_m if v @ n_m >= 0 else -n_m
        axis = torch.linalg.cross(v, n)
        K = torch.linalg.cross(axis.expand(3, 3), torch.eye(3, dtype=torch.float64), dim=1).T
        tilt = torch.eye(3, dtype=torch.float64) + K + K @ K / (1 + v @ n)
        centre = transform_points(matrix, c_f[None])[0]
        centre = centre - ((centre - c_m) @ n) * n
        out[name] = _about(tilt @ matrix[:3, :3], c_f, centre)
    return out


def _flat(fixed: Prepared, moving: Prepared) -> bool:
    """Whether both are single slices."""
    return sum(fixed.space.solid) == sum(moving.space.solid) == 2


def _priced(starts: list[Start], fixed: Prepared, moving: Prepared) -> list[Start]:
    """The starts, of a 2-D pair those that see the moving slice from behind with more energy."""
    if not _flat(fixed, moving):
        return starts
    n_f, n_m = _normal(fixed.space), _normal(moving.space)
    n_m = n_m if n_f @ n_m >= 0 else -n_m
    price = [_BEHIND * abs(s.energy) * ((s.matrix[:3, :3] @ n_f) @ n_m < 0) for s in starts]
    return [replace(s, energy=s.energy + float(p)) for s, p in zip(starts, price, strict=True)]


def _normal(space: Space) -> Tensor:
    """(3,) world: of the plane that a 2-D image lies in."""
    a, b = (space.affine[:3, axis] for axis in range(3) if space.solid[axis])
    normal = torch.linalg.cross(a, b)
    return normal / normal.norm()


def _about(R: Tensor, c_f: Tensor, c_m: Tensor) -> Tensor:
    """(4, 4) of x -> R (x - c_f) + c_m."""
    matrix = torch.eye(4, dtype=torch.float64)
    matrix[:3, :3] = R
    matrix[:3, 3] = c_m - R @ c_f
    return matrix


def centre_of_mass(image: Prepared) -> Tensor:
    """(3,) world mm, of the intensities."""
    return _mass(image)[0]


def _mass(image: Prepared) -> tuple[Tensor, Tensor]:
    """Centre (3,) and covariance (3, 3) of the intensities, world mm."""
    mass = (image.data * image.weights)[0, 0].to("cpu", torch.float64)
    mass = mass / total(mass).clamp(min=1e-12)
    powers = [
        torch.stack([torch.ones(n, dtype=torch.float64), x, x * x])
        for n, x in ((n, torch.arange(n, dtype=torch.float64)) for n in mass.shape)
    ]
    sums = torch.einsum("ijk,pi,qj,rk->pqr", mass, *powers)
    centre = torch.stack([sums[1, 0, 0], sums[0, 1, 0], sums[0, 0, 1]])
    second = torch.diag(torch.stack([sums[2, 0, 0], sums[0, 2, 0], sums[0, 0, 2]]))
    for a, b in ((0, 1), (0, 2), (1, 2)):
        both = [int(n in (a, b)) for n in range(3)]
        second[a, b] = second[b, a] = sums[both[0], both[1], both[2]]
    linear = image.space.affine[:3, :3]
    covariance = linear @ (second - torch.outer(centre, centre)) @ linear.T
    return image.space.voxel_to_world(centre), covariance
