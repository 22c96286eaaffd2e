"""Files that cannot be used are refused, each defect by its own message."""

import contextlib
import re
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
import torch
from imagefiles import (
    INT16,
    header_bytes,
    numbers,
    refused,
    save,
    space,
)

from regcli.errors import InputError
from regcli.image import Image
from regcli.io.images import read_header, read_image, write_image


@pytest.mark.parametrize("name", ["a.nii.gz", "a.mha", "a.nrrd", "a.mgz", "a.xyz"])
def test_missing_files_folders_and_empty_files_are_refused(name, tmp_path):
    path = tmp_path / name
    refused(path, "does not exist")
    path.touch()
    refused(path, "is empty")
    path.unlink()
    path.mkdir()
    refused(path, "is a folder")


def test_an_unknown_ending_is_refused_with_the_known_ones(tmp_path):
    path = tmp_path / "a.img"
    path.write_bytes(b"something")
    assert ".nrrd" in refused(path, "unknown image format (.img)").remedy
    bare = tmp_path / "a"
    bare.write_bytes(b"something")
    refused(bare, "no ending")


def test_a_file_without_read_permission_is_refused(tmp_path, monkeypatch):
    path = save(tmp_path / "a.nii", numbers((6, 5, 4)))

    def denied(self: Path, mode: str) -> None:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "open", denied)  # chmod does not stop root
    refused(path, "permission denied")


@pytest.mark.parametrize("name", ["a.nii", "a.mha", "a.nrrd", "a.mgh"])
def test_files_that_are_not_what_their_name_says_are_refused(name, tmp_path, capfd):
    path = tmp_path / name
    for content in (b"hello world", b"\x89PNG" * 300, b"\0" * 600):
        path.write_bytes(content)
        refused(path, "is not a")
    assert capfd.readouterr() == ("", "")


def test_compression_against_the_name_is_refused(tmp_path):
    plain = save(tmp_path / "a.nii", numbers((6, 5, 4)))
    refused(plain.rename(tmp_path / "b.nii.gz"), "is not gzip-compressed")
    packed = save(tmp_path / "c.nii.gz", numbers((6, 5, 4)))
    refused(packed.rename(tmp_path / "d.nii"), "is gzip-compressed")


def test_one_half_of_a_pair_is_refused(tmp_path):
    path = save(tmp_path / "a.nii", numbers((6, 5, 4)), magic=b"ni1")
    refused(path, ".hdr/.img pair")


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_a_truncated_gzip_is_refused(share, tmp_path):
    voxels = np.random.default_rng(0).integers(0, 999, (20, 20, 20)).astype(np.int16)
    path = save(tmp_path / "a.nii.gz", voxels)
    raw = path.read_bytes()
    path.write_bytes(raw[: int(len(raw) * share)])
    refused(path, "cut short")
    path.write_bytes(raw[:-8] + b"\1\2\3\4" + raw[-4:])
    refused(path, "damaged")


@pytest.mark.parametrize("ending", [".nii", ".mha", ".nrrd", ".mgh"])
def test_truncated_voxels_are_refused(ending, tmp_path, capfd):
    path = tmp_path / f"a{ending}"
    voxels = torch.randint(0, 999, (1, 20, 20, 20), dtype=torch.int16)
    write_image(Image(voxels, space((20, 20, 20)), storage=INT16), path)
    raw = path.read_bytes()
    path.write_bytes(raw[: len(raw) * 2 // 3])
    with pytest.raises(InputError, match=re.escape(path.name)):
        read_image(path)
    assert capfd.readouterr() == ("", "")
    if ending == ".nii":
        refused(path, "bytes of voxels")
        path.write_bytes(raw[:200])
        refused(path, "is not a NIfTI")


@pytest.mark.parametrize("spacing", [(0, 1, 1), (1, -1, 1), (1, 1, float("nan"))])
def test_impossible_voxel_sizes_are_refused(spacing, tmp_path):
    path = save(tmp_path / "a.nii", numbers((6, 5, 4)))
    refused(header_bytes(path, {"pixdim": [1, *spacing, 1, 1, 1, 1]}), "voxel size")
    mgh = tmp_path / "a.mgh"
    nib.save(nib.MGHImage(numbers((6, 5, 4)), np.eye(4)), mgh)
    raw = mgh.read_bytes()
    mgh.write_bytes(raw[:30] + np.array(spacing, ">f4").tobytes() + raw[42:])
    refused(mgh, "voxel size")


def test_a_nrrd_with_degenerate_directions_is_refused(tmp_path):
    path = tmp_path / "a.nrrd"
    sitk.WriteImage(sitk.GetImageFromArray(numbers((4, 5, 6))), str(path))
    raw = path.read_bytes()
    path.write_bytes(raw.replace(b"(1,0,0)", b"(0,0,0)"))
    refused(path, "voxel size")
    path.write_bytes(raw.replace(b"(1,0,0)", b"(0,1,0)"))
    refused(path, "singular")


@pytest.mark.parametrize(
    ("row", "words"),
    [((0, 0, 0, 0), "singular"), ((0, 1, 0, 0), "singular"), ((1, np.nan, 0, 0), "not finite")],
)
def test_degenerate_affines_are_refused(row, words, tmp_path):
    path = save(tmp_path / "a.nii", numbers((6, 5, 4)), srow_x=row)
    refused(path, words)
    header_bytes(path, {"qform_code": 1})
    refused(path, words)


def test_a_broken_qform_is_passed_over_where_there_is_an_sform(tmp_path):
    path = save(tmp_path / "a.nii", numbers((6, 5, 4)), qform_code=1, quatern_b=3)
    assert "not a rotation" in read_image(path).warnings[0]


def test_voxels_that_are_not_finite_are_counted(tmp_path):
    voxels = numbers((6, 5, 4)).astype(np.float64)
    voxels[0, 0, :3] = np.nan, np.inf, 1e300
    refused(save(tmp_path / "a.nii", voxels), "3 of 120 voxels")


def test_constant_images_are_refused(tmp_path):
    refused(save(tmp_path / "a.nii", np.full((6, 5, 4), 7, np.int16)), "every voxel is 7")
    path = save(tmp_path / "a.nii", np.zeros((6, 5, 4), np.float32))
    refused(path, "every voxel is 0")
    assert not read_image(path, constant=True).image.data.any()


def test_colours_complex_numbers_and_vectors_are_refused(tmp_path):
    path = tmp_path / "a.nii"
    refused(save(path, np.ones((6, 5, 4), np.complex64)), "complex numbers")
    rgb = np.zeros((6, 5, 4), [("R", "u1"), ("G", "u1"), ("B", "u1")])
    refused(save(path, rgb), "colours")
    refused(header_bytes(save(path, numbers((6, 5, 4))), {"datatype": 777}), "unknown kind")
    for kind, words in ((sitk.sitkVectorUInt8, "3 values"), (sitk.sitkVectorFloat64, "field")):
        for ending in (".mha", ".nrrd"):
            sitk.WriteImage(sitk.Image([4, 5, 6], kind, 3), str(tmp_path / f"a{ending}"))
            refused(tmp_path / f"a{ending}", words)
    sitk.WriteImage(sitk.Image([4, 5, 6], sitk.sitkComplexFloat32), str(tmp_path / "a.nrrd"))
    refused(tmp_path / "a.nrrd", "complex")


def test_a_displacement_field_is_refused_with_what_to_do(tmp_path):
    path = save(tmp_path / "a.nii", np.zeros((6, 5, 4, 1, 3), np.float32), intent_code=1007)
    assert "regcli apply" in refused(path, "displacement field").remedy
    refused(save(path, np.zeros((6, 5, 4, 1, 3), np.float32)), "displacement field")
    refused(save(path, np.zeros((6, 5, 4, 2, 3), np.float32)), "5 dimensions")


@pytest.mark.parametrize(
    ("dim", "words"),
    [
        ((0,), "0 dimensions"),
        ((1, 6), "size is 6."),
        ((3, 6, 0, 4), "size is 6 x 0 x 4"),
        ((3, 6, -5, 4), "size is 6 x -5 x 4"),
        ((3, 6, 1, 1), "single line of voxels"),
        ((9, 6), "9 dimensions"),
    ],
)
def test_files_without_an_image_are_refused(dim, words, tmp_path):
    path = save(tmp_path / "a.nii", numbers((6, 5, 4)))
    header_bytes(path, {"dim": [*dim, *(1,) * (8 - len(dim))]})
    refused(path, words)


def test_integers_beyond_int64_are_refused(tmp_path):
    voxels = numbers((6, 5, 4)).astype(np.uint64)
    voxels[0] = 2**63
    refused(save(tmp_path / "a.nii", voxels), "beyond 2^63")


@pytest.mark.parametrize("ending", [".nii", ".nii.gz", ".mgh", ".mha"])
def test_random_damage_is_read_or_refused_and_never_crashes(ending, tmp_path, capfd):
    generator = np.random.default_rng(5)
    path = tmp_path / f"a{ending}"
    voxels = torch.randint(0, 999, (1, 8, 7, 5), dtype=torch.int16)
    write_image(Image(voxels, space((8, 7, 5)), storage=INT16), path)
    raw = path.read_bytes()
    for _ in range(100):
        damaged = bytearray(raw)
        at = int(generator.integers(0, min(len(raw), 400)))
        damaged[at : at + 4] = generator.bytes(int(generator.integers(0, 5)))
        path.write_bytes(damaged)
        for read in (read_header, read_image):
            with contextlib.suppress(InputError):
                read(path)
    assert capfd.readouterr() == ("", "")
