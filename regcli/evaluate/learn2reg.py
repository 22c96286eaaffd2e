"""The numbers of Learn2Reg's evaluator, as its code defines them, not as their names suggest.

All is in voxels of the arrays, and headers count for nothing: displacements (I, J, K, 3) lead from
voxels of the fixed to voxels of the moving array. Only `landmark_errors` is in mm.

Source: MDL-UzL/L2R, evaluation/evaluation.py; for `non_diffeomorphic_percent` and `centroid_error`
L2R_LUMIR_Eval of JHU-MedImage-Reg/LUMIR_L2R.
"""

import itertools
import math
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from regcli.evaluate.surfels import area_weighted_hd95

_OFFSET = 3.0  # added to determinants before their logarithm: it hides folds
_LEAST, _MOST = 1e-9, 1e9
_EDGE = 2  # voxels of each side that sdlogj leaves out
_LOWER = ("sdlogj", "tre")  # metrics whose "30" is the 0.7 quantile; HD95 is not among them


def carry_labels(moving: np.ndarray, displacement: np.ndarray) -> np.ndarray:
    """The moving labels on the fixed array: of the nearest voxel, 0 outside.

    Args:
        moving: Integers, (i, j, k).
        displacement: (I, J, K, 3).

    Returns:
        (I, J, K), the type of `moving`.
    """
    from scipy.ndimage import map_coordinates  # late: see ops/spline.py

    where = np.indices(displacement.shape[:3]) + np.moveaxis(displacement, 3, 0)
    return map_coordinates(moving, where, order=0)


def overlaps(
    fixed: np.ndarray, moving: np.ndarray, moved: np.ndarray, codes: Iterable[int]
) -> list[float]:
    """Dice of every label; NaN if the fixed or the moving image lacks it, 0 if only `moved` does.

    Args:
        fixed: (I, J, K) integers.
        moving: (i, j, k) integers.
        moved: (I, J, K) integers.
        codes: Labels.
    """

    def dice(a: np.ndarray, b: np.ndarray) -> float:
        return 2 * int((a & b).sum()) / int(a.sum() + b.sum())

    return _per_label(dice, fixed, moving, moved, codes)


def surface_distances(
    fixed: np.ndarray, moving: np.ndarray, moved: np.ndarray, codes: Iterable[int]
) -> list[float]:
    """HD95 of every label in voxels, see `area_weighted_hd95`; NaN as in `overlaps`.

    Infinite for a label that is lost on the way.
    """
    return _per_label(area_weighted_hd95, fixed, moving, moved, codes)


def log_determinant_spread(displacement: np.ndarray, mask: np.ndarray | None = None) -> float:
    """SDlogJ: standard deviation of log(det(I + Du) + 3), two voxels at each edge left out.

    Args:
        displacement: (I, J, K, 3).
        mask: (I, J, K); voxels count where it is 1, not where it is 2; default all.

    Returns:
        NaN if no voxel counts.
    """
    u = _inner(np.moveaxis(displacement.astype(np.float64), 3, 0), _EDGE)
    axes = np.eye(3, dtype=int)
    rows = [(u(axis) - u(-axis)) / 2 + axis[:, None, None, None] for axis in axes]
    logs = np.log((_determinant(*rows) + _OFFSET).clip(_LEAST, _MOST))
    if mask is not None:
        logs = logs[mask[(slice(_EDGE, -_EDGE),) * 3] == 1]
    return float(logs.std()) if logs.size else math.nan


def non_diffeomorphic_percent(displacement: np.ndarray, moving: np.ndarray) -> float:
    """NDV: folded volume by the ten determinants of digital diffeomorphism, per foreground volume.

    Args:
        displacement: (I, J, K, 3).
        moving: The moving image, (I, J, K); the foreground is where it is above 0, though the
            determinants belong to voxels of the fixed image. Voxels at the edges do not count.

    Returns:
        Per cent; NaN without a foreground.
    """
    u = np.moveaxis(displacement.astype(np.float64), 3, 0)
    phi = _inner(u + np.indices(u.shape[1:]), 1)
    inside = moving[1:-1, 1:-1, 1:-1] > 0
    axes, zero = np.eye(3, dtype=int), np.zeros(3, dtype=int)
    signs = itertools.product((1, -1), repeat=3)
    corners = [[s * axis for s, axis in zip(sides, axes, strict=True)] for sides in signs]
    middle = [axes[0] + axes[1], axes[1] + axes[2], axes[0] + axes[2]]
    backward = [-middle[0], -middle[2], -middle[1]]
    volume = 0.0
    for steps in (*corners, middle, backward):
        orientation = np.sign(np.linalg.det(np.array(steps)))
        det = orientation * _determinant(*(phi(step) - phi(zero) for step in steps))
        volume -= float(np.minimum(det, 0)[inside].sum()) / 12
    return 100 * volume / int(inside.sum()) if inside.any() else math.nan


def landmark_errors(
    fixed: np.ndarray, moving: np.ndarray, displacement: np.ndarray, spacing: Sequence[float]
) -> np.ndarray:
    """TRE of every landmark, mm of the moving image; the displacement is read by cubic splines.

    Args:
        fixed: (N, 3) voxels; the displacement is 0 outside the array.
        moving: (N, 3) voxels.
        displacement: (I, J, K, 3).
        spacing: mm per voxel of the moving image.

    Returns:
        (N,).
    """
    from scipy.ndimage import map_coordinates  # late: see ops/spline.py

    u = [map_coordinates(displacement[..., c].astype(np.float64), fixed.T) for c in range(3)]
    return np.linalg.norm((fixed + np.stack(u, axis=1) - moving) * np.asarray(spacing), axis=1)


def centroid_error(fixed: np.ndarray, moved: np.ndarray) -> float:
    """LUMIR's TRE: mean distance of labels' centroids, in voxels; NaN if one of them is lost.

    Args:
        fixed: (I, J, K) integers; the least of them is the background.
        moved: (I, J, K) integers.
    """
    errors = []
    for code in np.unique(fixed)[1:]:
        a, b = (np.argwhere(labels == code) for labels in (fixed, moved))
        errors.append(np.linalg.norm(a.mean(0) - b.mean(0)) if len(b) else math.nan)
    return float(np.mean(errors)) if errors else math.nan


def aggregate(values: Sequence[float], metric: str) -> dict[str, float]:
    """Mean, standard deviation and "30" of a metric over cases.

    "30" is a quantile: 0.7 for sdlogj and tre, else 0.3, for HD95 as well.
    """
    share = 0.7 if metric in _LOWER else 0.3
    x = np.array(values, np.float64)
    with np.errstate(invalid="ignore"):  # of infinite distances
        return {"mean": float(x.mean()), "std": float(x.std()), "30": float(np.quantile(x, share))}


def mean_of_known(values: Sequence[float]) -> float:
    """The mean of what is not NaN; NaN if nothing is."""
    known = [value for value in values if not math.isnan(value)]
    return sum(known) / len(known) if known else math.nan


def _per_label(
    measure: Callable[[np.ndarray, np.ndarray], float],
    fixed: np.ndarray,
    moving: np.ndarray,
    moved: np.ndarray,
    codes: Iterable[int],
) -> list[float]:
    codes = list(codes)
    boxes = [_boxes(labels, codes) for labels in (fixed, moving, moved)]
    found = []
    for code in codes:
        here, there, arrived = (box.get(code) for box in boxes)
        if here is None or there is None:
            found.append(math.nan)
            continue
        ends = zip(here, arrived or here, strict=True)
        both = tuple(slice(min(p.start, q.start), max(p.stop, q.stop)) for p, q in ends)
        found.append(measure(fixed[both] == code, moved[both] == code))
    return found


def _boxes(labels: np.ndarray, codes: list[int]) -> dict[int, tuple[slice, ...]]:
    """The smallest box around every one of the codes that occurs."""
    from scipy.ndimage import find_objects  # late: see ops/spline.py

    if not codes:
        return {}
    table = np.unique(codes)
    rank = np.searchsorted(table, labels).clip(max=len(table) - 1)
    ranked = np.where(table[rank] == labels, rank + 1, 0).astype(np.int32)
    boxes = zip(table.tolist(), find_objects(ranked, max_label=len(table)), strict=True)
    return {code: box for code, box in boxes if box is not None}


def _inner(field: np.ndarray, edge: int) -> Callable[[np.ndarray], np.ndarray]:
    """A function of a step: the field (3, I, J, K) that far on, without its `edge` outer voxels."""

    def at(step: np.ndarray) -> np.ndarray:
        ends = zip(step, field.shape[1:], strict=True)
        part = tuple(slice(edge + s, n - edge + s) for s, n in ends)
        return field[(slice(None), *part)]

    return at


def _determinant(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    """Determinants of the matrices with rows a, b, c, each (3, I, J, K)."""
    return (a * np.cross(b, c, axis=0)).sum(axis=0)
