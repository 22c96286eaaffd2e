import nibabel as nib
import numpy as np
import pytest
import torch
from conftest import SPACES

from regcli.image import Image, Space
from regcli.report.planes import LIMIT, choose_planes, obliqueness

NORMALS = {"axial": 2, "coronal": 1, "sagittal": 0}


def heights(space):
    """An image whose intensity is a linear function of the place in the world."""
    index = torch.stack(
        torch.meshgrid(*(torch.arange(n) for n in space.shape), indexing="ij"), dim=-1
    )
    return space.voxel_to_world(index) @ torch.tensor([1.0, 3.0, 9.0], dtype=torch.float64)


def everything(space):
    return torch.ones(space.shape, dtype=torch.bool)


def test_planes_show_what_nibabel_has_there_in_its_canonical_order(space):
    values = heights(space).to(torch.float32)
    oracle = nib.as_closest_canonical(nib.Nifti1Image(values.numpy(), space.affine.numpy()))
    planes = choose_planes(space, everything(space))
    assert [plane.name for plane in planes] == ["axial", "coronal", "sagittal"]
    for plane in planes:
        normal = NORMALS[plane.name]
        shape = oracle.shape[:normal] + oracle.shape[normal + 1 :]
        found = plane.slice(Image(values[None], space))
        assert found.shape == plane.size[::-1]
        rows, columns = np.indices(found.shape)
        across, up = (columns + 0.5, found.shape[0] - rows - 0.5)
        voxels = [n / s * m - 0.5 for n, s, m in zip((across, up), plane.size, shape, strict=True)]
        middle = np.full(found.shape, round((oracle.shape[normal] - 1) / 2))
        voxels.insert(normal, middle)
        world = nib.affines.apply_affine(oracle.affine, np.stack(voxels, axis=-1))
        inner = np.s_[4:-4, 4:-4]  # the outermost voxels end in nothing
        slack = 9 * max(space.spacing) if oracle.shape[normal] % 2 == 0 else 0.01
        gap = (found - world @ (1, 3, 9))[inner]
        assert np.abs(gap).max() < slack
        assert gap.std() < 1e-3  # another slice at most, nothing turned or stretched


def test_pixels_are_square_and_pictures_have_the_sides_of_the_grid(space):
    for plane in choose_planes(space, everything(space)):
        across, up = (plane.space.spacing[axis] for axis in plane.axes)
        assert across == pytest.approx(up, rel=0.01)
        whole = [space.canonical().shape[a] * space.canonical().spacing[a] for a in plane.axes]
        assert plane.size[0] * across == pytest.approx(whole[0])
        assert plane.size[1] * up == pytest.approx(whole[1])
        assert max(plane.size) <= LIMIT


def test_letters_say_where_the_subject_is(space):
    centre = space.centre
    for letter, direction in {"R": (1, 0, 0), "A": (0, 1, 0), "S": (0, 0, 1)}.items():
        away = (space.voxel_to_world(_index(space)) - centre) @ torch.tensor(direction).double()
        image = Image((away > 0).to(torch.float32)[None], space)
        for plane in choose_planes(space, everything(space)):
            found = plane.slice(image)
            half = [n // 2 for n in found.shape]
            sums = {
                "left": found[:, : half[1]].sum(),
                "right": found[:, -half[1] :].sum(),
                "bottom": found[-half[0] :].sum(),
                "top": found[: half[0]].sum(),
            }
            for side, text in zip(("left", "right", "bottom", "top"), plane.letters, strict=True):
                if text == letter:
                    assert max(sums, key=lambda name: sums[name]) == side


def test_planes_pass_through_the_middle_of_the_mask(space):
    mask = torch.zeros(space.shape, dtype=torch.bool)
    mask[3:8, 10:15, 12:17] = True
    image = Image(mask.to(torch.float32)[None], space)
    for plane in choose_planes(space, mask):
        assert plane.slice(image, nearest=True).max() == 1
        world = plane.space.voxel_to_world(torch.tensor([0, 0, 0]))
        canonical = space.canonical()
        order, flipped = space.axes_of(canonical)
        old = order[plane.normal]
        expected = (5, 12, 14)[old]
        expected = space.shape[old] - 1 - expected if plane.normal in flipped else expected
        assert float(canonical.world_to_voxel(world)[plane.normal]) == pytest.approx(expected)


@pytest.mark.parametrize("thin", [0, 1, 2])
def test_a_2d_image_has_one_plane(thin):
    shape = [20, 31, 25]
    shape[thin] = 1
    flat = Space(tuple(shape), SPACES["LPS"].affine)
    (plane,) = choose_planes(flat, everything(flat))
    assert NORMALS[plane.name] == thin
    assert plane.slice(Image(heights(flat).to(torch.float32)[None], flat)).std() > 0


def test_a_large_image_is_shown_in_few_pixels():
    space = Space((900, 700, 3), torch.diag(torch.tensor([0.2, 0.2, 5.0, 1.0]).double()))
    axial = choose_planes(space, everything(space))[0]
    assert axial.size == (LIMIT, 224)


def test_obliqueness_is_the_angle_to_the_world():
    assert obliqueness(SPACES["LAS"]) == pytest.approx(0, abs=1e-6)
    assert 15 < obliqueness(SPACES["oblique"]) < 45


def _index(space):
    return torch.stack(
        torch.meshgrid(*(torch.arange(n) for n in space.shape), indexing="ij"), dim=-1
    )
