import itertools
from math import log, prod

import pytest
import torch
from conftest import SPACES

from regcli import registry
from regcli.energy.folding import Folding
from regcli.energy.regularizers import Bending, Diffusion, Elastic
from regcli.energy.volume import Volume
from regcli.image import Space
from regcli.ops import newton
from regcli.ops.filter import gaussian
from regcli.ops.match import Quadratic
from regcli.ops.penalty import newton_step, together
from regcli.ops.volume import pressure, pressure_reference

ONE = torch.tensor(1.0)
G = torch.tensor([[0.02, -0.05, 0.01], [0.03, 0.04, -0.02], [-0.01, 0.02, 0.06]])
SLICE = Space((14, 16, 1), torch.diag(torch.tensor([1.5, 2.0, 3.0, 1.0])).double())
QUADRATIC = [name for name in registry.REGULARIZERS if name not in ("tv", "folding")]


@pytest.fixture(params=["RAS", "oblique", "anisotropic", "odd"])
def space(request):
    """Energies see a grid's shape and spacing alone; test_pipeline.py has all grids."""
    whole = SPACES[request.param]
    i, j, k = (n - 12 for n in whole.shape)
    return Space((i, j, k), whole.affine)


def built(name):
    return registry.build(registry.REGULARIZERS, name)


def mm(space):
    """(3, I, J, K), along the grid's own axes."""
    axes = [torch.arange(n) * h for n, h in zip(space.shape, space.spacing, strict=True)]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"))


def voxels(u, space):
    """(3, I, J, K) mm along the grid's axes as a displacement."""
    return (u / torch.tensor(space.spacing).view(3, 1, 1, 1))[None].contiguous()


def linear_field(space, G):
    return voxels(torch.einsum("cd,dijk->cijk", G, mm(space)), space)


def rough(space, size=1.0):
    return size * gaussian(torch.randn(1, 3, *space.shape), 1.0)


def force(penalty):
    u = penalty.u
    nothing = Quadratic(torch.zeros(()), torch.zeros_like(u), u.new_zeros(1, 6, *u.shape[2:]))
    return penalty.times(u) + penalty.onto(nothing).g


def places(space, *shorter):
    """How many there are with `shorter` fewer of them along each axis."""
    return prod(n - s for n, s in zip(space.shape, shorter, strict=True))


def test_diffusion_is_the_sum_of_slopes_in_mm(space):
    energy = Diffusion(0.2).penalty(linear_field(space, G), space, ONE).value
    edges = [places(space, *(int(a == axis) for a in range(3))) for axis in range(3)]
    wanted = sum(0.1 * edges[a] * float(G[:, a].square().sum()) for a in range(3))
    assert float(energy) == pytest.approx(wanted, rel=1e-4)


def test_elasticity_is_that_of_the_strain(space):
    energy = Elastic(0.3, 0.7).penalty(linear_field(space, G), space, ONE).value
    strain = 0.5 * (G + G.T)
    wanted = 0.5 * 0.7 * float(strain.trace()) ** 2 * places(space, 1, 1, 1)
    for a, b in itertools.combinations_with_replacement(range(3), 2):
        count = places(space, *(int(axis in (a, b)) for axis in range(3)))
        wanted += 0.3 * count * float(strain[a, b]) ** 2 * (1 if a == b else 2)
    assert float(energy) == pytest.approx(wanted, rel=1e-4)


def test_bending_is_that_of_second_derivatives_in_mm(space):
    x, y, z = mm(space)
    u = torch.stack([0.003 * x * y + 0.01 * z, 0.002 * z * z, 0.001 * y * y - 0.004 * x * z])
    energy = Bending(0.5).penalty(voxels(u, space), space, ONE).value
    wanted = 2 * 0.003**2 * places(space, 1, 1, 0) + 2 * 0.004**2 * places(space, 1, 0, 1)
    wanted += 0.004**2 * places(space, 0, 0, 2) + 0.002**2 * places(space, 0, 2, 0)
    assert float(energy) == pytest.approx(0.25 * wanted, rel=1e-3)


def test_what_costs_nothing(space):
    turn = torch.tensor([[0.0, 0.02, -0.01], [-0.02, 0.0, 0.03], [0.01, -0.03, 0.0]])
    shift = torch.tensor([2.0, -1.0, 0.5]).view(1, 3, 1, 1, 1).expand(1, 3, *space.shape)
    for name in registry.REGULARIZERS:
        assert float(built(name).penalty(shift.contiguous(), space, ONE).value) < 1e-3
    cheap = float(Diffusion().penalty(linear_field(space, turn), space, ONE).value) / 1000
    assert float(Elastic().penalty(linear_field(space, turn), space, ONE).value) < cheap
    assert float(Bending().penalty(linear_field(space, G), space, ONE).value) < cheap
    assert float(Folding(1.0, 0.5).penalty(linear_field(space, G), space, ONE).value) == 0


@pytest.mark.parametrize("name", [name for name in registry.REGULARIZERS if name != "folding"])
def test_a_smooth_field_has_the_same_energy_per_volume_on_any_grid(name, space):
    def energy(grid):
        """Per mm3, of a sine in mm."""
        sides = [n * step for n, step in zip(space.shape, space.spacing, strict=True)]
        i, j, k = mm(grid) * 6.2832 / torch.tensor(sides).view(3, 1, 1, 1)
        u = voxels(torch.stack([j.sin(), (i + k).cos(), 2 * i.sin() * k.cos()]), grid)
        return float(built(name).penalty(u, grid, ONE).value) * prod(grid.spacing)

    i, j, k = space.shape
    fine, flat = space.resize((2 * i - 1, 2 * j - 1, 2 * k - 1)), space.resize((i, 2 * j - 1, k))
    assert energy(fine) == pytest.approx(energy(space), rel=0.1)
    assert energy(flat) == pytest.approx(energy(space), rel=0.1)


@pytest.mark.parametrize("name", registry.REGULARIZERS)
def test_the_force_is_the_slope_of_the_energy(name, space):
    torch.manual_seed(1)
    u, w, step = rough(space, 4.0), rough(space), 1e-2
    for share in (torch.tensor(1.3), torch.rand(1, 1, *space.shape) + 0.5):
        ahead, back = (built(name).penalty(u + e * w, space, share).value for e in (step, -step))
        here = built(name).penalty(u, space, share)
        slope = float((force(here).double() * w).sum())
        assert float(ahead - back) / (2 * step) == pytest.approx(slope, rel=2e-3, abs=0.02)


@pytest.mark.parametrize("name", registry.REGULARIZERS)
def test_a_map_of_equal_factors_is_a_factor(name, space):
    u = rough(space, 4.0)
    one, other = (
        built(name).penalty(u, space, share)
        for share in (torch.tensor(0.7), torch.full((1, 1, *space.shape), 0.7))
    )
    torch.testing.assert_close(one.value, other.value, rtol=1e-5, atol=0.0)
    torch.testing.assert_close(force(one), force(other), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", registry.REGULARIZERS)
def test_the_hessian_is_symmetric_and_below_its_bound(name, space):
    penalty = built(name).penalty(rough(space, 4.0), space, torch.rand(1, 1, *space.shape))
    for p, q in ((rough(space), rough(space)), (torch.randn(1, 3, *space.shape),) * 2):
        there, back = (p * penalty.times(q)).sum(), (q * penalty.times(p)).sum()
        torch.testing.assert_close(there, back, rtol=1e-4, atol=1e-3)
        assert 0 <= float((q * penalty.times(q)).sum()) <= float((q * penalty.bound() * q).sum())


@pytest.mark.parametrize("name", [name for name in QUADRATIC if name != "diffusion"])
def test_steps_gain_most_of_what_the_model_offers(name, space):
    torch.manual_seed(2)
    a = rough(space, 2.0)
    A = torch.stack(
        [a[0, i] * a[0, j] for i, j in ((0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2))]
    )
    model = Quadratic(torch.zeros((), dtype=torch.float64), rough(space), A[None])
    u, names = rough(space), {name, "diffusion"} if name == "volume" else {name}
    penalty = together([built(n).penalty(u, space, ONE) for n in names], (True, True, True))
    slope, mu = model.g + force(penalty), newton.damping_of(model, 1e-3)

    def multiply(p):
        return newton.product(model.A, p) + penalty.times(p) + mu * p

    def gain(d):
        return -float((slope * d).sum() + 0.5 * (d * multiply(d)).sum())

    diagonal = penalty.bound() + model.A[:, [0, 3, 5]]
    best = gain(newton.conjugate_gradients(multiply, lambda r: r / diagonal, -slope, 60))
    assert gain(newton_step(model, penalty, 1e-3)) > 0.8 * best


def test_folding_is_the_sum_over_one_sided_determinants():
    space = Space((4, 5, 3), torch.eye(4, dtype=torch.float64))
    torch.manual_seed(3)
    u = 0.6 * torch.randn(1, 3, *space.shape)
    phi = u[0] + mm(space)
    wanted = 0.0
    for x in itertools.product(*map(range, space.shape)):
        for signs in itertools.product((1, -1), repeat=3):
            ends = [[c + s * (a == b) for b, c in enumerate(x)] for a, s in enumerate(signs)]
            if all(0 <= c < n for end in ends for c, n in zip(end, space.shape, strict=True)):
                J = [s * (phi[:, *end] - phi[:, *x]) for end, s in zip(ends, signs, strict=True)]
                wanted += float((0.4 - torch.linalg.det(torch.stack(J))).clamp(min=0)) ** 2
    energy = Folding(2.0, 0.4).penalty(u, space, ONE).value
    assert wanted > 0
    assert float(energy) == pytest.approx(wanted, rel=1e-4)


@pytest.mark.parametrize("shape", [(7, 6, 8), (7, 6, 1), (1, 5, 4)])
def test_volume_is_the_sum_over_the_middles_of_eight_voxels(shape):
    space = Space(shape, torch.diag(torch.tensor([1.5, 2.0, 3.0, 1.0])).double())
    torch.manual_seed(8)
    u = 0.3 * torch.randn(1, 3, *shape) * (torch.tensor(shape) > 1).view(1, 3, 1, 1, 1)
    phi, wanted = u[0] + torch.stack(torch.meshgrid(*map(torch.arange, shape), indexing="ij")), 0.0
    solid = [axis for axis in range(3) if shape[axis] > 1]
    for x in itertools.product(*(range(max(n - 1, 1)) for n in shape)):
        corners = phi[:, *(slice(c, c + 2) for c in x)]
        J = torch.eye(3)
        for axis in solid:
            others = [a + 1 for a in range(3) if a != axis]
            J[:, axis] = corners.diff(dim=axis + 1).mean(dim=[axis + 1, *others])
        det = float(torch.linalg.det(J))
        assert det > 0.1
        wanted += 0.4 * log(1 + (det - 1 - log(det)) / 0.4)
    energy = Volume(2.0, 0.4).penalty(u, space, ONE).value
    assert float(energy) == pytest.approx(2 * wanted, rel=1e-4)


def test_volume_has_no_price_for_shears_and_one_for_growth(space):
    shear = torch.tensor([[0.0, 0.4, -0.2], [0.0, 0.0, 0.3], [0.0, 0.0, 0.0]])
    cells = prod(n - 1 for n in space.shape)
    assert float(Volume().penalty(linear_field(space, shear), space, ONE).value) < 1e-4 * cells
    for growth in (0.5, 1.0, 2.0):
        u = linear_field(space, torch.diag(torch.tensor([growth - 1, 0.0, 0.0])))
        energy, e = Volume(1.0).penalty(u, space, ONE).value, growth - 1 - log(growth)
        assert float(energy) == pytest.approx(0.3 * cells * log(1 + e / 0.3), rel=1e-3, abs=0.1)


def test_the_loops_of_volume_equal_the_plain_form(space):
    torch.manual_seed(9)
    for size in (1.0, 6.0):  # the larger folds
        u = rough(space, size)
        one, other = pressure(u, 0.7, 0.3), pressure_reference(u.double(), torch.tensor(0.7), 0.3)
        torch.testing.assert_close(one[0], other[0], rtol=1e-4, atol=1e-3)
        torch.testing.assert_close(one[1].double(), other[1], rtol=1e-4, atol=1e-4)


def test_folding_alone_unfolds(space):
    torch.manual_seed(4)
    u, folding = rough(space, 5.0), Folding(1.0, 0.2)
    nothing = Quadratic(torch.zeros(()), torch.zeros_like(u), torch.zeros(1, 6, *space.shape))
    before = float(folding.penalty(u, space, ONE).value)
    for _ in range(30):
        model = folding.penalty(u, space, ONE).onto(nothing)
        diagonal = model.A[:, [0, 3, 5]].sum(1, keepdim=True)  # at least the blocks
        u = u - model.g / (diagonal + 1e-6)
    assert float(folding.penalty(u, space, ONE).value) < 0.2 * before


@pytest.mark.parametrize("name", registry.REGULARIZERS)
def test_slices_are_regularized_in_their_plane(name):
    torch.manual_seed(5)
    u = 3 * rough(SLICE)
    u[:, 2] = 0
    penalty = built(name).penalty(u, SLICE, ONE)
    assert float(penalty.value) > 0
    assert float(force(penalty)[:, 2].abs().max()) == 0
    model = Quadratic(penalty.value, rough(SLICE), torch.ones(1, 6, *SLICE.shape))
    step = newton_step(model, together([penalty], (True, True, True)), 1e-2)
    assert torch.isfinite(step).all()


def test_penalties_add_up(space):
    torch.manual_seed(6)
    u = rough(space, 4.0)
    parts = [built(name).penalty(u, space, ONE) for name in registry.REGULARIZERS]
    whole = together(parts, (True, True, True))
    torch.testing.assert_close(whole.value, sum(part.value for part in parts))
    torch.testing.assert_close(force(whole), sum(map(force, parts)), rtol=1e-4, atol=1e-3)


def test_stiffness_is_symmetric_in_voxels_only_on_isotropic_grids():
    one = Diffusion(0.2)
    torch.testing.assert_close(one.stiffness((2.0, 2.0, 2.0)), torch.full((3, 3), 0.2))
    torch.testing.assert_close(one.stiffness((1.0, 2.0, 4.0))[2], torch.tensor([3.2, 0.8, 0.2]))
    torch.testing.assert_close(one.stiffness((3.0, 6.0, 12.0)), one.stiffness((1.0, 2.0, 4.0)))
