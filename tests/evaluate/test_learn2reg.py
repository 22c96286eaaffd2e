"""Learn2Reg's numbers, computed again from their definitions, voxel by voxel."""

import itertools
import math

import numpy as np
import pytest

from regcli.evaluate import learn2reg

SHAPE = (9, 8, 7)


@pytest.fixture
def field():
    """Displacements that fold here and there."""
    rng = np.random.default_rng(0)
    return rng.normal(scale=0.7, size=(*SHAPE, 3)).astype(np.float32)


def labels(seed):
    return np.random.default_rng(seed).integers(0, 4, SHAPE)


def test_labels_are_those_of_the_nearest_voxel_and_zero_outside(field):
    moving, far = labels(1), 4 * field
    moved = learn2reg.carry_labels(moving, far)
    for x in itertools.product(*map(range, SHAPE)):
        y = np.array(x) + far[x].astype(float)
        inside = ((y >= 0) & (y <= np.array(SHAPE) - 1)).all()
        assert moved[x] == (moving[tuple(np.floor(y + 0.5).astype(int))] if inside else 0)


def test_a_label_missing_in_the_fixed_or_moving_image_is_no_number_and_a_lost_one_scores_zero():
    fixed, moving, moved = (np.zeros((4, 4, 4), int) for _ in range(3))
    fixed[0], moving[0], moved[0, :2] = 1, 1, 1  # 16 and 8 voxels, 8 in common
    fixed[1], moving[1] = 2, 2  # lost
    fixed[2] = 3
    moving[3] = moved[3] = 4
    codes = (1, 2, 3, 4)
    found = learn2reg.overlaps(fixed, moving, moved, codes)
    assert found == pytest.approx([16 / 24, 0, math.nan, math.nan], nan_ok=True)
    assert learn2reg.mean_of_known(found) == pytest.approx(1 / 3)
    distances = learn2reg.surface_distances(fixed, moving, moved, codes)
    assert distances == pytest.approx([2.0, math.inf, math.nan, math.nan], nan_ok=True)


def logs(field, keep):
    """log(det(I + Du) + 3) of the voxels two away from all edges that `keep` lets through."""
    found = []
    for x in itertools.product(*(range(2, n - 2) for n in SHAPE)):
        J = np.eye(3)
        for axis in range(3):
            e = np.eye(3, dtype=int)[axis]
            J[:, axis] += (field[tuple(x + e)].astype(float) - field[tuple(x - e)]) / 2
        if keep(x):
            found.append(math.log(min(max(np.linalg.det(J) + 3, 1e-9), 1e9)))
    return found


def test_sdlogj_has_an_offset_of_three_and_no_edges(field):
    found = learn2reg.log_determinant_spread(field)
    assert found == pytest.approx(np.std(logs(field, lambda x: True)), abs=1e-9)
    steep = 30 * field  # determinants far below -3: at the floor
    assert learn2reg.log_determinant_spread(steep) == pytest.approx(
        np.std(logs(steep, lambda x: True)), abs=1e-9
    )


def test_a_mask_is_where_it_is_one(field):
    mask = labels(2)
    found = learn2reg.log_determinant_spread(field, mask)
    assert found == pytest.approx(np.std(logs(field, lambda x: mask[x] == 1)), abs=1e-9)
    assert math.isnan(learn2reg.log_determinant_spread(field, 0 * mask))


def test_ndv_is_the_folded_volume_of_tetrahedra_in_the_moving_foreground(field):
    moving = labels(3)
    phi = np.moveaxis(np.indices(SHAPE), 0, 3) + field.astype(float)
    unit = np.eye(3, dtype=int)
    volume = count = 0.0
    for x in itertools.product(*(range(1, n - 1) for n in SHAPE)):
        if moving[x] == 0:
            continue
        count += 1
        corners = [
            [s * e for s, e in zip(signs, unit, strict=True)]
            for signs in itertools.product((1, -1), repeat=3)
        ]
        ahead = [(1, 1, 0), (0, 1, 1), (1, 0, 1)]
        behind = [(-1, -1, 0), (-1, 0, -1), (0, -1, -1)]
        for steps in (*corners, ahead, behind):
            edges = np.array([phi[tuple(np.add(x, s))] - phi[x] for s in steps])
            whole = np.linalg.det(np.array(steps, float)) / 6  # with the sign of the order
            volume += max(0.0, -np.linalg.det(edges) / 6 * np.sign(whole)) / 2
    found = learn2reg.non_diffeomorphic_percent(field, moving)
    assert found == pytest.approx(100 * volume / count, abs=1e-6)
    assert found > 1
    assert math.isnan(learn2reg.non_diffeomorphic_percent(field, 0 * moving))


def test_tre_reads_displacements_by_cubic_splines_in_mm_of_the_moving_image():
    u = np.zeros((25, 25, 25, 3), np.float32)
    u[12, 12, 12, 1] = 8
    fixed = np.array([[12.0, 12, 12], [12.5, 12, 12], [5, 5, 5]])
    moving = fixed + np.array([0.0, 0, 1])
    z = math.sqrt(3) - 2  # the pole of the cubic B-spline
    half = 8 * math.sqrt(3) * (1 + z) * (23 + z) / 48  # its cardinal spline half-way
    wanted = [math.hypot(8 * 2, 3), math.hypot(half * 2, 3), 3]
    found = learn2reg.landmark_errors(fixed, moving, u, (1.0, 2.0, 3.0))
    assert found == pytest.approx(wanted, abs=1e-6)


def test_centroids_are_compared_in_voxels():
    fixed, moved = np.zeros((2, 9, 8, 7), int)
    fixed[1:3, 1:3, 1:3], moved[4:6, 5:7, 1:3] = 1, 1
    fixed[6, 6, 6], moved[6, 6, 4] = 2, 2
    assert learn2reg.centroid_error(fixed, moved) == pytest.approx((5 + 2) / 2)
    assert math.isnan(learn2reg.centroid_error(fixed, 0 * moved))


@pytest.mark.parametrize(
    ("metric", "wanted"),
    [("dice", 1.9), ("hd95", 1.9), ("ndv", 1.9), ("tre", 3.1), ("sdlogj", 3.1)],
)
def test_thirty_is_a_quantile_that_depends_on_the_metric(metric, wanted):
    found = learn2reg.aggregate([4.0, 1.0, 3.0, 2.0], metric)
    assert found == pytest.approx({"mean": 2.5, "std": math.sqrt(1.25), "30": wanted})
