"""HD95 weighted by surface area, as DeepMind's surface-distance and so Learn2Reg define it.

A surface passes between voxels. Each corner that eight voxels share has one of 256 cases, by which
of the eight are inside; marching cubes cuts the cube of their centres by triangles from middle to
middle of its edges. A corner counts as much as the area of its triangles.
"""

import itertools
from functools import cache

import numpy as np

from regcli.evaluate.metrics import nearest

_CORNERS = tuple("".join(bits) for bits in itertools.product("01", repeat=3))
# The voxels inside (of those that are fewer), and 64 times the squared areas of the triangles, for
# every case that no rotation, mirror or exchange of inside and outside turns into another.
_CASES = {
    "000": (3,),
    "000 001": (8, 8),
    "000 011": (3, 3),
    "000 111": (3, 3),
    "000 001 010": (3, 12, 16),
    "000 001 110": (3, 8, 8),
    "000 011 101": (3, 3, 3),
    "000 001 010 011": (16, 16),
    "000 001 010 100": (3, 3, 12, 12),
    "000 001 110 111": (8, 8, 8, 8),
    "000 011 101 110": (3, 3, 3, 3),
    "000 001 010 111": (3, 3, 12, 16),
    "000 001 011 111": (3, 8, 8, 27),
}


def area_weighted_hd95(fixed: np.ndarray, moved: np.ndarray) -> float:
    """The larger of two 95th percentiles of distances, by area, in voxels.

    Args:
        fixed: (I, J, K) bool, with some voxels inside.
        moved: (I, J, K) bool.

    Returns:
        Voxels; infinite if nothing of `moved` is inside.
    """
    a, b = (_surface(mask) for mask in (fixed, moved))
    if not len(b[0]):
        return float("inf")
    distances = nearest(a[0], b[0])
    return max(_percentile(d, area) for d, (_, area) in zip(distances, (a, b), strict=True))


def _surface(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Corners (N, 3) on the surface, and the area (N,) of each, in voxels."""
    i, j, k = mask.shape
    padded = np.pad(mask, 1).astype(np.uint8)
    case = np.zeros((i + 1, j + 1, k + 1), np.uint8)
    for bit, corner in enumerate(_CORNERS):
        x, y, z = map(int, corner)
        case |= padded[x : x + i + 1, y : y + j + 1, z : z + k + 1] << np.uint8(bit)
    surface = (case != 0) & (case != 255)
    return np.argwhere(surface), _areas()[case[surface]]


@cache
def _areas() -> np.ndarray:
    """Area of each of the 256 cases; bit n says whether corner n is inside."""
    areas = np.full(256, np.nan)
    areas[[0, 255]] = 0
    for corners, squares in _CASES.items():
        inside = np.array([[int(bit) for bit in corner] for corner in corners.split()])
        area = sum(np.sqrt(square) / 8 for square in squares)
        for order in itertools.permutations(range(3)):
            for mirror in itertools.product((0, 1), repeat=3):
                x, y, z = (inside[:, order] ^ mirror).T
                case = int((1 << (4 * x + 2 * y + z)).sum())
                areas[[case, 255 - case]] = area
    return areas


def _percentile(distances: np.ndarray, areas: np.ndarray) -> float:
    """The distance below which 95 % of the area lies."""
    order = np.lexsort((areas, distances))
    share = areas[order].cumsum() / areas[order].sum()
    return float(distances[order][min(np.searchsorted(share, 0.95), len(order) - 1)])
