from dataclasses import replace

import pytest
import torch
from heads import CODES, subject

from regcli.train.data.vocabulary import vocabulary_of
from regcli.train.synth.drawing import Drawing
from regcli.train.synth.images import (
    draw,
    elastic,
    field_of_view,
    generator_of,
    placement,
)

WORDS = vocabulary_of(CODES)
STILL = Drawing(
    shape=(17, 17, 17), turn_rad=0, scale=0, shift_mm=0, elastic_mm=(0, 0, 0), bare=0, noise=0
)


def centroid(weights):
    axes = torch.meshgrid(*(torch.arange(float(n)) for n in weights.shape), indexing="ij")
    return torch.stack([(a * weights).sum() / weights.sum() for a in axes])


def test_the_same_step_draws_the_same_sample():
    one, same, other = (
        draw(subject(), WORDS, Drawing(shape=(17, 17, 17)), generator_of(3, step))
        for step in (5, 5, 6)
    )
    assert torch.equal(one.image, same.image)
    assert torch.equal(one.types, same.types)
    assert not torch.equal(one.image, other.image)


@pytest.mark.parametrize("step", range(6))
def test_images_are_between_0_and_1_and_use_that_range(step):
    sample = draw(subject(), WORDS, Drawing(shape=(17, 17, 17)), generator_of(0, step))
    assert sample.image.shape == sample.types.shape == (1, 1, 17, 17, 17)
    assert float(sample.image.min()) >= 0
    assert 0.9 < float(sample.image.max()) <= 1


def test_nothing_is_moved_but_the_sides_when_nothing_is_asked():
    of = subject()
    sample = draw(of, WORDS, STILL, generator_of(0, 0))
    middle = torch.tensor([8.0, 8.0, 8.0])
    for kind in range(1, WORDS.count):
        torch.testing.assert_close(
            centroid((sample.types[0, 0] == kind).float()), middle, atol=0.3, rtol=0
        )
    voxels = int((of.indices == WORDS.codes.index(2)).sum() + (of.indices == 4).sum())
    assert voxels > 0
    assert abs(int((sample.types == WORDS.classes[1]).sum()) * 8 / voxels - 1) < 0.1


def test_the_image_lies_where_its_types_are():
    """The centre of what is drawn must not drift on the way from the fine grid to the coarse."""
    words = replace(WORDS, codes=(0, 2), classes=(0, 1))
    of = subject()
    ball = replace(of, indices=(of.indices > 0).to(torch.uint8))
    drawing = replace(STILL, shift_mm=2.0, bias=0.0, coarsest_mm=2.0)
    gaps = []
    for step in range(24):
        sample = draw(ball, words, drawing, generator_of(1, step))
        gaps.append(centroid(sample.image[0, 0]) - centroid((sample.types[0, 0] > 0).float()))
    # single draws are off by the rounding of lookups, an eighth of a voxel, to any side
    assert float(torch.stack(gaps).abs().max()) < 0.3
    assert float(torch.stack(gaps).mean(dim=0).abs().max()) < 0.05


def test_displacements_have_the_size_that_is_asked_for():
    drawing = Drawing(elastic_mm=(4.0, 0.0, 0.0), spacing_mm=2.0)
    spread = [
        float(elastic((161, 161, 161), drawing, generator_of(0, step)).std()) for step in range(3)
    ]
    # in fine voxels of 1 mm; between knots, linear interpolation keeps less than at them
    assert 1.5 < sum(spread) / 3 < 4.0


def test_a_placement_turns_and_scales_about_the_brain():
    of = subject()
    drawing = replace(STILL, turn_rad=0.2)
    matrix = placement(of, (33, 33, 33), drawing, generator_of(0, 1), mirror=True)
    middle = matrix[:, :3] @ torch.full((3,), 16.0, dtype=torch.float64) + matrix[:, 3]
    torch.testing.assert_close(
        middle, centroid(of.brain[0, 0].double()).double(), atol=1e-6, rtol=0
    )
    scales = torch.linalg.svdvals(matrix[:, :3])
    torch.testing.assert_close(scales, torch.ones(3, dtype=torch.float64), atol=1e-9, rtol=0)


def test_stripped_images_show_the_brain_alone():
    drawing = replace(STILL, bare=1.0)
    shown = []
    for step in range(6):
        whole, bare = (draw(subject(), WORDS, d, generator_of(0, step)) for d in (STILL, drawing))
        assert torch.equal(bare.types > 0, whole.types > 0)
        shown.append([int((one.image > 0.02).sum()) for one in (bare, whole)])
    # heads show more, but for those that keep the fluid alone: here there is none
    assert all(bare <= whole for bare, whole in shown)
    assert 1 <= sum(bare < whole for bare, whole in shown) <= 5


def test_a_cut_field_of_view_hides_the_same_voxels_of_image_and_types():
    drawing = replace(Drawing(shape=(17, 17, 17)), cut=0.0)
    hidden = []
    for step in range(12):
        whole, cut = (
            draw(subject(), WORDS, d, generator_of(0, step))
            for d in (drawing, replace(drawing, cut=1.0))
        )
        gone = (cut.types == 0) & (whole.types > 0)
        assert torch.equal(cut.types[~gone], whole.types[~gone])
        assert not bool(cut.image[gone].any())
        hidden.append(float(gone.sum() / (whole.types > 0).sum()))
    assert min(hidden) < 0.3 < max(hidden) < 1 - 0.5**3


@pytest.mark.parametrize("face", range(6))
def test_a_field_of_view_ends_no_deeper_than_asked(face):
    brain = torch.zeros(1, 1, 41, 41, 41, dtype=torch.bool)
    brain[..., 5:35, 5:35, 5:35] = True
    drawing = replace(Drawing(), cut=1.0, deepest_cut=0.2)
    axis, far = face // 2, face % 2 == 0
    depths = []
    for step in range(30):
        view = field_of_view(brain, drawing, generator_of(0, step))[0, 0, 5:35, 5:35, 5:35]
        line = [15, 15]
        line.insert(axis, slice(None))
        seen = view[tuple(line)].flip(0) if far else view[tuple(line)]
        depths.append(int(seen.int().argmax()))
    assert min(depths) == 0
    assert 4 <= max(depths) <= 6
