import pytest
import torch

from regcli import registry
from regcli.ops.match import Moved
from regcli.ops.sample import sample

SHAPES = {"cube": (18, 19, 17), "thick": (24, 22, 9), "slice": (26, 24, 1)}
# How far the force may be from the slope of the value, relatively. All are exact but for rounding
# (0.005 at most) save MI, which reads its slope off a smoothed histogram (0.05).
TOLERANCE = {"mi": 0.08}
NAMES = list(registry.SIMILARITIES)


@pytest.fixture(params=NAMES)
def name(request):
    return request.param


@pytest.fixture(params=SHAPES)
def shape(request):
    return SHAPES[request.param]


def build(name):
    return registry.build(registry.SIMILARITIES, name)


def waves(shape, channels=1, seed=0, pace=0.45):
    """Smooth and between 0 and 1."""
    draw = torch.Generator().manual_seed(seed)
    axes = torch.stack(torch.meshgrid(*(torch.arange(float(n)) for n in shape), indexing="ij"))
    out = torch.zeros(1, channels, *shape)
    for _ in range(5):
        w = pace * torch.randn(channels, 3, generator=draw)
        phase = 6 * torch.rand(channels, 1, 1, 1, generator=draw)
        out += torch.cos(torch.einsum("cd,dijk->cijk", w, axes) + phase) / 5
    return 0.5 + 0.5 * out


def pair(shape):
    """A fixed image and one that is moved a little and noisy, with a weight that fades out."""
    fixed = waves(shape)
    moved = 0.8 * sample(fixed, 0.7 * field(shape, 3)) + 0.2 * waves(shape, seed=1)
    weight = torch.zeros(1, 1, *shape)
    inner = tuple(slice(3, n - 3) if n > 6 else slice(None) for n in shape)
    weight[(0, 0, *inner)] = waves(shape, seed=2)[(0, 0, *inner)]
    return fixed, moved, weight


def field(shape, seed):
    """A smooth displacement of up to a voxel, none along axes of length 1."""
    solid = torch.tensor([float(n > 1) for n in shape]).view(1, 3, 1, 1, 1)
    return (2 * waves(shape, 3, seed, pace=0.3) - 1) * solid


def model(name, fixed, moved, weight):
    similarity = build(name)
    return similarity.model(similarity.describe(fixed), Moved(similarity.describe(moved)), weight)


def inside(weight):
    """Voxels whose neighbours all have a weight."""
    out = weight > 0
    for axis in (2, 3, 4):
        n = weight.shape[axis]
        for step in (-1, 1):
            index = (torch.arange(n) + step).clamp(0, n - 1)
            out = out & (weight.index_select(axis, index) > 0)
    return out


def test_the_force_is_the_slope_of_the_value(name, shape):
    similarity = build(name)
    fixed, moved, weight = pair(shape)
    f, m = similarity.describe(fixed), similarity.describe(moved)
    g = similarity.model(f, Moved(m), weight).g
    downhill = -g / g.norm(dim=1).max()
    for direction in (downhill, field(shape, 4), field(shape, 5)):
        slopes = [
            float(similarity.model(f, Moved(m, step * direction), weight).value)
            for step in (0.02, -0.02)
        ]
        numeric = (slopes[0] - slopes[1]) / 0.04
        scale = float((g * direction).abs().sum())
        assert abs(float((g * direction).sum()) - numeric) < TOLERANCE.get(name, 0.01) * scale
    assert float((g * downhill).sum()) < 0


def test_the_value_is_least_at_the_identity(name, shape):
    fixed = waves(shape)
    _, _, weight = pair(shape)
    least = float(model(name, fixed, fixed, weight).value)
    for axis in range(3):
        if shape[axis] < 2:
            continue
        for step in (-2.0, -1.0, -0.5, 0.5, 1.0, 2.0):
            u = torch.zeros(1, 3, *shape)
            u[:, axis] = step
            assert float(model(name, fixed, sample(fixed, u), weight).value) > least
    for seed in range(3):
        other = sample(fixed, 2 * field(shape, seed))
        assert float(model(name, fixed, other, weight).value) > least


def test_identical_images_do_not_pull(shape):
    fixed = waves(shape)
    _, moved, weight = pair(shape)
    for name in ("ssd", "ncc", "mind", "lncc"):
        still, pulled = model(name, fixed, fixed, weight), model(name, fixed, moved, weight)
        assert float(still.g.norm()) <= 1e-4 * float(pulled.g.norm())


def test_voxels_without_weight_have_no_influence(name, shape):
    fixed, moved, weight = pair(shape)
    similarity = build(name)
    f, m = similarity.describe(fixed), similarity.describe(moved)
    before = similarity.model(f, Moved(m), weight)
    noise = torch.rand(f.shape, generator=torch.Generator().manual_seed(7))
    other = torch.where(weight > 0, f, noise), torch.where(weight > 0, m, noise.flip(2))
    after = similarity.model(other[0], Moved(other[1]), weight)
    assert float(after.value) == pytest.approx(float(before.value), rel=1e-6)
    deep = inside(weight)
    assert bool(deep.any())
    for one, two in ((before.g, after.g), (before.A, after.A)):
        torch.testing.assert_close(one * deep, two * deep, atol=1e-5, rtol=1e-4)
        assert float((two * (weight == 0)).abs().max()) == 0


def test_the_hessian_is_positive_semi_definite(name, shape):
    fixed, moved, weight = pair(shape)
    A = model(name, fixed, moved, weight).A[0, [0, 1, 2, 1, 3, 4, 2, 4, 5]].double()
    values = torch.linalg.eigvalsh(A.unflatten(0, (3, 3)).movedim((0, 1), (-2, -1)))
    assert float(values.min()) > -1e-5 * float(values.max())
    assert float(values.max()) > 0


def test_a_factor_scales_the_whole_model(name, shape):
    fixed, moved, weight = pair(shape)
    plain = build(name)
    double = registry.build(registry.SIMILARITIES, f"{name}:weight={2 * plain.weight}")
    f, m = plain.describe(fixed), plain.describe(moved)
    m = Moved(m)
    one, two = plain.model(f, m, weight), double.model(f, m, weight)
    assert float(two.value) == pytest.approx(2 * float(one.value), rel=1e-6)
    torch.testing.assert_close(two.g, 2 * one.g, atol=1e-6, rtol=1e-4)
    torch.testing.assert_close(two.A, 2 * one.A, atol=1e-6, rtol=1e-4)


def test_the_energy_is_near_1_per_voxel_where_nothing_matches(name, shape):
    fixed, _, weight = pair(shape)
    voxels = build(name).weight * float(weight.sum())
    same, other = (
        float(model(name, fixed, m, weight).value) / voxels for m in (fixed, waves(shape, seed=9))
    )
    assert 0.4 < other < 1.3
    assert -1e-6 < same < (0.7 if name == "mi" else 0.03) * other


def test_mi_does_not_gain_by_losing_background():
    """Cutting the empty part of the field of view off must not look like a better match."""
    fixed, moved = waves((24, 20, 18)), waves((24, 20, 18), seed=1)
    moved = 0.8 * fixed + 0.2 * moved
    head = torch.zeros_like(fixed)
    head[:, :, :4] = 1
    whole, part = torch.ones_like(fixed), head
    per_voxel = [
        float(model("mi", head * fixed, head * moved, w).value / w.sum()) for w in (whole, part)
    ]
    assert per_voxel[0] < per_voxel[1]


@pytest.mark.parametrize("change", [(1.0, 0.2), (0.5, 0.0), (1.7, -0.3)])
def test_ncc_sees_neither_scale_nor_offset(change, shape):
    fixed, moved, weight = pair(shape)
    scale, offset = change
    plain = model("ncc", fixed, moved, weight)
    for f, m in ((fixed, scale * moved + offset), (scale * fixed + offset, moved)):
        other = model("ncc", f, m, weight)
        assert float(other.value) == pytest.approx(float(plain.value), rel=1e-4)
        torch.testing.assert_close(other.g, plain.g, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("change", [(1.0, 0.2), (0.5, 0.0), (1.7, -0.3)])
def test_lncc_sees_neither_scale_nor_offset_of_both(change, shape):
    fixed, moved, weight = pair(shape)
    scale, offset = change
    plain = model("lncc", fixed, moved, weight)
    other = model("lncc", *(scale * t + offset for t in (fixed, moved)), weight)
    assert float(other.value) == pytest.approx(float(plain.value), rel=5e-3)


def test_lncc_hardly_sees_a_slowly_changing_gain(shape):
    fixed, moved, weight = pair(shape)
    gain = 1 + 0.3 * torch.linspace(-1, 1, shape[0]).view(1, 1, -1, 1, 1)
    flat = waves(shape, seed=8)  # what the gain costs must be small beside a wrong image
    plain, biased, wrong = (
        float(model("lncc", fixed, m, weight).value) for m in (moved, gain * moved, flat)
    )
    assert abs(biased - plain) < 0.15 * (wrong - plain)


def test_mind_and_mi_match_an_inverted_contrast(shape):
    fixed, _, weight = pair(shape)
    for name in ("mind", "mi"):
        same, inverted, wrong = (
            float(model(name, fixed, m, weight).value)
            for m in (fixed, 1 - fixed, waves(shape, seed=9))
        )
        assert inverted < same + 0.1 * (wrong - same)


@pytest.mark.parametrize("value", [0.0, 0.5])
def test_constant_images_pull_at_nothing(name, value, shape):
    flat = torch.full((1, 1, *shape), value)
    weight = torch.ones_like(flat)
    for fixed, moved in ((flat, flat), (flat, waves(shape)), (waves(shape), flat)):
        out = model(name, fixed, moved, weight)
        assert torch.isfinite(out.value)
        assert torch.isfinite(out.g).all()
        assert torch.isfinite(out.A).all()
    assert float(model(name, flat, flat, weight).g.abs().max()) == 0


def test_no_weight_at_all_gives_finite_numbers(name, shape):
    fixed, moved, weight = pair(shape)
    out = model(name, fixed, moved, torch.zeros_like(weight))
    assert abs(float(out.value)) < 1e-9
    assert float(out.g.abs().max()) == 0
    assert float(out.A.abs().max()) == 0
