"""Files of features: right in space for nibabel, right in numbers for numpy, all or none."""

import json
from dataclasses import replace

import nibabel as nib
import numpy as np
import phantoms
import pytest
import torch
from conftest import SPACES
from weightfiles import WIDE, write_weights

import regcli.commands.features.run as command
from regcli.commands.features.run import FeatureJob, features_files
from regcli.errors import InputError, OutputError
from regcli.image import Image
from regcli.io.images import write_image
from regcli.nets.base import FeatureNet, every_other
from regcli.registration.features import maps as featuremaps
from regcli.registration.features.model import FeatureModel
from regcli.registration.features.trust import Volumes

LEVELS = ("16mm", "8mm", "4mm")


class Brightness(FeatureNet):
    """A network without weights: the probability of being bright, in two of three channels."""

    def __init__(self):
        super().__init__()
        self.channels, self.multiple = 3, 4

    def forward(self, image, shown):
        odds = torch.cat([image, -image, 0 * image], dim=1)
        return [every_other(every_other(odds)), every_other(odds), odds]


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return str(write_weights(tmp_path_factory.mktemp("w") / "w.safetensors", volumes=WIDE))


@pytest.fixture
def plain(monkeypatch):
    """Draw nothing: that takes longer than all else."""
    monkeypatch.setattr(command, "draw_features", lambda maps, path, name: path.touch())


@pytest.fixture
def job(weights, tmp_path):
    write_image(phantoms.pair(SPACES["oblique"]).fixed, tmp_path / "head.nii.gz")
    return FeatureJob(tmp_path / "head.nii.gz", tmp_path / "out", weights)


def bright(monkeypatch):
    """Have any weights be those of `Brightness`."""
    usual = Volumes((0.0, 0.0), (99.0, 99.0))
    learned = FeatureModel("bright", "0" * 64, Brightness().eval(), 4.0, (1.0, 1.0, 1.0), usual)
    monkeypatch.setattr(featuremaps, "load", lambda spec: learned)


def test_maps_lie_where_the_image_lies(space, weights, tmp_path, plain, monkeypatch):
    # a ramp in the world is the same ramp smoothed and resampled: its value tells the place
    bright(monkeypatch)
    job = FeatureJob(tmp_path / "ramp.nii.gz", tmp_path / "out", weights)
    slope = np.array([0.011, -0.008, 0.009])
    centre = space.centre.numpy()
    index = torch.cartesian_prod(*(torch.arange(n) for n in space.shape))
    ramp = 1 + (space.voxel_to_world(index).numpy() - centre) @ slope
    write_image(Image(torch.from_numpy(ramp).float().view(1, *space.shape), space), job.image)
    low, high = featuremaps.robust_range(torch.from_numpy(ramp).float())
    features_files(job)
    for level in LEVELS:
        # a network's levels are every second and fourth voxel of what it says of the 4 mm image
        shown = nib.load(job.out / f"image_{level}.nii.gz")
        maps = nib.load(job.out / f"features_{level}.nii.gz")
        np.testing.assert_array_equal(maps.affine, shown.affine)
        index = np.indices(shown.shape).reshape(3, -1).T
        points = nib.affines.apply_affine(shown.affine, index)
        value = ((1 + (points - centre) @ slope) - low) / (high - low)
        voxels = nib.affines.apply_affine(np.linalg.inv(space.affine.numpy()), points)
        edge = 2 * 4.0 / np.array(space.spacing)  # how far smoothing sees the edge
        kept = ((voxels > edge) & (voxels < np.array(space.shape) - 1 - edge)).all(axis=1)
        kept &= (value > 0.03) & (value < 0.97)
        assert kept.sum() >= 4
        odds = np.exp(np.stack([value, -value, 0 * value], axis=-1)[kept])
        wanted = odds / odds.sum(axis=1, keepdims=True)
        found = maps.get_fdata().reshape(-1, 3)[kept]
        np.testing.assert_allclose(found, wanted, atol=3e-3)
    rank = np.asarray(nib.load(job.out / "rank_4mm.nii.gz").dataobj)
    assert set(rank.reshape(-1)[kept]) == {1}  # a ramp moves voxels along itself alone
    np.testing.assert_allclose(shown.get_fdata().reshape(-1)[kept], value[kept], atol=3e-3)


def test_numbers_of_the_files_are_those_that_numpy_finds(job, plain):
    record = features_files(job)
    assert [level["name"] for level in record["levels"]] == list(LEVELS)
    for level in record["levels"]:
        load = {kind: nib.load(job.out / name) for kind, name in level["files"].items()}
        features = load["features"].get_fdata()
        assert load["features"].get_data_dtype() == np.uint8
        assert np.abs(features.sum(axis=-1) - 1).max() < 1.5 * 3 / 255
        g = np.stack([np.gradient(features[..., c]) for c in range(3)])  # (C, 3, I, J, K)
        A = load["features"].affine[:3, :3]
        J = np.moveaxis(g, (0, 1), (-2, -1)) @ np.linalg.inv(A)
        wanted = np.linalg.svd(J, compute_uv=False)
        values = load["singular_values"].get_fdata()
        np.testing.assert_allclose(values, wanted, atol=2e-6)
        threshold = level["rank"]["threshold_per_mm"]
        clear = (np.abs(wanted - threshold) > 1e-5).all(axis=-1)
        rank = np.asarray(load["rank"].dataobj)
        assert (rank == (wanted > threshold).sum(axis=-1))[clear].all()
        inside = load["image"].get_fdata() > 0.05
        assert inside.sum() == level["foreground_voxels"]
        counts = np.bincount(rank[inside], minlength=4) / inside.sum()
        assert level["rank"]["percent"] == pytest.approx(list(100 * counts))
        mean, axes = (np.array(record["pca"][key]) for key in ("mean", "axes"))
        np.testing.assert_allclose(load["pca"].get_fdata(), (features - mean) @ axes.T, atol=1e-5)
        spread = load["pca"].get_fdata()[inside].var(axis=0) / features[inside].var(axis=0).sum()
        assert level["pca_explained"] == pytest.approx(list(spread), abs=1e-5)
        for image in load.values():
            np.testing.assert_allclose(image.affine, level["affine"], atol=1e-4)


def test_the_record_says_what_was_done_and_lists_every_file(job):
    job = replace(job, command=("regcli", "features", "a b"))
    record = features_files(job)
    assert json.loads((job.out / "features.json").read_text()) == record
    assert {str(path) for path in job.out.iterdir()} == set(record["outputs"].values())
    assert record["command"] == "regcli features 'a b'"
    assert record["image"].keys() >= {"path", "sha256", "shape", "spacing"}
    assert record["weights"]["name"] == "w"
    assert [c["name"] for c in record["channels"]] == ["background", "channel 1", "channel 2"]
    assert (job.out / "features.png").read_bytes().startswith(b"\x89PNG")
    assert list(record["seconds"]) == ["read", "features", "write", "total"]


def test_files_have_the_same_bytes_again_on_any_number_of_threads(job, tmp_path, plain):
    names = features_files(replace(job, threads=2))["outputs"]
    one = {path.name: path.read_bytes() for path in job.out.iterdir()}
    features_files(replace(job, threads=1, out=tmp_path / "again"))
    other = {path.name: path.read_bytes() for path in (tmp_path / "again").iterdir()}
    assert len(one) == len(names) == 17
    assert {n for n in one if one[n] != other[n]} <= {"features.json"}  # it tells times


def test_an_earlier_result_is_replaced_only_by_force_and_then_entirely(job, tmp_path, plain):
    features_files(job)
    (job.out / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match="already"):
        features_files(job)
    finer = str(write_weights(tmp_path / "finer.safetensors", spacing_mm=3.5, volumes=WIDE))
    record = features_files(replace(job, weights=finer, force=True))
    found = {str(path) for path in job.out.iterdir()}
    assert found == {*record["outputs"].values(), str(job.out / "notes.txt")}


def test_nothing_is_left_if_anything_fails(job, monkeypatch):

    def fail(*arguments):
        raise InputError("No pictures today.", "Try tomorrow.")

    monkeypatch.setattr(command, "draw_features", fail)
    with pytest.raises(InputError, match="today"):
        features_files(job)
    assert not job.out.exists()


def test_neither_the_image_nor_a_registration_is_written_over(job, plain):
    features_files(job)
    own = replace(job, image=job.out / "image_4mm.nii.gz", force=True)
    before = own.image.read_bytes()
    with pytest.raises(OutputError, match="input"):
        features_files(own)
    assert own.image.read_bytes() == before
    (job.out / "regcli.json").write_text("{}")
    with pytest.raises(OutputError, match="registration"):
        features_files(replace(job, force=True))
