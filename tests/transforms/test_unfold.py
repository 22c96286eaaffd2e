"""Families whose maps never fold, whatever steps do."""

import math

import pytest
import torch

from regcli import registry
from regcli.image import Box, Space
from regcli.ops.filter import gaussian
from regcli.ops.jacobian import digital_determinants

FOLDLESS = [name for name in registry.TRANSFORMS if name in registry.FOLDLESS]
FLAT = Space((21, 18, 1), torch.diag(torch.tensor([1.5, -2.0, 5.0, 1.0])).double())


@pytest.fixture(params=FOLDLESS)
def foldless(request):
    return registry.build(registry.TRANSFORMS, request.param)


def violent_steps(shape, solid):
    """Steps that no solver would take: noise, a collapse, a mirror, whirls, spikes."""
    draw = torch.Generator().manual_seed(0)
    centred = [torch.arange(float(n)) - (n - 1) / 2 for n in shape]
    x = torch.stack(torch.meshgrid(*centred, indexing="ij"))[None]
    noise = torch.randn(3, 1, 3, *shape, generator=draw)
    spike = torch.zeros(1, 3, *shape)
    spike[(0, 0, *(n // 2 for n in shape))] = 40
    near = torch.exp(-x.square().sum(1, keepdim=True) / 18)
    whirl = torch.stack([-x[:, 1], x[:, 0], 0 * x[:, 2]], dim=1)
    angle = math.pi * near
    whirl = x * (angle.cos() - 1) + whirl * angle.sin()
    whirl[:, 2] = 0
    steps = [
        5 * noise[0],
        30 * gaussian(noise[1], 2.0),
        -1.5 * x,
        -2 * x,
        whirl,
        spike,
        20 * noise[2],
    ]
    return [s * torch.tensor([float(a) for a in solid]).view(1, 3, 1, 1, 1) for s in steps]


def least_determinant(transform, space):
    """Of a map on its way through violent steps."""
    least = 1.0
    y = transform.identity(space)
    for _ in range(2):
        for step in violent_steps(space.shape, space.solid):
            y = transform.retract(y, step, space)
            assert torch.isfinite(y).all()
            u = transform.parts(y, space)[1]
            least = min(least, float(digital_determinants(u)[0].min()))
    assert float(u.abs().max()) > 0.1
    return least


@pytest.mark.parametrize("name", ["diffeo", "svf"])  # a geodesic takes minutes to calm down
def test_it_never_folds(name, space):
    assert least_determinant(registry.build(registry.TRANSFORMS, name), space) > 0.019


def test_it_never_folds_in_a_slice(foldless):
    assert least_determinant(foldless, FLAT) > 0.019


def test_it_never_folds_when_resized(foldless, space):
    draw = torch.Generator().manual_seed(0)
    y = foldless.identity(space)
    for _ in range(4):
        step = gaussian(4 * torch.randn(1, 3, *space.shape, generator=draw), 1.0)
        y = foldless.retract(y, step, space)
    for factor in (1.9, 1.3, 0.7):
        i, j, k = (round(factor * n) for n in space.shape)
        new = space.resize((i, j, k))
        u = foldless.parts(foldless.resize(y, space, new), new)[1]
        assert float(digital_determinants(u)[0].min()) > 0


def test_it_never_folds_on_the_grid_it_was_cut_from(foldless, space):
    box = Box(space, (3, 2, 4), tuple(n - 2 for n in space.shape))
    y = foldless.identity(box.part)
    draw = torch.Generator().manual_seed(1)
    for _ in range(3):
        step = gaussian(4 * torch.randn(1, 3, *box.part.shape, generator=draw), 1.0)
        y = foldless.retract(y, step, box.part)
    u = foldless.extend(y, box)
    assert u.shape[2:] == space.shape
    assert float(digital_determinants(u)[0].min()) > 0
    inner = foldless.parts(y, box.part)[1]
    gap = (u[..., 3:-2, 2:-2, 4:-2] - inner).norm(dim=1)
    assert float((gap > 0.01).float().mean()) < 0.3  # but for folds that were mended


def test_the_fold_guard_leaves_good_steps_alone(space):
    diffeo = registry.build(registry.TRANSFORMS, "diffeo")
    draw = torch.Generator().manual_seed(0)
    delta = gaussian(torch.randn(1, 3, *space.shape, generator=draw), 2.0)
    assert torch.equal(diffeo.retract(diffeo.identity(space), delta, space), delta)
    delta[(0, 0, 12, 12, 12)] += 5  # a fold in one place
    kept = diffeo.retract(diffeo.identity(space), delta, space)
    far = torch.ones(space.shape, dtype=torch.bool)
    far[2:, 2:, 2:] = False
    torch.testing.assert_close(kept[0][:, far], delta[0][:, far], atol=1e-3, rtol=0)
