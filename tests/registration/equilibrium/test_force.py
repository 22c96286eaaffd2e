"""What a network of steps sees, and how fields pass between grids."""

import phantoms
import pytest
import torch

from regcli.image import Space
from regcli.nets.update import StepNet
from regcli.ops.carry import carry
from regcli.ops.smooth import spread, variance
from regcli.registration.equilibrium.force import (
    LearnedForce,
    View,
    advance,
    march,
    rms,
    spacings,
    views,
)
from regcli.registration.equilibrium.model import step_network
from regcli.registration.normalize import prepare
from regcli.registry import UPDATES
from regcli.train.losses import map_loss
from regcli.transforms.grids import resample_field

EYE = torch.eye(4, dtype=torch.float64)
CPU = torch.device("cpu")


def view(shape):
    draw = torch.Generator().manual_seed(0)
    return View(Space(shape, EYE), *torch.rand(2, 1, 1, *shape, generator=draw))


def displacement(pair):
    draw = torch.Generator().manual_seed(1)
    return 0.5 * torch.randn(1, 3, *pair.space.shape, generator=draw)


class Steps(StepNet):
    """Takes the steps that a function of what the network sees gives."""

    def __init__(self, step, sense="none"):
        super().__init__()
        self.step, self.sense = step, sense

    def forward(self, seen, level, memory):
        return self.step(seen), memory


def linear_field(space):
    """(1, 3, I, J, K) in voxels of a field that is linear in the world, mm."""
    points = space.voxel_to_world(torch.cartesian_prod(*(torch.arange(n) for n in space.shape)))
    slopes = torch.tensor([[0.02, -0.01, 0.03], [0.01, 0.02, -0.02], [-0.03, 0.01, 0.01]])
    middle = torch.tensor([3.0, -5.0, 8.0]).double()
    mm = (points - middle) @ slopes.double().T + torch.tensor([1.0, -2.0, 0.5])
    return space.vectors_to_voxel(mm.T.reshape(1, 3, *space.shape).float())


def test_a_field_keeps_its_millimetres_on_another_grid(space):
    space = space.canonical()
    (grid,) = (v.space for v in views_of(space, (2.5,)))
    inner = resample_field(linear_field(grid), grid, space)
    torch.testing.assert_close(inner, linear_field(space), atol=1e-3, rtol=1e-3)


def views_of(space, sizes):
    pair = phantoms.pair(space, linear=False)
    images = (prepare(image, None, CPU) for image in (pair.fixed, pair.moving))
    return views(*images, EYE, spacings_mm=sizes, multiple=8)


def test_views_are_isotropic_coarse_to_fine_and_fit_the_network(space):
    levels = views_of(space, spacings(2.5, 2))
    assert [round(level.space.spacing[0], 6) for level in levels] == [5.0, 2.5]
    for level in levels:
        assert len({round(h, 6) for h in level.space.spacing}) == 1
        assert all((n - 1) % 8 == 0 for n in level.space.shape)
        assert level.fixed.shape == level.moving.shape == (1, 1, *level.space.shape)


def test_the_affine_carries_the_moving_image(space):
    """An image moved in the world, seen through the affine that moved it, is the image."""
    pair = phantoms.pair(space, linear=False)
    fixed = prepare(pair.fixed, None, CPU)
    shift = EYE.clone()
    shift[:3, 3] = torch.tensor([30.0, -20.0, 10.0])
    moved = type(fixed)(fixed.space.moved(shift), fixed.data)
    (level,) = views(fixed, moved, shift, spacings_mm=(2.5,), multiple=8)
    torch.testing.assert_close(level.moving, level.fixed, atol=1e-4, rtol=0)


def test_noise_around_a_head_does_not_count():
    noise = 0.04 * torch.rand(1, 1, 30, 30, 30, generator=torch.Generator().manual_seed(0))
    head = noise.clone()
    head[..., 10:20, 10:20, 10:20] = 0.7
    shown = View(Space((30, 30, 30), EYE), head, head).shown
    assert bool((shown[..., 9:21, 9:21, 9:21] == 1).all())
    assert float(shown.sum()) < 18**3


@pytest.mark.parametrize("name", UPDATES)
def test_the_moving_image_itself_is_moved_by_the_whole_displacement(name):
    """g is asked with the image that carry gives, not with one that was moved before."""
    torch.manual_seed(0)
    net, pair, seen = step_network(name).eval(), view((17, 33, 17)), []
    net.register_forward_pre_hook(lambda module, arguments: seen.append(arguments[0]))
    u = displacement(pair)
    with torch.no_grad():
        advance(net, pair, u, sigma=0.0)
    torch.testing.assert_close(seen[0][:, 1:2], carry(pair.moving, u))
    torch.testing.assert_close(seen[0][:, :1], pair.fixed)
    torch.testing.assert_close(seen[0][:, 2:5], u)


def test_slopes_are_those_of_the_local_correlation():
    """Against autograd: moving along -slope makes the images more alike."""
    found = []

    def stay(seen):
        found.append(seen[:, 5:8])
        return torch.zeros_like(seen[:, 2:5])

    pair = views_of(phantoms_space(), (3.0,))[0]
    u = torch.full_like(pair.start, 0.5).requires_grad_()
    map_loss(pair.fixed, pair.moving, u, pair.shown, 0.0).backward()
    with torch.no_grad():
        advance(Steps(stay, sense="slopes"), pair, u.detach(), sigma=0.0)
    wanted = u.grad * pair.shown.sum()
    cosine = torch.nn.functional.cosine_similarity(found[0].flatten(), wanted.flatten(), dim=0)
    assert float(cosine) > 0.85  # smoother differences than those of the interpolation


def phantoms_space():
    return Space((33, 33, 33), torch.diag(torch.tensor([3.0, 3.0, 3.0, 1.0])).double())


def test_untrained_guided_steps_register_a_phantom():
    levels = views_of(phantoms_space(), spacings(3.0, 2))
    net = step_network("guided").eval()
    last = levels[-1]
    with torch.no_grad():
        steps = list(march(net, levels, 10, 0.6))
    assert len(steps) == 10
    before, after = (
        float((carry(last.moving, u) - last.fixed).square().mean()) for u in (last.start, steps[-1])
    )
    assert after < 0.4 * before


@pytest.mark.parametrize("smoothness", [1.0, 2.5])
def test_the_force_is_what_a_smoothed_step_of_the_network_changes(smoothness):
    """From the parts: G (u + net(fixed, moving o u, u)) - u, with the variance of G scaled."""

    def third(seen):
        """A third of the displacement back, and a tenth of the moved image along axis 0."""
        step = -seen[:, 2:5] / 3
        step[:, :1] += 0.1 * seen[:, 1:2]
        return step

    pair = view((17, 33, 17))
    u = displacement(pair)
    stepped = 2 / 3 * u
    stepped[:, :1] += 0.1 * carry(pair.moving, u)
    wanted = spread(stepped, smoothness * variance(0.6)) - u
    force = LearnedForce(Steps(third), pair, 0.6, smoothness)
    torch.testing.assert_close(force(u), wanted)


def test_the_size_of_a_field_is_that_of_its_vectors():
    field = torch.zeros(1, 3, 4, 5, 6)
    field[:, 0], field[:, 1] = 3.0, 4.0
    assert float(rms(field)) == pytest.approx(5.0)
