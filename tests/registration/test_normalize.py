import pytest
import torch

from regcli.image import Image, Space
from regcli.registration.normalize import foreground, prepare, robust_range

CPU = torch.device("cpu")


def noise(space, seed=0):
    draw = torch.Generator().manual_seed(seed)
    return Image(torch.rand(1, *space.shape, generator=draw), space)


def test_the_range_leaves_out_the_background_and_outliers():
    data = torch.zeros(1, 40, 50, 60)
    data[:, :20] = torch.linspace(10, 110, 20 * 50 * 60).view(1, 20, 50, 60)
    data[0, 0, 0, 0] = 1e6
    low, high = robust_range(data)
    assert low == pytest.approx(11, abs=0.1)
    assert high == pytest.approx(109.9, abs=0.1)


def test_a_range_may_be_negative():
    values = torch.linspace(-1000, 1000, 100_001)
    low, high = robust_range(values.view(1, -1, 1, 1))
    assert low == pytest.approx(-980, abs=0.1)
    assert high == pytest.approx(998, abs=0.1)


@pytest.mark.parametrize("scale", [1e-30, 1e-18, 1e30])
def test_any_scale_of_intensities_becomes_the_same(scale):
    image = noise(Space((9, 8, 7), torch.eye(4, dtype=torch.float64)))
    one, other = (prepare(Image(image.data * x, image.space), None, CPU) for x in (1, scale))
    assert torch.allclose(one.data, other.data, atol=1e-4)


def test_a_constant_image_has_an_empty_range():
    assert robust_range(torch.full((1, 4, 5, 6), 7.0)) == (7.0, 7.0)


def test_two_values_have_a_range():
    data = torch.zeros(1, 6, 5, 4)
    data[:, 3:] = 2
    assert robust_range(data) == (0.0, 2.0)


def test_integers_are_taken_as_they_are():
    data = torch.arange(30000, dtype=torch.int16).view(1, 30, 100, 10) - 15000
    low, high = robust_range(data)
    assert low == pytest.approx(-14700, abs=2)
    assert high == pytest.approx(14969, abs=2)


def test_intensities_end_up_between_0_and_1(space):
    image = noise(space)
    for scale, offset in ((1.0, 0.0), (500.0, -1000.0), (1e-3, 5.0)):
        ready = prepare(Image(scale * image.data + offset, space), None, CPU)
        assert (float(ready.data.min()), float(ready.data.max())) == (0, 1)
        torch.testing.assert_close(ready.data, prepare(image, None, CPU).data, atol=2e-3, rtol=0)
        assert ready.data.dtype == torch.float32
        assert ready.weight is None


def test_a_constant_image_is_finite(space):
    for value in (0.0, -3.0, 100.0):
        ready = prepare(Image(torch.full((1, *space.shape), value), space), None, CPU)
        assert torch.isfinite(ready.data).all()
        assert float(ready.data.max()) == 0


def test_axes_are_brought_into_canonical_order_with_the_world_unchanged(space):
    image, mask = noise(space), (noise(space, 1).data > 0.5)
    ready = prepare(image, mask, CPU)
    assert ready.space.codes == "RAS"
    points = space.voxel_to_world(torch.cartesian_prod(*(torch.arange(n) for n in space.shape)))
    voxels = ready.space.world_to_voxel(points).round().long()
    low, high = robust_range(image.data, mask)
    wanted = ((image.data.flatten() - low) / (high - low)).clamp(0, 1)
    torch.testing.assert_close(ready.data[0, 0][tuple(voxels.T)], wanted)
    assert torch.equal(ready.weight[0, 0][tuple(voxels.T)], mask.flatten().float())


def test_a_mask_is_clamped(space):
    mask = 3 * noise(space, 1).data - 1
    weight = prepare(noise(space), mask, CPU).weight
    assert (float(weight.min()), float(weight.max())) == (0, 1)


def test_what_a_mask_hides_does_not_stretch_the_range(space):
    image, mask = noise(space), torch.ones(1, *space.shape)
    bright = image.data.clone()
    bright[:, 4:10, 4:10, 4:10], mask[:, 4:10, 4:10, 4:10] = 50, 0
    clean, hidden = prepare(image, mask, CPU), prepare(Image(bright, space), mask, CPU)
    shown = hidden.weight > 0
    torch.testing.assert_close(hidden.data[shown], clean.data[shown])
    assert float(hidden.data.max()) == 1


def test_foreground_is_above_a_twentieth_of_the_range(space):
    image = noise(space)
    low, high = robust_range(image.data)
    share = float(foreground(image).float().mean())
    assert foreground(image).shape == space.shape
    assert share == pytest.approx(1 - (low + 0.05 * (high - low)), abs=0.02)
