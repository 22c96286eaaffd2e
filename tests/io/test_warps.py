import time
import warnings
from concurrent.futures import ThreadPoolExecutor

import h5py
import numpy as np
import oracles
import pytest
import SimpleITK as sitk
import torch
from scipy.ndimage import center_of_mass
from warpfiles import make_warp, other_space, random_points, smooth_image, write_all

from regcli.image import Image, Space
from regcli.io import warps
from regcli.warp import Warp

SLICE = Space((30, 27, 1), torch.diag(torch.tensor([-2.0, 1.5, 3.0, 1.0]).double()))


@pytest.fixture(scope="module")
def ants():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("ants", reason="antspyx is not installed")


def itk_points(transform, points):
    lps = points * torch.tensor([-1.0, -1.0, 1.0])
    out = np.array([transform.TransformPoint(p) for p in lps.tolist()])
    return torch.from_numpy(out * (-1, -1, 1))


def close(a, b, mm):
    torch.testing.assert_close(a, b, atol=mm, rtol=0)


def test_itk_carries_points_through_a_composite_as_the_warp_does(space, tmp_path):
    warp = make_warp(space)
    warps.write_composite(warp, tmp_path / "c.h5")
    points = random_points(space)
    close(itk_points(sitk.ReadTransform(str(tmp_path / "c.h5")), points), warp(points), 1e-5)


def test_composites_are_float32_and_the_same_bytes_every_time(tmp_path):
    space = Space((5, 4, 3), torch.eye(4, dtype=torch.float64))
    draw = torch.Generator().manual_seed(0)
    u = torch.randn(1, 3, 5, 4, 3, generator=draw)
    warp = Warp(space, torch.eye(4, dtype=torch.float64), u)
    for name in ("one.h5", "two.h5"):
        warps.write_composite(warp, tmp_path / name)
        time.sleep(1.1)  # a time in the file would show
    assert (tmp_path / "one.h5").read_bytes() == (tmp_path / "two.h5").read_bytes()
    with h5py.File(tmp_path / "one.h5") as file:
        assert file["TransformGroup/2/TransformParameters"].dtype == np.float32


def test_itk_carries_points_back_through_an_inverse_composite(space, tmp_path):
    warp = make_warp(space)
    inverse = write_all(warp, tmp_path)
    points = random_points(space, margin=4)
    transform = sitk.ReadTransform(str(tmp_path / "inverse_composite.h5"))
    there = warp(points)
    close(itk_points(transform, there), inverse(there), 1e-4)
    close(itk_points(transform, there), points, 0.1)


@pytest.mark.parametrize("inverted", [False, True])
def test_itk_resamples_by_a_composite_to_the_same_image(space, tmp_path, inverted):
    moving = smooth_image(other_space(space))
    warp = make_warp(space)
    inverse = write_all(warp, tmp_path)
    image, onto, answer = (moving, space, warp)
    name = "composite.h5"
    if inverted:
        image, onto, answer = smooth_image(space), moving.space, inverse
        name = "inverse_composite.h5"
    transform = sitk.ReadTransform(str(tmp_path / name))
    like = oracles.to_itk(Image(torch.zeros(1, *onto.shape), onto))
    moved = sitk.Resample(oracles.to_itk(image), like, transform, sitk.sitkLinear, 0.0)
    moved = torch.from_numpy(sitk.GetArrayFromImage(moved).transpose(2, 1, 0).copy())
    grid = torch.cartesian_prod(*(torch.arange(float(n)) for n in onto.shape))
    voxels = image.space.world_to_voxel(answer(onto.voxel_to_world(grid)))
    sides = torch.tensor(image.space.shape)
    inside = ((voxels > 0.01) & (voxels < sides - 1.01)).all(dim=1).reshape(onto.shape)
    if inverted:  # where v's own grid ends, ITK's displacement is zero
        back = space.world_to_voxel(Warp(onto, answer.affine)(onto.voxel_to_world(grid)))
        inside &= ((back > 0) & (back < sides - 1)).all(dim=1).reshape(onto.shape)
    assert inside.float().mean() > 0.3
    close(answer.apply(image, onto).data[0][inside], moved[inside], 1e-4)


def test_groups_are_in_the_order_of_ants(space, tmp_path):
    write_all(make_warp(space), tmp_path)
    affine, field = "AffineTransform_double_3_3", "DisplacementFieldTransform_double_3_3"
    orders = {"composite.h5": (affine, field), "inverse_composite.h5": (field, affine)}
    for name, order in orders.items():
        with h5py.File(tmp_path / name) as file:
            groups = file["TransformGroup"]
            kinds = [groups[f"{n}/TransformType"][0].decode() for n in range(len(groups))]
            fixed = groups[f"{1 + order.index(field)}/TransformFixedParameters"][:]
        assert kinds == ["CompositeTransform_double_3_3", *order]
        lps = space.affine[:3, 3].numpy() * (-1, -1, 1)
        np.testing.assert_allclose(fixed, [*space.shape, *lps, *space.spacing, *fixed[9:]])


def test_every_way_to_read_a_result_gives_the_same_map(space, tmp_path):
    warp = make_warp(space)
    inverse = write_all(warp, tmp_path)
    points = random_points(space)
    composite = warps.read_warp(tmp_path / "composite.h5")
    chain = warps.read_warp([tmp_path / "warp.nii.gz", str(tmp_path / "affine.mat")])
    for found in (composite, chain):
        assert found.space.agrees(space)
        close(found.displacement, warp.displacement, 1e-5)
        close(found(points), warp(points), 1e-5)
    points = warp(points)
    back = warps.read_warp(tmp_path / "inverse_composite.h5")
    files = [(tmp_path / "affine.mat", True), tmp_path / "inverse_warp.nii.gz"]
    for found in (back, warps.read_warp(files)):
        assert found.space.agrees(inverse.space)
        close(found.displacement, inverse.displacement, 1e-4)
        close(found(points), inverse(points), 1e-4)


def test_the_parts_of_an_inverse_are_exact(space):
    warp = make_warp(space)
    inverse, _ = warp.inverse()
    fixed, v = warps.inverse_parts(inverse, space)
    assert fixed is space
    deformation = Warp(fixed, torch.eye(4, dtype=torch.float64), v)
    points = random_points(inverse.space)
    close(deformation(Warp(space, inverse.affine)(points)), inverse(points), 1e-4)
    again = warps.after_affine(deformation, inverse.affine)
    assert again.space.agrees(inverse.space)
    close(again.displacement, inverse.displacement, 1e-4)


def test_a_warp_of_one_slice_survives_every_file(tmp_path):
    warp = make_warp(SLICE)
    write_all(warp, tmp_path)
    points = random_points(SLICE)
    files = [tmp_path / "warp.nii.gz", tmp_path / "affine.mat"]
    for found in (warps.read_warp(tmp_path / "composite.h5"), warps.read_warp(files)):
        assert found.space.agrees(SLICE)
        close(found(points), warp(points), 1e-5)
    close(
        itk_points(sitk.ReadTransform(str(tmp_path / "composite.h5")), points), warp(points), 1e-5
    )


def test_a_sheared_grid_survives_a_composite_and_itk_uses_it(space, tmp_path):
    shear = torch.eye(4, dtype=torch.float64)
    shear[0, 1] = 0.3
    warp = make_warp(Space(space.shape, space.affine @ shear))
    warps.write_composite(warp, tmp_path / "c.h5")
    points = random_points(warp.space)
    close(itk_points(sitk.ReadTransform(str(tmp_path / "c.h5")), points), warp(points), 1e-5)
    close(warps.read_warp(tmp_path / "c.h5")(points), warp(points), 1e-5)


def test_a_linear_map_has_a_composite_of_its_affine_alone(space, tmp_path):
    warp = Warp(space, make_warp(space).affine)
    inverse, _ = warp.inverse()
    warps.write_composite(warp, tmp_path / "c.h5")
    warps.write_inverse_composite(inverse, space, tmp_path / "i.h5")
    found, back = warps.read_warp(tmp_path / "c.h5", space), warps.read_warp(tmp_path / "i.h5")
    assert (found.displacement, back.displacement) == (None, None)
    assert found.space is space
    close(found.affine, warp.affine, 1e-9)
    close(back.affine, inverse.affine, 1e-9)


def test_a_long_chain_is_the_composition_of_its_parts(space, tmp_path):
    one, two = make_warp(space, seed=1), make_warp(space, seed=2, degrees=-3)
    write_all(one, tmp_path)
    warps.write_displacement(space, two.displacement, tmp_path / "two.nii.gz")
    files = [tmp_path / name for name in ("affine.mat", "warp.nii.gz", "two.nii.gz", "affine.mat")]
    found = warps.read_warp([*files, (tmp_path / "affine.mat", True)])
    points = random_points(space, margin=6)
    eye = torch.eye(4, dtype=torch.float64)
    expected = Warp(space, eye, two.displacement)(
        Warp(space, eye, one.displacement)(Warp(space, one.affine)(points))
    )
    close(found(points), expected, 0.05)  # the second field is interpolated twice


@pytest.mark.parametrize("precision", ["float", "double"])
def test_composites_of_old_itk_with_misspelt_names_are_read(space, tmp_path, precision):
    warp = make_warp(space)
    warps.write_composite(warp, tmp_path / "new.h5")
    with h5py.File(tmp_path / "new.h5") as new, h5py.File(tmp_path / "old.h5", "w") as old:
        for name in ("HDFVersion", "ITKVersion", "OSName", "OSVersion"):
            new.copy(name, old)
        for number, group in new["TransformGroup"].items():
            target = old.create_group(f"TransformGroup/{number}")
            kind = group["TransformType"][0].replace(b"double", precision.encode())
            dtype = group["TransformType"].dtype
            target.create_dataset("TransformType", data=[kind], dtype=dtype)
            for name in set(group) - {"TransformType"}:
                dtype = "f4" if precision == "float" else "f8"
                target[name.replace("Transform", "Tranform")] = group[name][:].astype(dtype)
    points = random_points(space)
    close(warps.read_warp(tmp_path / "old.h5")(points), warp(points), 1e-3)


def test_ants_applies_the_files_in_the_order_that_regcli_reads_them(ants, space, tmp_path):
    warp = make_warp(space)
    inverse = write_all(warp, tmp_path)
    fixed, moving = smooth_image(space, 1), smooth_image(other_space(space), 2)
    names = ("warp.nii.gz", "affine.mat", "inverse_warp.nii.gz", "composite.h5")
    u, affine, v, composite = (str(tmp_path / name) for name in names)
    pairs = [
        (fixed, moving, [u, affine], [False, False], warp),
        (fixed, moving, [composite], [False], warp),
        (moving, fixed, [affine, v], [True, False], inverse),
        (moving, fixed, [str(tmp_path / "inverse_composite.h5")], [False], inverse),
    ]
    for onto, image, files, invert, answer in pairs:
        moved = ants.apply_transforms(
            *(to_ants(ants, i) for i in (onto, image)), files, whichtoinvert=invert
        )
        ours = answer.apply(image, onto.space).data[0]
        inside = torch.from_numpy(moved.numpy() != 0) & (ours != 0)
        if answer is inverse:  # ITK has no displacement outside v's grid
            ones = Image(torch.ones(1, *space.shape), space)
            inside &= Warp(onto.space, inverse.affine).apply(ones).data[0] > 0.99
        gap = (ours - torch.from_numpy(moved.numpy()))[inside].abs()
        assert inside.float().mean() > 0.3
        assert float(gap.quantile(0.999)) < 1e-4
        listed = list(zip(files, invert, strict=True))
        points = random_points(onto.space, margin=4)
        close(warps.read_warp(listed)(points), answer(points), 1e-4)


def to_ants(ants, image):
    """One channel; ANTsPy too counts in LPS."""
    affine = torch.diag(torch.tensor([-1.0, -1, 1, 1]).double()) @ image.space.affine
    spacing = affine[:3, :3].norm(dim=0)
    return ants.from_numpy(
        image.data[0].numpy(),
        origin=affine[:3, 3].tolist(),
        spacing=spacing.tolist(),
        direction=(affine[:3, :3] / spacing).numpy(),
    )


def test_a_label_moves_to_where_the_inverse_carries_its_centre(space, tmp_path):
    warp = make_warp(space)
    write_all(warp, tmp_path)
    found = warps.read_warp(tmp_path / "composite.h5")
    back = warps.read_warp(tmp_path / "inverse_composite.h5")
    moving_space = other_space(space)
    centre = moving_space.centre + torch.tensor([5.0, -4.0, 3.0])
    grid = torch.cartesian_prod(*(torch.arange(float(n)) for n in moving_space.shape))
    ball = (moving_space.voxel_to_world(grid) - centre).norm(dim=1) < 9
    label = Image(ball.reshape(1, *moving_space.shape).to(torch.int16), moving_space, labels=True)
    moved = found.apply(label, space, "label").data[0].numpy()
    where = center_of_mass(moved)
    points = moving_space.voxel_to_world(grid[ball])
    expected = space.world_to_voxel(back(points)).mean(dim=0).numpy()
    assert np.linalg.norm(where - expected) < 0.5


def test_composites_are_written_from_several_threads_at_once(space, tmp_path):
    warp = make_warp(space)
    paths = [tmp_path / f"{n}.h5" for n in range(8)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda path: warps.write_composite(warp, path), paths))
        found = list(pool.map(warps.read_warp, paths))
    for other in found:
        close(other.displacement, warp.displacement, 1e-5)
