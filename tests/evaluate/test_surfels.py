"""HD95 by area: what DeepMind's definition gives by hand."""

import itertools
import math
from collections import Counter

import numpy as np
import pytest

from regcli.evaluate import surfels

FACE, EDGE, CORNER = 1.0, math.sqrt(2) / 2, math.sqrt(3) / 8
AREAS = {0: 2, 0.216506: 16, 0.433013: 32, 0.649519: 16, 0.707107: 24, 0.866025: 2, 0.923613: 48}
AREAS |= {1.0: 6, 1.149519: 48, 1.299038: 8, 1.366025: 24, 1.414214: 6, 1.573132: 24}


def box(shape, start, stop):
    mask = np.zeros(shape, bool)
    mask[tuple(slice(*ends) for ends in zip(start, stop, strict=True))] = True
    return mask


def brute_force(a, b):
    """All corners and all distances; of boxes, whose corners have 1, 2 or 4 voxels inside."""

    def surface(mask):
        inside = {tuple(v) for v in np.argwhere(mask)}
        found = {}
        for corner in itertools.product(*(range(n + 1) for n in mask.shape)):
            around = itertools.product(*((c - 1, c) for c in corner))
            count = sum(voxel in inside for voxel in around)
            if 0 < count < 8:
                found[corner] = {1: CORNER, 2: EDGE, 4: FACE}[count]
        return found

    def percentile(p, q):
        ordered = sorted((min(math.dist(x, y) for y in q), area) for x, area in p.items())
        total, reached = sum(area for _, area in ordered), 0.0
        for distance, area in ordered:
            reached += area
            if reached / total >= 0.95:
                return distance
        return ordered[-1][0]

    p, q = surface(a), surface(b)
    return max(percentile(p, q), percentile(q, p))


def test_the_cases_have_the_areas_of_the_published_table():
    assert dict(Counter(surfels._areas().round(6).tolist())) == AREAS


def test_a_box_has_the_area_of_its_faces_edges_and_corners():
    _, areas = surfels._surface(box((6, 7, 8), (1, 2, 3), (5, 5, 8)))  # 4 x 3 x 5, at an edge
    wanted = 2 * (3 * 2 + 3 * 4 + 2 * 4) * FACE + 4 * (3 + 2 + 4) * EDGE + 8 * CORNER
    assert areas.sum() == pytest.approx(wanted)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (((1, 2, 2), (5, 6, 6)), ((3, 2, 1), (8, 5, 7))),
        (((0, 0, 0), (1, 1, 1)), ((2, 3, 6), (3, 4, 7))),
        (((1, 1, 1), (8, 8, 8)), ((3, 3, 3), (5, 5, 4))),
    ],
)
def test_boxes_are_as_far_apart_as_by_all_corners_and_all_distances(first, second):
    a, b = box((9, 9, 9), *first), box((9, 9, 9), *second)
    assert surfels.area_weighted_hd95(a, b) == pytest.approx(brute_force(a, b), abs=1e-9)


def test_a_label_that_is_lost_is_infinitely_far():
    assert (
        surfels.area_weighted_hd95(
            box((4, 4, 4), (1, 1, 1), (3, 3, 3)), box((4, 4, 4), (0,) * 3, (0,) * 3)
        )
        == math.inf
    )
