import itertools
import math

import numpy as np
import oracles
import phantoms
import pytest
import SimpleITK as sitk
import torch

from regcli.errors import InputError
from regcli.evaluate import metrics
from regcli.image import Image, Space


def blobs(shape, seed, codes=(0, 2, 3, 41)):
    """Label maps of smooth blobs."""
    noise = torch.randn(1, 1, *shape, generator=torch.Generator().manual_seed(seed))
    width = [5 if n > 1 else 1 for n in shape]
    smooth = torch.nn.functional.avg_pool3d(noise, width, 1, [w // 2 for w in width])[0, 0]
    edges = torch.quantile(smooth, torch.linspace(0, 1, len(codes) + 1)[1:-1])
    return torch.tensor(codes)[torch.bucketize(smooth, edges)]


def plain_space(shape, spacing=(1.0, 1.0, 1.0)):
    return Space(shape, torch.diag(torch.tensor([*spacing, 1.0], dtype=torch.float64)))


def brute_force_hd95(a, b, spacing):
    """All distances between voxels that have a face neighbour outside their label."""
    steps = [
        step
        for axis in range(3)
        if a.shape[axis] > 1
        for step in (np.eye(3, dtype=int)[axis], -np.eye(3, dtype=int)[axis])
    ]

    def surface(mask):
        voxels = {tuple(v) for v in np.argwhere(mask)}
        outer = [v for v in voxels if any(tuple(np.add(v, s)) not in voxels for s in steps)]
        return np.array(outer) * spacing

    p, q = surface(a), surface(b)
    d = np.linalg.norm(p[:, None] - q[None], axis=2)
    return max(np.percentile(d.min(1), 95), np.percentile(d.min(0), 95))


def test_dice_equals_simpleitk():
    a, b = blobs((15, 12, 14), 0), blobs((15, 12, 14), 1)
    measure = sitk.LabelOverlapMeasuresImageFilter()
    measure.Execute(*(sitk.GetImageFromArray(x.numpy().astype(np.int16)) for x in (a, b)))
    ours = metrics.dice(a, b)
    assert list(ours) == [2, 3, 41]
    assert ours == pytest.approx({c: measure.GetDiceCoefficient(c) for c in ours})


def test_a_label_missing_from_one_scores_zero_and_from_both_nothing():
    a, b = torch.zeros(4, 4, 4, dtype=torch.int16), torch.zeros(4, 4, 4, dtype=torch.int16)
    a[0], b[3] = 7, -5
    assert metrics.dice(a, b) == {-5: 0.0, 7: 0.0}
    assert metrics.dice(a, b, codes=[7, 99]) == {7: 0.0}
    distances = metrics.hd95(a, b, (1, 1, 1), codes=[7, 99])
    assert list(distances) == [7]
    assert math.isnan(distances[7])


@pytest.mark.parametrize("far", [1, 10**8])
def test_label_maps_without_a_voxel_in_common_do_not_overlap(far):
    a, b = torch.full((3, 4, 5), -far), torch.full((3, 4, 5), far)
    a[0] = 9
    assert metrics.dice(a, b) == {-far: 0.0, 9: 0.0, far: 0.0}
    assert metrics.label_sizes(a) == {-far: 40, 9: 20}


def test_other_shapes_are_refused():
    a, b = torch.zeros(4, 4, 4), torch.zeros(4, 4, 5)
    for metric in (metrics.dice, metrics.ncc, metrics.lncc, metrics.mutual_information):
        with pytest.raises(InputError, match="different shapes"):
            metric(a, b)
    with pytest.raises(InputError, match="different shapes"):
        metrics.hd95(a, b, (1, 1, 1))


@pytest.mark.parametrize("shape", [(11, 9, 10), (17, 16, 1), (1, 12, 15)])
def test_hd95_equals_all_distances_between_surfaces(shape):
    a, b, spacing = blobs(shape, 2), blobs(shape, 3), (1.0, 0.7, 2.5)
    ours = metrics.hd95(a, b, spacing)
    assert list(ours) == [2, 3, 41]
    for code, value in ours.items():
        wanted = brute_force_hd95((a == code).numpy(), (b == code).numpy(), spacing)
        assert value == pytest.approx(wanted, abs=1e-9)


def test_a_sheet_one_voxel_thick_is_all_surface():
    a, b = torch.zeros(9, 9, 9, dtype=torch.int32), torch.zeros(9, 9, 9, dtype=torch.int32)
    a[2], b[6] = 1, 1
    assert metrics.hd95(a, b, (1.5, 1, 1)) == {1: pytest.approx(6.0)}
    b[2, 4, 4] = 1  # nearer, but only in the middle
    wanted = brute_force_hd95((a == 1).numpy(), (b == 1).numpy(), (1.5, 1, 1))
    assert metrics.hd95(a, b, (1.5, 1, 1))[1] == pytest.approx(wanted)


def test_one_voxel_is_all_surface():
    assert metrics.hd95(*[torch.full((1, 1, 1), 3)] * 2, (1, 1, 1)) == {3: 0.0}


def test_hd95_of_a_shift_is_at_most_simpleitk_hausdorff(space):
    a = torch.zeros(space.shape, dtype=torch.uint8)
    a[4:14, 5:15, 6:16] = 1
    b = a.roll((2, 1, 3), (0, 1, 2))
    filter_ = sitk.HausdorffDistanceImageFilter()
    filter_.Execute(*(oracles.to_itk(Image(x[None], space)) for x in (a, b)))
    ours = metrics.hd95(a, b, space.spacing)[1]
    longest = float((torch.tensor([2, 1, 3]) * torch.tensor(space.spacing)).norm())
    assert filter_.GetHausdorffDistance() == pytest.approx(longest, rel=1e-4)
    assert 0.4 * longest < ours <= longest + 1e-6


def test_dice_and_hd95_of_a_phantom_with_itself(space):
    codes = phantoms.pair(space).fixed_labels.data[0]
    overlap, distance = metrics.dice(codes, codes), metrics.hd95(codes, codes, space.spacing)
    assert set(overlap.values()) == {1.0}
    assert set(distance.values()) == {0.0}
    assert overlap.keys() == distance.keys()


def test_tre_is_the_distance_of_each_pair():
    a = torch.tensor([[0.0, 0, 0], [1, 2, 3]])
    assert metrics.tre(a, a + torch.tensor([3.0, 0, 4])).tolist() == pytest.approx([5, 5])
    with pytest.raises(InputError, match="different shapes"):
        metrics.tre(a, a[:1])


def affine_field(space, matrix):
    """u(x) = (M - 1) x, (1, 3, I, J, K) mm."""
    voxels = torch.stack(
        torch.meshgrid(*(torch.arange(n) for n in space.shape), indexing="ij"), dim=-1
    )
    x = space.voxel_to_world(voxels)
    return ((x @ (matrix - torch.eye(3)).double().T).permute(3, 0, 1, 2)[None]).float()


def test_an_affine_map_has_its_determinant_everywhere(space):
    matrix = torch.tensor([[1.1, 0.05, 0.0], [-0.1, 0.9, 0.1], [0.02, 0.0, 1.2]])
    summary = metrics.jacobian_summary(affine_field(space, matrix), space)
    det = float(torch.linalg.det(matrix))
    assert summary["min"] == pytest.approx(det, abs=1e-4)
    assert summary["max"] == pytest.approx(det, abs=1e-4)
    assert summary["sdlogj"] < 1e-4
    assert summary["folds_percent"] == summary["ndv_percent"] == summary["folds_anywhere"] == 0


def test_a_mirrored_map_is_folded_everywhere(space):
    summary = metrics.jacobian_summary(
        affine_field(space, torch.diag(torch.tensor([-1.0, 1, 1]))), space
    )
    inner = math.prod(n - 1 for n in space.shape)  # cells of the grid, each of volume 1
    assert summary["folds_percent"] == 100
    assert summary["folds_anywhere"] == math.prod(space.shape)
    assert summary["ndv_percent"] == pytest.approx(100 * inner / math.prod(space.shape), rel=1e-3)
    assert summary["min"] == pytest.approx(-1, abs=1e-4)
    assert summary["sdlogj"] == pytest.approx(0)  # all at the floor


def fold_along_first_axis(shape):
    """u0 falls by 1.5 voxels from i = 4 to i = 5 and once more to 6, and stays: det -1/2 there."""
    u = torch.zeros(1, 3, *shape)
    u[0, 0, 5], u[0, 0, 6:] = -1.5, -3.0
    return u


def test_a_known_fold_is_counted_as_by_hand():
    shape = (12, 8, 7)
    summary = metrics.jacobian_summary(fold_along_first_axis(shape), plain_space(shape))
    # central differences: i = 4: 1 - 0.75, i = 5: 1 - 1.5, i = 6: 1 - 0.75
    assert summary["min"] == pytest.approx(-0.5)
    assert summary["folds_percent"] == pytest.approx(100 / 12)
    # the planes 4, 5 and 6 touch one of the two folded cells
    assert summary["folds_anywhere"] == 3 * 8 * 7
    # two layers of 7 x 6 cells, each turned to the volume -1/2
    assert summary["ndv_percent"] == pytest.approx(100 * 2 * 7 * 6 * 0.5 / (12 * 8 * 7), rel=1e-5)
    logs = np.log([1.0] * 9 + [0.25] * 2 + [metrics.LOG_FLOOR])
    assert summary["sdlogj"] == pytest.approx(np.std(logs), rel=1e-5)


def test_the_mask_limits_all_but_folds_anywhere():
    shape = (12, 8, 7)
    mask = torch.zeros(shape, dtype=torch.uint8)
    mask[:3] = 1
    summary = metrics.jacobian_summary(fold_along_first_axis(shape), plain_space(shape), mask)
    assert summary["folds_percent"] == summary["ndv_percent"] == 0
    assert summary["min"] == summary["max"] == 1
    assert summary["folds_anywhere"] == 3 * 8 * 7
    with pytest.raises(InputError, match="empty"):
        metrics.jacobian_summary(fold_along_first_axis(shape), plain_space(shape), 0 * mask)


def test_a_phantom_map_has_no_folds(space):
    exact = phantoms.pair(space, linear=False)
    voxels = torch.from_numpy(phantoms.phantom.grid_points(space.shape, space.affine.numpy()))
    u = (exact.phi(voxels) - voxels).T.reshape(1, 3, *space.shape).float()
    summary = metrics.jacobian_summary(u, space, exact.fixed_labels.data[0] > 0)
    assert summary["folds_anywhere"] == 0
    assert 0.2 < summary["min"] < 1 < summary["max"] < 3
    assert 0.02 < summary["sdlogj"] < 0.5


def noisy_pair(shape=(12, 11, 10), share=0.5, seed=0):
    draw = torch.Generator().manual_seed(seed)
    a, noise = torch.randn(2, *shape, generator=draw)
    return a, share * a + (1 - share**2) ** 0.5 * noise


def test_ncc_equals_numpy():
    a, b = noisy_pair()
    assert metrics.ncc(a, b) == pytest.approx(np.corrcoef(a.ravel(), b.ravel())[0, 1])
    mask = a > 0.3
    wanted = np.corrcoef(a[mask], b[mask])[0, 1]
    assert metrics.ncc(3000 + a, -2 * b, mask) == pytest.approx(-wanted, abs=1e-5)
    assert metrics.ncc(a, torch.full_like(a, 7.1)) == 0


@pytest.mark.parametrize("masked", [False, True])
def test_lncc_equals_the_mean_over_windows(masked):
    a, b = noisy_pair((7, 8, 6))
    mask = torch.ones_like(a, dtype=torch.bool)
    if masked:
        mask = (torch.arange(7) < 5)[:, None, None] & (a < 1.5)
    squares = []
    for x in itertools.product(*(range(n) for n in a.shape)):
        if mask[x]:
            box = tuple(slice(max(i - 1, 0), i + 2) for i in x)
            inside = mask[box]
            squares.append(np.corrcoef(a[box][inside], b[box][inside])[0, 1] ** 2)
    ours = metrics.lncc(500 + 3 * a, b, mask, radius=1)
    assert ours == pytest.approx(np.mean(squares), abs=1e-4)


def test_lncc_is_one_for_locally_linear_images_and_zero_for_flat_ones():
    a, _ = noisy_pair()
    assert metrics.lncc(a, 2 - a) == pytest.approx(1, abs=1e-4)
    assert metrics.lncc(a, torch.ones_like(a)) == 0
    assert metrics.lncc(a[:, :, :1], a[:, :, :1] * 4) == pytest.approx(1, abs=1e-4)


def test_mutual_information_of_known_distributions():
    bits = torch.arange(4096).view(16, 16, 16)
    a, b = bits % 4, bits // 4 % 4
    assert metrics.mutual_information(a, b) == pytest.approx(0, abs=1e-9)
    assert metrics.mutual_information(a, 5 - 3 * a) == pytest.approx(math.log(4))
    assert metrics.mutual_information(a, a // 2) == pytest.approx(math.log(2))
    mask = (a == 0) | (a == 3)
    assert metrics.mutual_information(a, a, mask) == pytest.approx(math.log(2))
    assert metrics.mutual_information(a, torch.ones_like(a)) == pytest.approx(0)


def test_mutual_information_of_correlated_gaussians():
    a, b = noisy_pair((60, 60, 60), share=0.8)
    wanted = -0.5 * math.log(1 - 0.8**2)
    assert metrics.mutual_information(a, b) == pytest.approx(wanted, rel=0.05)


def test_one_absurd_voxel_hides_nothing():
    a, b = noisy_pair((20, 21, 22))
    broken = b.clone()
    broken[3, 4, 5] = 1e20
    assert metrics.lncc(a, broken) == pytest.approx(metrics.lncc(a, b), abs=0.05)
    assert metrics.ncc(a, broken) > 0.8 * metrics.ncc(a, b)
