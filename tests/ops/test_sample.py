import numpy as np
import pytest
import torch
from scipy import ndimage

from regcli.ops import sample as ops
from regcli.ops.backends import reference
from regcli.ops.spline import sample_cubic

# image, output
SHAPES = [
    ((7, 5, 6), (6, 8, 5)),
    ((9, 8, 1), (7, 9, 1)),
    ((1, 6, 5), (4, 3, 5)),
    ((2, 1, 1), (3, 2, 2)),
]


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def case(shapes, channels=2):
    """A volume, a displacement and a matrix that lead inside, to the edge band and outside."""
    source, target = shapes
    draw = generator(sum(source))
    image = torch.randn(1, channels, *source, generator=draw)
    u = 2 * torch.randn(1, 3, *target, generator=draw)
    u *= torch.tensor([n > 1 for n in target]).view(1, 3, 1, 1, 1)
    ratio = torch.tensor(source) / torch.tensor(target)
    matrix = torch.zeros(3, 4, dtype=torch.float64)
    matrix[:, :3] = torch.diag(ratio) @ (torch.eye(3) + 0.05 * torch.randn(3, 3, generator=draw))
    matrix[:, 3] = -0.15 * torch.rand(3, generator=draw)
    return image, u, matrix


def positions(u, matrix):
    return reference.positions(matrix, u.double(), tuple(u.shape[2:]))


@pytest.mark.parametrize("border", [True, False])
@pytest.mark.parametrize("shapes", SHAPES)
def test_linear_equals_the_reference_in_float64(shapes, border):
    image, u, matrix = case(shapes)
    points = positions(u, matrix)
    wanted = reference.linear(image.double(), points)
    if not border:
        wanted = wanted * reference.inside(points, shapes[0])
    moved = ops.sample(image, u, matrix=matrix, border=border)
    assert moved.dtype == torch.float32
    torch.testing.assert_close(moved.double(), wanted, atol=1e-5, rtol=0)


@pytest.mark.parametrize("shapes", SHAPES)
def test_linear_equals_scipy(shapes):
    image, u, matrix = case(shapes, channels=1)
    points = positions(u, matrix)[0].numpy()
    wanted = ndimage.map_coordinates(image[0, 0].double(), points, order=1, mode="nearest")
    np.testing.assert_allclose(ops.sample(image, u, matrix=matrix)[0, 0], wanted, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32, torch.float32])
def test_nearest_takes_the_closest_voxel_of_any_type(dtype):
    image, u, matrix = case(SHAPES[0])
    codes = (20 * image).abs().to(dtype)
    points = positions(u, matrix)
    moved = ops.sample(codes, u, matrix=matrix, interpolation="nearest", border=False)
    index = (points[0] + 0.5).floor().long()
    last = torch.tensor(codes.shape[2:]).view(3, 1, 1, 1) - 1
    i, j, k = index.clamp(min=0).minimum(last)
    wanted = codes[:, :, i, j, k] * reference.inside(points, SHAPES[0][0]).to(dtype)
    assert moved.dtype == dtype
    assert bool((moved == wanted).all())


@pytest.mark.parametrize("shapes", SHAPES)
def test_label_is_the_arg_max_of_every_codes_indicator(shapes):
    image, u, matrix = case(shapes)
    codes = (2 * image).round().to(torch.int32)
    moved = ops.sample(codes, u, matrix=matrix, interpolation="label")
    points = positions(u, matrix)
    shares = {c: reference.linear((codes == c).double(), points) for c in codes.unique().tolist()}
    most = torch.stack(list(shares.values())).amax(0)
    got = sum((moved == code) * share for code, share in shares.items())
    torch.testing.assert_close(got, most, atol=1e-5, rtol=0)  # ties may go either way


@pytest.mark.parametrize("interpolation", ["linear", "nearest", "label"])
def test_the_reference_path_gives_what_the_compiled_one_gives(interpolation):
    image, u, matrix = case(SHAPES[0], channels=1)
    image = image if interpolation == "linear" else (2 * image).round()
    options = {"matrix": matrix, "interpolation": interpolation, "border": False}
    compiled = ops.sample(image, u, **options)
    plain = ops.sample(image, u.clone().requires_grad_(), **options)
    torch.testing.assert_close(compiled, plain.detach(), atol=1e-5, rtol=0)


def test_a_batch_is_sampled_pair_by_pair_and_one_image_serves_all_fields():
    draw = generator(5)
    image, u = (
        torch.randn(2, 3, 5, 6, 7, generator=draw),
        torch.randn(2, 3, 5, 6, 7, generator=draw),
    )
    both = ops.sample(image, u)
    one = torch.cat([ops.sample(image[b : b + 1], u[b : b + 1]) for b in range(2)])
    torch.testing.assert_close(both, one)
    shared = ops.sample(image[:1], u)
    torch.testing.assert_close(shared[1:], ops.sample(image[:1], u[1:]))


def test_without_displacement_or_matrix_the_image_comes_back():
    image = torch.randn(2, 3, 5, 6, 7, generator=generator())
    assert bool((ops.sample(image) == image).all())


@pytest.mark.parametrize("shape", [(9, 8, 7), (6, 7, 1), (1, 5, 6), (3, 2, 4)])
def test_a_pull_on_its_own_grid_is_sampling_and_coverage(shape):
    draw = generator()
    image = torch.randn(1, 1, *shape, generator=draw)
    u = 3 * torch.randn(1, 3, *shape, generator=draw)
    here = torch.eye(3, 4, dtype=torch.float64)
    moved, inside = ops.sample_covered(image, u, here, shape)
    torch.testing.assert_close(moved, ops.sample(image, u), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(inside, ops.coverage(shape, u, here, shape))
    still, inside = ops.sample_covered(image, torch.zeros_like(u), here, shape)
    assert torch.equal(still, image)
    assert bool((inside == 1).all())


def test_coverage_is_one_exactly_inside():
    for shapes in SHAPES:
        _, u, matrix = case(shapes)
        wanted = reference.inside(positions(u, matrix), shapes[0]).float()
        assert bool((ops.coverage(shapes[0], u, matrix, shapes[1]) == wanted).all())


def test_voxels_own_half_a_voxel_around_their_centre():
    image = torch.ones(1, 1, 4, 1, 1)
    for shift, wanted in ((0.0, 4), (0.49, 4), (0.51, 3), (-0.49, 4), (-0.51, 3), (1.51, 2)):
        matrix = torch.eye(3, 4, dtype=torch.float64)
        matrix[0, 3] = shift
        assert float(ops.sample(image, matrix=matrix, border=False).sum()) == wanted


def test_points_are_sampled_as_volumes_are():
    image, u, matrix = case(SHAPES[0])
    points = positions(u, matrix)[0].reshape(3, -1).T
    wanted = ops.sample(image, u, matrix=matrix)[0].reshape(2, -1).T
    torch.testing.assert_close(ops.sample_points(image, points), wanted, atol=1e-5, rtol=0)


@pytest.mark.parametrize("shape", [(9, 3, 5), (5, 6, 7), (1, 4, 4)])
def test_resize_keeps_linear_images(shape):
    i, j, k = torch.meshgrid(*(torch.linspace(-1, 1, n) for n in (5, 6, 7)), indexing="ij")
    image = (i + 2 * j - 3 * k)[None, None]
    i, j, k = torch.meshgrid(
        *(torch.linspace(-1, 1, n) if n > 1 else torch.zeros(1) for n in shape), indexing="ij"
    )
    torch.testing.assert_close(ops.resize(image, shape)[0, 0], i + 2 * j - 3 * k)


def test_gradients_pass_gradcheck():
    image, u, matrix = case(((4, 3, 5), (3, 4, 3)), channels=1)
    image, u = image.double().requires_grad_(), (0.3 * u.double()).requires_grad_()
    assert torch.autograd.gradcheck(lambda a, b: ops.sample(a, b, matrix=matrix), (image, u))


def test_cubic_passes_through_the_voxels_and_equals_scipy_inside():
    image = torch.randn(1, 2, 8, 9, 7, generator=generator())
    eye = torch.eye(3, 4, dtype=torch.float64)
    same = sample_cubic(image, None, matrix=eye, shape=(8, 9, 7))
    torch.testing.assert_close(same, image, atol=1e-5, rtol=0)
    eye[:, 3] = torch.tensor([0.3, 0.45, 0.1])
    moved = sample_cubic(image, None, matrix=eye, shape=(7, 8, 6))
    wanted = ndimage.shift(image[0, 1].double(), -eye[:, 3].numpy(), order=3, mode="mirror")
    np.testing.assert_allclose(moved[0, 1], wanted[:7, :8, :6], atol=1e-5)


def test_cubic_takes_one_slice():
    image = torch.randn(1, 1, 8, 9, 1, generator=generator())
    eye = torch.eye(3, 4, dtype=torch.float64)
    same = sample_cubic(image, None, matrix=eye, shape=(8, 9, 1))
    torch.testing.assert_close(same, image, atol=1e-5, rtol=0)


def test_gradients_reach_a_matrix():
    image = torch.randn(1, 1, 5, 6, 4, generator=generator()).double()
    matrix = (torch.eye(3, 4) * 0.9 + 0.07).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda m: ops.sample(image, matrix=m), matrix)


@pytest.mark.parametrize("shape", [(9, 8, 7), (6, 7, 1), (1, 5, 6), (3, 2, 4)])
@pytest.mark.parametrize("moves", ["nothing", "a matrix", "a field", "both"])
def test_scatter_is_the_transpose_of_sampling(shape, moves):
    draw = generator(7)
    image, source = torch.randn(2, 3, 5, 6, 7, generator=draw), (5, 6, 7)
    values = torch.randn(2, 3, *shape, generator=draw)
    u = 4 * torch.randn(2, 3, *shape, generator=draw) if moves in ("a field", "both") else None
    matrix = torch.tensor([[0.9, 0.1, 0, 0.3], [0, 0.8, -0.2, 0.5], [0.1, 0, 1.1, -0.4]]).double()
    if moves in ("nothing", "a field"):
        matrix = torch.eye(3, 4, dtype=torch.float64)
    moved = ops.sample(image, u, matrix=matrix, shape=shape)
    back = ops.scatter(values, u, matrix=matrix, shape=source)
    assert back.shape == image.shape
    one, other = (moved.double() * values).sum(), (image.double() * back).sum()
    assert float(one) == pytest.approx(float(other), rel=1e-4, abs=1e-3)
    x = image.double().requires_grad_()
    wide = None if u is None else u.double()
    (gradient,) = torch.autograd.grad(
        (ops.sample(x, wide, matrix=matrix, shape=shape) * values).sum(), x
    )
    torch.testing.assert_close(back.double(), gradient, atol=1e-4, rtol=1e-4)
    reference = ops.scatter(values.double().requires_grad_(), wide, matrix=matrix, shape=source)
    torch.testing.assert_close(reference.detach(), gradient)
