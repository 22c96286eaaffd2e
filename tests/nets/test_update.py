"""What every network of steps promises."""

import pytest
import torch

from regcli.registration.equilibrium.model import step_network
from regcli.registry import UPDATES

SHAPES = [(17, 33, 17), (33, 17, 1)]


@pytest.fixture(params=UPDATES)
def net(request):
    torch.manual_seed(0)
    return step_network(request.param).eval()


def seen(net, shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    channels = 5 if net.sense == "none" else 8
    return torch.randn(1, channels, *shape, generator=generator)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_step_has_the_size_of_the_images(net, shape):
    with torch.no_grad():
        step, memory = net(seen(net, shape), 0, ())
        again, _ = net(seen(net, shape), 0, memory)
    for found in (step, again):
        assert found.shape == (1, 3, *shape)
        assert bool(found.isfinite().all())


def test_before_training_it_takes_no_step_but_a_classical_one(net):
    x = seen(net, (17, 17, 17))
    if net.sense != "none":
        x[:, -3:] = 0
    with torch.no_grad():
        step, _ = net(x, 0, ())
    assert float(step.abs().max()) < 0.01


def test_the_same_call_gives_the_same_bits(net):
    x = seen(net, (17, 17, 17))
    with torch.no_grad():
        assert torch.equal(net(x, 0, ())[0], net(x, 0, ())[0])


def test_every_weight_is_learned(net):
    """Those of a level that was not asked stay as they are."""
    for _, layer in net.named_parameters():
        layer.data.add_(0.01 * torch.randn_like(layer))  # heads start at nothing
    step, memory = net(seen(net, (17, 17, 17)), 0, ())
    more, _ = net(seen(net, (17, 17, 17), 1), 0, memory)
    (step.square().sum() + more.square().sum()).backward()
    for name, weight in net.named_parameters():
        if not name.startswith(("regularizers.1", "regularizers.2")):
            assert weight.grad is not None and bool((weight.grad != 0).any()), name


@pytest.mark.parametrize("axis", [2, 3, 4])
def test_a_mirrored_network_takes_mirrored_steps(net, axis):
    """A voxel centre that is off by half a voxel would move to the other side."""
    x = seen(net, (17, 33, 17))
    for parameter in net.parameters():
        parameter.data.add_(0.01 * torch.randn_like(parameter))
    with torch.no_grad():
        wanted = net(x, 0, ())[0].flip(axis)
        for parameter in net.parameters():
            if parameter.ndim == 5:
                parameter.copy_(parameter.flip(axis))
        found, _ = net(x.flip(axis), 0, ())
    torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-3)


def test_the_papers_network_has_the_size_of_voxelmorphs():
    sizes = {n: sum(p.numel() for p in step_network(n).parameters()) for n in UPDATES}
    assert 300_000 < sizes["update-full"] < 400_000
    assert 200_000 < sizes["update"] < 500_000
