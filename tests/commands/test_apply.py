"""What is carried arrives where the map says, in its own type, whatever its kind."""

from dataclasses import replace

import pytest
import torch
from scans import write_csv, write_pair, write_voxels

from regcli.commands.apply import Carrying, apply_files, looks_like_labels
from regcli.commands.record import read_result
from regcli.commands.register.job import Job
from regcli.commands.register.run import register_files
from regcli.image import Image
from regcli.io.images import read_image
from regcli.io.points import read_points
from regcli.recipe import RegisterRecipe


@pytest.fixture(scope="module")
def scans(tmp_path_factory):
    return write_pair(tmp_path_factory.mktemp("carry"))


def _register(scans, name, **recipe):
    folder = scans.fixed.parent / name
    job = Job(scans.fixed, scans.moving, folder, RegisterRecipe(**recipe))
    register_files(job, lambda stage, share: None)
    return folder


@pytest.fixture(scope="module")
def out(scans):
    return _register(scans, "out")


@pytest.fixture(scope="module")
def smooth(scans):
    """A result so smooth that the middle of a ball stays the middle of its image."""
    return _register(scans, "smooth", smoothness=30.0)


def _ball(like: Image, centre: torch.Tensor, radius_mm: float) -> torch.Tensor:
    """(I, J, K) of 5 within the radius of a world point."""
    grid = torch.stack(
        torch.meshgrid(*(torch.arange(n) for n in like.space.shape), indexing="ij"), dim=-1
    )
    distance = (like.space.voxel_to_world(grid) - centre).norm(dim=-1)
    return 5 * (distance < radius_mm).to(torch.int16)


def _centroid(image: Image, code: int) -> torch.Tensor:
    voxels = (image.data[0] == code).nonzero().to(torch.float64)
    return image.space.voxel_to_world(voxels.mean(0))


@pytest.mark.parametrize("inverse", [False, True], ids=["moving to fixed", "fixed to moving"])
def test_points_and_labels_go_to_the_same_place(scans, smooth, tmp_path, inverse):
    start = scans.truth.fixed if inverse else scans.truth.moving
    centre = start.space.centre
    labels = write_voxels(tmp_path / "ball.nii.gz", _ball(start, centre, 5.0), start)
    ball = read_image(labels, labels=True).image
    write_csv(tmp_path / "centre.csv", _centroid(ball, 5)[None])
    apply_files(
        Carrying((smooth,), (labels, tmp_path / "centre.csv"), tmp_path / "x", inverse=inverse)
    )
    carried = read_image(tmp_path / "x" / "ball.nii.gz", labels=True).image
    point = read_points(tmp_path / "x" / "centre.csv").world[0]
    gap = carried.space.world_to_voxel(_centroid(carried, 5)) - carried.space.world_to_voxel(point)
    assert float(gap.norm()) < 0.5
    assert set(carried.data.unique().tolist()) == {0, 5}


def test_points_there_and_back_come_home(scans, out, tmp_path):
    apply_files(Carrying((out,), (scans.fixed_points,), tmp_path / "there", inverse=True))
    there = tmp_path / "there" / scans.fixed_points.name
    apply_files(Carrying((out,), (there,), tmp_path / "back"))
    back = read_points(tmp_path / "back" / there.name).world
    assert float((back - scans.truth.points).norm(dim=1).max()) < 1e-3


def test_points_of_every_space_go_the_same_way(scans, out, tmp_path):
    points, space = scans.truth.phi(scans.truth.points), scans.truth.moving.space
    flip = torch.tensor([-1.0, -1.0, 1.0], dtype=torch.float64)
    files = {"ras": points, "lps": points * flip, "voxel": space.world_to_voxel(points)}
    home = {"ras": 1, "lps": flip}
    target = scans.truth.fixed.space
    carried = {}
    for name, values in files.items():
        write_csv(tmp_path / f"{name}.csv", values)
        apply_files(
            Carrying((out,), (tmp_path / f"{name}.csv",), tmp_path / name, points_space=name)
        )
        found = read_points(tmp_path / name / f"{name}.csv").world
        carried[name] = target.voxel_to_world(found) if name == "voxel" else found * home[name]
    assert carried["lps"] == pytest.approx(carried["ras"], abs=1e-4)
    assert carried["voxel"] == pytest.approx(carried["ras"], abs=1e-4)


def test_an_image_there_and_back_is_the_image_again(scans, out, tmp_path):
    apply_files(Carrying((out,), (scans.fixed,), tmp_path / "there", inverse=True))
    apply_files(Carrying((out,), (tmp_path / "there" / "fixed.nii.gz",), tmp_path / "back"))
    once, again = (
        read_image(path).image.data[0].float()
        for path in (scans.fixed, tmp_path / "back" / "fixed.nii.gz")
    )
    inside = (slice(6, -6),) * 3
    pair = torch.stack([once[inside].flatten(), again[inside].flatten()])
    assert float(torch.corrcoef(pair)[0, 1]) > 0.9


def test_type_and_codes_of_labels_survive(scans, out, tmp_path):
    apply_files(Carrying((out,), (scans.moving_labels,), tmp_path / "x"))
    before, after = (
        read_image(path, labels=True).image
        for path in (scans.moving_labels, tmp_path / "x" / scans.moving_labels.name)
    )
    assert after.storage.dtype == before.storage.dtype
    assert set(after.data.unique().tolist()) <= set(before.data.unique().tolist())
    assert after.space.agrees(scans.truth.fixed.space)


def test_label_maps_are_told_from_scans(scans):
    assert looks_like_labels(scans.truth.moving_labels)
    scan = read_image(scans.moving).image
    assert not looks_like_labels(scan)
    air = replace(scan, data=scan.data.clamp(min=100).to(torch.int16) - 1100)  # as in a CT
    assert not looks_like_labels(air)
    mask = replace(scan, data=(scan.data > 300).to(torch.uint8))
    assert looks_like_labels(mask)
    assert not looks_like_labels(scans.truth.moving)


def test_a_result_knows_its_map_and_grids_wherever_it_is(scans, out, tmp_path):
    moved = out.rename(tmp_path / "elsewhere")
    try:
        warp, fixed, moving = read_result(moved)
    finally:
        moved.rename(out)
    assert fixed.agrees(scans.truth.fixed.space)
    assert moving.agrees(scans.truth.moving.space)
    error = (warp(scans.truth.points) - scans.truth.phi(scans.truth.points)).norm(dim=1)
    assert float(error.mean()) < 2
