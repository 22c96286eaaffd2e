import torch

from regcli.ops.backends import reference
from regcli.ops.field import compose, invert
from regcli.ops.filter import gaussian
from regcli.ops.jacobian import jacobian_determinant
from regcli.ops.momentum import coadjoint
from regcli.ops.sample import sample
from regcli.transforms.geodesic import Geodesic


def momentum(space, size, seed=0):
    """Smooth, and nothing at the rim; its longest vector is `size` voxels."""
    draw = torch.Generator().manual_seed(seed)
    y = gaussian(torch.randn(1, 3, *space.shape, generator=draw), 3.0)
    for axis, n in enumerate(space.shape):
        line = torch.sin(torch.linspace(0, torch.pi, n)).square()
        y = y * line.view([n if a == axis else 1 for a in range(3)])
    return y * (size / y.norm(dim=1).max())


def test_energy_is_conserved_on_the_way(space):
    path = Geodesic(width=4.0, steps=10).shoot(momentum(space, 4.0), space, watch=True)
    assert float(path.displacement.norm(dim=1).max()) > 1.0
    drift = (path.energies / path.energies[0] - 1).abs()
    assert float(path.energies[0]) > 0
    assert float(drift.max()) < 0.04


def test_twice_as_many_steps_change_little(space):
    y = momentum(space, 4.0)
    few, many = (Geodesic(width=4.0, steps=n).shoot(y, space).displacement for n in (5, 20))
    assert float((few - many).norm(dim=1).mean()) < 0.01 * float(many.norm(dim=1).mean())


def test_shooting_back_with_the_momentum_at_the_end_returns(space):
    """The momentum at the end is carried by the inverse; a geodesic turned round is one."""
    geodesic = Geodesic(width=4.0, steps=10)
    y = momentum(space, 3.0)
    u = geodesic.shoot(y, space).displacement
    end = coadjoint(y, invert(u)[0], space.spacing)
    back = geodesic.shoot(-end, space).displacement
    left = compose(back, u).norm(dim=1)
    assert float(left.mean()) < 0.03 * float(u.norm(dim=1).mean())


def test_momentum_is_carried_as_a_density(space):
    """Momentum that is the same everywhere: pulled back by a stretch, it grows by its volume."""
    stretch = torch.tensor([0.10, -0.05, 0.20])
    grid = torch.stack(
        torch.meshgrid(*(torch.arange(float(n)) for n in space.shape), indexing="ij")
    )
    back = (stretch.view(3, 1, 1, 1) * grid)[None]
    m = torch.ones(1, 3, *space.shape)
    found = coadjoint(m, back, space.spacing)
    volume = float(jacobian_determinant(back)[0, 5, 5, 5])
    for c in range(3):
        torch.testing.assert_close(
            found[0, c], torch.full(space.shape, volume * float(1 + stretch[c])), rtol=1e-4, atol=0
        )


def test_momentum_is_carried_by_the_transpose_in_mm(space):
    draw = torch.Generator().manual_seed(3)
    m, back = gaussian(torch.randn(2, 3, *space.shape, generator=draw), 1.5).split(1)
    D = reference.jacobian(back.double())
    lengths = torch.tensor(space.spacing).double().square().view(3, 1)
    there = sample(m, back).double()[0].flatten(1)
    expected = torch.einsum("cdn,cn->dn", D[0].flatten(2), lengths * there) / lengths
    expected = (expected * reference.determinant(D).flatten()).view(m.shape)
    torch.testing.assert_close(
        coadjoint(m, back, space.spacing).double(), expected, atol=1e-4, rtol=1e-4
    )


def test_a_kernel_wider_than_the_image_is_as_wide_as_it(space):
    path = Geodesic(width=1e9).shoot(momentum(space, 4.0), space)
    assert torch.isfinite(path.displacement).all()


def test_no_momentum_goes_nowhere_in_words(space):
    geodesic = Geodesic()
    assert "nowhere" in geodesic.in_words(geodesic.identity(space), space)
    assert "mm^5" in geodesic.in_words(momentum(space, 2.0), space)
