"""A simulated scanner: contrasts are radiology's, images in [0, 1], artefacts as large as asked."""

from dataclasses import replace

import pytest
import torch
from heads import CODES, subject

from regcli.ops.filter import gaussian
from regcli.train.data.vocabulary import vocabulary_of
from regcli.train.synth.drawing import Drawing
from regcli.train.synth.images import generator_of
from regcli.train.synth.scanner import contrast, paint, scan

WORDS = vocabulary_of(CODES)
PLACES = {code: n for n, code in enumerate(WORDS.codes)}
SHAPE = (21, 19, 17)
FINE = tuple(2 * n - 1 for n in SHAPE)
EVERYWHERE = torch.ones(1, 1, *SHAPE, dtype=torch.bool)
# No artefacts but the usual resolution, and the brightness that every image has of its own.
CLEAN = Drawing(shape=SHAPE, noise=0, bias=0, thick=0, random_contrast=0, jitter=0)
WEIGHTINGS = ("T1", "T2", "PD", "FLAIR")


def only(weighting):
    return replace(CLEAN, contrasts=tuple(float(name == weighting) for name in WEIGHTINGS))


def means_of(drawing, step=0):
    means = contrast(WORDS, drawing, generator_of(0, step))
    return {code: float(means[place]) for code, place in PLACES.items()}


def zones():
    """An image of 0, 0.5 and 1 along the first axis."""
    image = torch.zeros(1, 1, *FINE)
    image[:, :, 13:27], image[:, :, 27:] = 0.5, 1.0
    return image


def roughness(image):
    """Mean difference of neighbours along each axis."""
    return torch.stack([image.diff(dim=axis).abs().mean() for axis in (2, 3, 4)])


def test_both_sides_look_alike():
    for step in range(8):
        means = means_of(Drawing(), step)
        for left, right in ((2, 41), (3, 42), (4, 43)):
            assert means[left] == means[right]
        assert means[0] == 0


@pytest.mark.parametrize(
    ("weighting", "dark_to_bright"),
    [("T1", (4, 3, 2)), ("T2", (2, 3, 4)), ("PD", (2, 3, 4)), ("FLAIR", (4, 2, 3))],
)
def test_fluid_grey_and_white_matter_rank_as_in_radiology(weighting, dark_to_bright):
    """4 is fluid, 3 grey and 2 white matter."""
    means = means_of(only(weighting))
    assert sorted((2, 3, 4), key=means.get) == list(dark_to_bright)
    assert means == means_of(only(weighting), 1) | {510: means[510]}  # what is no tissue has any


def test_weightings_are_drawn_as_often_as_asked():
    drawing = replace(CLEAN, contrasts=(0.75, 0.25, 0.0, 0.0))
    drawn = [means_of(drawing, step) for step in range(400)]
    bright_white = sum(means[2] > means[3] for means in drawn)
    assert bright_white == pytest.approx(300, abs=35)  # four standard deviations


def test_random_contrasts_have_any_order():
    drawn = [means_of(replace(CLEAN, random_contrast=1.0), step) for step in range(200)]
    orders = {tuple(sorted((2, 3, 4), key=means.get)) for means in drawn}
    assert len(orders) == 6
    assert all(0.05 <= mean <= 1 for means in drawn for code, mean in means.items() if code)


def test_tissues_vary_by_the_fraction_that_is_asked():
    usual = means_of(only("T1"))[2]
    drawing = replace(only("T1"), jitter=0.1)
    drawn = torch.tensor([means_of(drawing, step)[2] for step in range(400)])
    assert float(drawn.mean()) == pytest.approx(usual, rel=0.02)
    assert float(drawn.std()) == pytest.approx(0.1 * usual, rel=0.15)


def test_a_scan_without_artefacts_keeps_the_order_of_what_it_shows():
    """Brightness is changed by a gamma alone: it grows with what a blurred image shows."""
    draw = torch.Generator().manual_seed(0)
    smooth = gaussian(torch.rand(1, 1, *FINE, generator=draw), 4.0)
    for step in range(4):
        found = scan(smooth, EVERYWHERE, CLEAN, generator_of(1, step))
        inside = (slice(None), slice(None), *(slice(3, -3),) * 3)  # blurred with the same at edges
        ranks = [
            t[inside].flatten().argsort().argsort() for t in (smooth[..., ::2, ::2, ::2], found)
        ]
        assert float(torch.corrcoef(torch.stack(ranks).double())[0, 1]) > 0.99
        assert float(found.min()) == 0
        assert float(found.max()) == 1


def test_the_same_generator_gives_the_same_scan_and_another_another():
    one, same, other = (
        scan(zones(), EVERYWHERE, Drawing(shape=SHAPE), g)
        for g in (generator_of(0, 0), generator_of(0, 0), generator_of(0, 1))
    )
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


@pytest.mark.parametrize("step", range(4))
def test_what_the_scanner_does_not_look_at_is_black(step):
    view = EVERYWHERE.clone()
    view[..., :6] = False
    drawing = Drawing(shape=SHAPE)
    indices = torch.full((1, 1, *FINE), PLACES[2], dtype=torch.uint8)
    means = contrast(WORDS, drawing, generator_of(0, step))
    for image in (
        scan(zones() + 0.5, view, drawing, generator_of(0, step)),
        paint(indices, view, means, drawing, generator_of(0, step)),
    ):
        assert image.shape == (1, 1, *SHAPE)
        assert float(image[..., :6].abs().max()) == 0
        assert 0 < float(image[..., 6:].mean()) <= 1
        assert float(image.max()) <= 1


def test_noise_is_as_large_as_asked():
    """In a zone of 0.5, the standard deviation that was added; a gamma may halve or double it."""
    middle = (0, 0, slice(9, 12))
    quiet, little, much = (
        float(
            scan(zones(), EVERYWHERE, replace(CLEAN, noise=noise), generator_of(2, 0))[middle].std()
        )
        for noise in (0.0, 0.02, 0.04)
    )
    assert quiet < 1e-3
    assert much == pytest.approx(2 * little, rel=0.15)
    assert little < 2 * 0.02


def test_a_bias_field_is_smooth_and_there_only_if_asked():
    even = torch.full((1, 1, *FINE), 0.5)
    assert len(scan(even, EVERYWHERE, CLEAN, generator_of(0, 0)).unique()) == 1
    shaded = scan(even, EVERYWHERE, replace(CLEAN, bias=0.3), generator_of(0, 0))
    assert float(shaded.max() - shaded.min()) == 1  # of the range that is there
    steps = max(float(shaded.diff(dim=axis).abs().max()) for axis in (2, 3, 4))
    assert steps < 0.5  # knots are five to seven voxels apart
    assert float(roughness(shaded).max()) < 0.15


def test_thick_slices_lie_across_one_axis_each_in_its_turn():
    noise = torch.rand(1, 1, *FINE, generator=torch.Generator().manual_seed(0))
    drawing = replace(CLEAN, thick=1.0, coarsest_mm=16.0)
    across = []
    for step in range(24):
        fine, coarse = (
            roughness(scan(noise, EVERYWHERE, d, generator_of(3, step))) for d in (CLEAN, drawing)
        )
        # a change of range or gamma is that of all axes
        ratio = (coarse / fine) / (coarse / fine).max()
        if float(ratio.min()) < 0.5:
            across.append(int(ratio.argmin()))
            assert float(ratio.sort().values[1]) > 0.7
    assert set(across) == {0, 1, 2}


def test_painted_tissues_rank_as_their_means_and_the_background_is_black():
    of = subject()
    drawing = replace(only("T1"), shape=tuple((n + 1) // 2 for n in of.indices.shape[2:]))
    view = torch.ones(1, 1, *drawing.shape, dtype=torch.bool)
    means = contrast(WORDS, drawing, generator_of(0, 0))
    image = paint(of.indices, view, means, drawing, generator_of(0, 0))
    there = of.indices[..., ::2, ::2, ::2]
    seen = {code: float(image[there == PLACES[code]].mean()) for code in (0, 2, 3, 4)}
    assert sorted(seen, key=seen.get) == [0, 4, 3, 2]
    assert seen[0] < 0.05


def test_half_of_the_painted_images_are_black_around_what_they_show():
    drawing = Drawing(shape=SHAPE, noise=0.05)
    indices = torch.zeros(1, 1, *FINE, dtype=torch.uint8)
    indices[..., 12:28, :, :] = PLACES[2]
    outside = indices[..., ::2, ::2, ::2] == 0
    means = contrast(WORDS, drawing, generator_of(0, 0))
    images = [paint(indices, EVERYWHERE, means, drawing, generator_of(4, n)) for n in range(60)]
    black = sum(not bool(image[outside].any()) for image in images)
    assert 15 < black < 45  # four standard deviations


def test_painted_tissues_have_a_texture_of_at_most_a_tenth_of_the_range():
    indices = torch.full((1, 1, *FINE), PLACES[2], dtype=torch.uint8)
    indices[..., :14, :, :] = PLACES[4]  # dark: between the two lies the range
    deep = (0, 0, slice(11, None))
    means = contrast(WORDS, only("T1"), generator_of(0, 0))
    spreads = []
    for step in range(12):
        image = paint(indices, EVERYWHERE, means, CLEAN, generator_of(5, step))[deep]
        spreads.append(float(image.std()))
    assert 0 < min(spreads) < 0.02 < max(spreads) < 0.1
