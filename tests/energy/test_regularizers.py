import pytest
import torch

from regcli import registry
from regcli.energy.regularizers import Diffusion
from regcli.ops import newton


def linear_field(space, G):
    """u(x) = G x in mm along the grid's axes, as voxels: (1, 3, I, J, K)."""
    h = torch.tensor(space.spacing)
    axes = [torch.arange(n) * float(step) for n, step in zip(space.shape, h, strict=True)]
    x = torch.stack(torch.meshgrid(*axes, indexing="ij"))
    return (torch.einsum("cd,dijk->cijk", G, x) / h.view(3, 1, 1, 1))[None]


@pytest.mark.parametrize("name", registry.REGULARIZERS)
def test_the_energy_is_the_sum_of_slopes_in_mm(name, space):
    G = torch.tensor([[0.02, -0.05, 0.01], [0.03, 0.04, -0.02], [-0.01, 0.02, 0.06]])
    regularizer = registry.build(registry.REGULARIZERS, name)
    u = linear_field(space, G)
    energy = newton.diffuse(u, regularizer.stiffness(space.spacing))[1]
    voxels = u[0, 0].numel()
    wanted = 0.0
    for axis, n in enumerate(space.shape):
        edges = voxels / n * (n - 1)
        wanted += 0.5 * regularizer.weight * edges * float(G[:, axis].square().sum())
    assert float(energy) == pytest.approx(wanted, rel=1e-4)


@pytest.mark.parametrize("name", registry.REGULARIZERS)
def test_a_smooth_field_has_the_same_energy_per_volume_on_any_grid(name, space):
    regularizer = registry.build(registry.REGULARIZERS, name)

    def energy(grid):
        """Per mm3, of a sine in mm."""
        h = torch.tensor(grid.spacing)
        sides = [n * step for n, step in zip(space.shape, space.spacing, strict=True)]
        axes = [
            torch.arange(n) * float(step) * 6.2832 / side
            for n, step, side in zip(grid.shape, h, sides, strict=True)
        ]
        i, j, k = torch.meshgrid(*axes, indexing="ij")
        mm = torch.stack([j.sin(), (i + k).cos(), 2 * i.sin() * k.cos()])
        u = (mm / h.view(3, 1, 1, 1))[None]
        total = newton.diffuse(u.contiguous(), regularizer.stiffness(grid.spacing))[1]
        return float(total) * float(h.prod())

    i, j, k = space.shape
    fine, flat = space.resize((2 * i - 1, 2 * j - 1, 2 * k - 1)), space.resize((i, 2 * j - 1, k))
    assert energy(fine) == pytest.approx(energy(space), rel=0.08)
    assert energy(flat) == pytest.approx(energy(space), rel=0.08)


@pytest.mark.parametrize("name", registry.REGULARIZERS)
def test_a_constant_field_costs_nothing(name, space):
    stiffness = registry.build(registry.REGULARIZERS, name).stiffness(space.spacing)
    u = torch.ones(1, 3, *space.shape) * torch.tensor([2.0, -1.0, 0.5]).view(1, 3, 1, 1, 1)
    assert abs(float(newton.diffuse(u, stiffness)[1])) < 1e-3


def test_stiffness_is_symmetric_in_voxels_only_on_isotropic_grids():
    one = Diffusion(0.2)
    torch.testing.assert_close(one.stiffness((2.0, 2.0, 2.0)), torch.full((3, 3), 0.2))
    torch.testing.assert_close(one.stiffness((1.0, 2.0, 4.0))[2], torch.tensor([3.2, 0.8, 0.2]))
    torch.testing.assert_close(one.stiffness((3.0, 6.0, 12.0)), one.stiffness((1.0, 2.0, 4.0)))
