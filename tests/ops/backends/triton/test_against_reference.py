import os

import pytest
import torch

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
if DEVICE == "cpu":  # Triton's interpreter takes CPU tensors; it is chosen when Triton is imported
    os.environ.setdefault("TRITON_INTERPRET", "1")
pytest.importorskip("triton")

from regcli.ops import jacobian as ops_jacobian  # noqa: E402
from regcli.ops import sample as ops_sample  # noqa: E402
from regcli.ops.backends import reference  # noqa: E402
from regcli.ops.backends.triton import field, filter, jacobian, sample  # noqa: E402

SHAPES = [(5, 6, 7), (4, 9, 1), (1, 7, 5), (6, 1, 8), (1, 1, 6), (7, 8, 9)]


def with_shapes(*values):
    """Shapes, each with one of the values: the interpreter is too slow for all pairs."""
    return [(shape, values[n % len(values)]) for n, shape in enumerate(SHAPES)]


NEAR_AND_FAR = with_shapes(0.7, 30.0)
MATRIX = torch.tensor(
    [[0.9, 0.1, -0.2, 0.4], [-0.1, 1.1, 0.3, -0.7], [0.2, -0.3, 0.8, 1.1]], dtype=torch.float64
)


def noise(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def field_of(shape, size, batch=1, seed=1):
    return size * noise(batch, 3, *shape, seed=seed)


def smooth_field(shape, size):
    """A field with slopes of about `size`."""
    x = torch.stack(torch.meshgrid(*(torch.arange(n).float() for n in shape), indexing="ij"))
    waves = [torch.sin(x.sum(0) * 0.7), torch.cos(0.6 * x[0] - 0.4 * x[2]), torch.sin(0.5 * x[1])]
    return size * torch.stack(waves)[None]


def there(*tensors):
    return [None if t is None else t.to(DEVICE) for t in tensors]


def close(found, wanted, tolerance=1e-5):
    assert found.dtype == torch.float32
    wanted = wanted.double()
    scale = tolerance * max(1.0, float(wanted.abs().max()))
    torch.testing.assert_close(found.cpu().double(), wanted, atol=scale, rtol=0)


def linear(image, u, matrix=None):
    matrix = torch.eye(3, 4, dtype=torch.float64) if matrix is None else matrix
    return reference.linear(image.double(), reference.positions(matrix, u.double(), u.shape[2:]))


@pytest.mark.parametrize(("shape", "size"), NEAR_AND_FAR)
def test_pull_samples_and_says_what_it_covers(shape, size):
    image, u = noise(1, 1, *shape), field_of(shape, size)
    moved, covered = sample.pull(*there(image, u))
    close(moved, linear(image, u))
    matrix = torch.eye(3, 4, dtype=torch.float64)
    close(covered, ops_sample.coverage(shape, u, matrix, shape))


def test_pull_covers_half_a_voxel_around_the_volume():
    shape = (3, 4, 5)
    u = torch.zeros(1, 3, *shape)
    u[0, 1, :, 0], u[0, 2, :, :, -1], u[0, 0, 0, 1:3, 1] = -0.5, 0.5, -0.51
    _, covered = sample.pull(*there(torch.zeros(1, 1, *shape), u))
    wanted = torch.ones(1, 1, *shape)
    wanted[..., 0, 1:3, 1] = 0
    close(covered, wanted)


@pytest.mark.parametrize(("shape", "channels"), with_shapes(20, 1, 3, 2))
def test_warp_repeats_the_edge(shape, channels):
    image, u = noise(2, channels, 4, 5, 6), field_of(shape, 3.0, batch=2)
    close(sample.warp(*there(image, MATRIX, u), shape), linear(image, u, MATRIX))


@pytest.mark.parametrize(
    ("source", "with_matrix", "with_field"),
    [((4, 5, 6), True, True), ((4, 5, 1), True, False), ((1, 5, 6), False, True)],
)
@pytest.mark.parametrize("nearest", [True, False])
def test_warp_equals_sample_with_nothing_outside(source, with_matrix, with_field, nearest):
    shape, image = (5, 6, 7), noise(1, 2, *source)
    matrix, u = MATRIX if with_matrix else None, field_of(shape, 1.0, 2) if with_field else None
    wanted = ops_sample.sample(
        image, u, matrix=matrix, shape=shape, border=False,
        interpolation="nearest" if nearest else "linear",
    )  # fmt: skip
    found = sample.warp(*there(image, matrix, u), shape, border=False, nearest=nearest)
    close(found, wanted)


@pytest.mark.parametrize("dtype", [torch.int16, torch.int64, torch.bool])
def test_warp_keeps_labels_whole(dtype):
    image = (40 * noise(1, 1, 5, 6, 7)).abs().to(dtype)
    u = field_of((5, 6, 7), 2.0)
    found = sample.warp(*there(image, None, u), (5, 6, 7), nearest=True)
    assert found.dtype == dtype
    torch.testing.assert_close(found.cpu(), ops_sample.sample(image, u, interpolation="nearest"))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_warp_interpolates_any_float_in_float32(dtype):
    image, u = noise(1, 5, 5, 6, 7).to(dtype), field_of((5, 6, 7), 1.0)
    close(sample.warp(*there(image, None, u), (5, 6, 7)), linear(image, u))


def test_warp_takes_tensors_that_are_not_contiguous():
    image, u = noise(1, 4, 7, 6, 5), field_of((7, 6, 5), 1.0)
    turned = [t.permute(0, 1, 4, 3, 2) for t in (image, u)]
    wanted = linear(*turned)
    close(sample.warp(*there(turned[0], None, turned[1]), (5, 6, 7)), wanted)
    last = turned[0].contiguous(memory_format=torch.channels_last_3d)
    close(sample.warp(*there(last, None, turned[1]), (5, 6, 7)), wanted)


@pytest.mark.parametrize(("shape", "channels"), with_shapes(3, 1, 20)[:4])
def test_scatter_is_the_gradient_of_warp(shape, channels):
    matrix = MATRIX if channels > 1 else None
    u, values = field_of(shape, 1.0, 2), noise(2, channels, *shape, seed=2)
    image = noise(2, channels, 4, 5, 6).double().requires_grad_()
    (wanted,) = torch.autograd.grad(linear(image, u, matrix), image, values.double())
    close(sample.scatter(*there(values, matrix, u), (4, 5, 6)), wanted)


def test_scatter_keeps_every_sum_without_a_field():
    values = noise(1, 2, 3, 4, 5)
    found = sample.scatter(*there(values, MATRIX, None), (4, 5, 6))
    close(found.sum((2, 3, 4)), values.sum((2, 3, 4)))
    close(sample.scatter(*there(values, None, None), (3, 4, 5)), values)


@pytest.mark.parametrize(("shape", "size"), NEAR_AND_FAR)
def test_compose_adds_what_outer_says_there(shape, size):
    outer, inner = field_of(shape, 1.0, 2), field_of(shape, size, 2, seed=2)
    wanted = inner.double() + linear(outer, inner)
    close(field.compose(*there(outer, inner)), wanted)


@pytest.mark.parametrize("shape", SHAPES[:2])
def test_exponentiate_scales_and_squares(shape):
    velocity = field_of(shape, 1.0, 2)
    wanted = velocity.double() / 2**3
    for _ in range(3):
        wanted = wanted + linear(wanted, wanted)
    close(field.exponentiate(*there(velocity), 3), wanted)
    close(field.exponentiate(*there(velocity), 0), velocity)


@pytest.mark.parametrize("shape", SHAPES[:2])
def test_invert_undoes_a_smooth_field(shape):
    u = smooth_field(shape, 0.4)
    v, residual = field.invert(*there(u), 1e-3)
    wanted = v.cpu().double() + linear(u, v.cpu())
    close(residual, wanted)
    assert float(wanted.norm(dim=1).max()) < 1.1e-3


def test_invert_finds_what_a_stretch_of_three_undoes():
    """There plain fixed-point steps diverge."""
    x = torch.arange(12.0)[:, None, None].expand(12, 4, 5)
    u = torch.stack([2 * (x - 5.5), 0 * x, 0 * x])[None]
    v, residual = field.invert(*there(u), 1e-3)
    assert float(residual.norm(dim=1).max()) < 1.1e-3
    close(v[:, 0], (-2 / 3) * (x - 5.5)[None], 1e-3)


def test_invert_keeps_the_best_where_there_is_no_inverse():
    u = field_of((3, 5, 8), 3.0)
    v, residual = (t.cpu() for t in field.invert(*there(u), steps=4))
    start = -u.double() + linear(u, -u)
    assert (residual.norm(dim=1) <= start.norm(dim=1) + 1e-4).all()
    close(residual, v.double() + linear(u, v))
    v, residual = (t.cpu() for t in field.invert(*there(u), steps=0))
    close(v, -u)
    close(residual, start)


@pytest.mark.parametrize(("shape", "lengths"), with_shapes((3, 5, 1), (1, 9, 3))[:4])
@pytest.mark.parametrize("replicate", [True, False])
def test_separable_filters_every_axis(shape, replicate, lengths):
    image = noise(2, 1, *shape)
    taps = [noise(n, seed=a) for a, n in enumerate(lengths)]
    wanted = reference.separable(image.double(), tuple(t.double() for t in taps), replicate)
    close(filter.separable(*there(image), tuple(there(*taps)), replicate), wanted)


def test_separable_leaves_alone_what_single_ones_filter():
    image = noise(1, 1, 4, 5, 6)
    taps = (torch.ones(1), torch.ones(1), torch.tensor([0.0, 0.0, 1.0]))
    wanted = torch.cat([image[..., 1:], torch.zeros(1, 1, 4, 5, 1)], dim=-1)
    close(filter.separable(*there(image), taps, False), wanted, 0.0)


@pytest.mark.parametrize("shape", SHAPES)
def test_determinants_equal_the_reference(shape):
    u = field_of(shape, 1.0, 2)
    wanted = reference.determinant(reference.jacobian(u.double()))
    close(jacobian.determinants(*there(u)), wanted)


@pytest.mark.parametrize(("shape", "size"), [*with_shapes(0.2, 2.0, 1.0), ((2, 2, 2), 1.0)])
def test_least_equals_the_loops_of_the_cpu(shape, size):
    u = field_of(shape, size, 2)
    close(jacobian.least(*there(u)), ops_jacobian.least_determinant(u))
