"""MetaImage files of every kind equal ITK's reading of them."""

import re

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from imagefiles import INT16, itk_affine, numbers, refused, space

from regcli.errors import InputError
from regcli.image import Image
from regcli.io.images import read_image, write_image


def test_metaimages_of_every_kind_equal_itks(grid, tmp_path):
    shape, affine = grid
    path, other = tmp_path / "a.mha", tmp_path / "b.mha"
    image = Image(torch.from_numpy(numbers(shape))[None], space(shape, affine), storage=INT16)
    write_image(image, path)
    flat = sitk.ReadImage(str(path))
    sitk.WriteImage(flat, str(other))
    raw = other.read_bytes()
    head, body = raw[: -2 * image.data.numel()], raw[-2 * image.data.numel() :]
    swapped = head.replace(b"MSB = False", b"MSB = True")
    text = head.replace(b"BinaryData = True", b"BinaryData = False")
    legacy = head.replace(b"TransformMatrix", b"Orientation").replace(b"Offset", b"Position")
    for content in (
        raw,
        swapped + np.frombuffer(body, "<i2").astype(">i2").tobytes(),
        text + "".join(f"{v} " for v in np.frombuffer(body, "<i2")).encode(),
        legacy + body,
    ):
        other.write_bytes(content)
        oracle, ours = sitk.ReadImage(str(other)), read_image(other).image
        assert np.array_equal(ours.data[0], sitk.GetArrayFromImage(oracle).T)
        np.testing.assert_allclose(ours.space.affine, itk_affine(oracle), atol=1e-12)


def test_a_metaimage_in_many_files_is_refused(tmp_path):
    path = tmp_path / "a.mhd"
    sitk.WriteImage(sitk.GetImageFromArray(numbers((4, 5, 6))), str(path))
    text = path.read_text()
    for name in ("LIST", "slice%03d.raw 1 4 1"):
        path.write_text(text.replace("a.raw", name))
        refused(path, "separate files")
    path.write_text(text.replace("ElementDataFile", "HeaderSize = -1\nElementDataFile"))
    raw = (tmp_path / "a.raw").read_bytes()
    (tmp_path / "a.raw").write_bytes(b"some header" + raw)
    assert np.array_equal(read_image(path).image.data[0], numbers((4, 5, 6)).T)


def test_a_damaged_compressed_metaimage_is_refused(tmp_path, capfd):
    path = tmp_path / "a.mha"
    voxels = torch.randint(0, 999, (1, 20, 20, 20), dtype=torch.int16)
    write_image(Image(voxels, space((20, 20, 20)), storage=INT16), path)
    raw = bytearray(path.read_bytes())
    raw[-3000:-2900] = b"U" * 100  # ITK would return what it has, and noise
    path.write_bytes(raw)
    refused(path, "damaged")
    sitk.WriteImage(sitk.GetImageFromArray(voxels[0].numpy()), str(path))
    path.write_bytes(path.read_bytes()[:-1])
    refused(path, "15999 of 16000 bytes")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("line", ["nan 1 1", "0 1 1", "1 1 -2"])
def test_impossible_metaimage_voxel_sizes_are_refused(line, tmp_path, capfd):
    path = tmp_path / "a.mha"
    sitk.WriteImage(sitk.GetImageFromArray(numbers((4, 5, 6))), str(path))
    raw = path.read_bytes()
    path.write_bytes(raw.replace(b"Spacing = 1 1 1", f"Spacing = {line}".encode()))
    refused(path, "voxel size")
    for key in (b"DimSize = 6 5 4", b"ElementType = MET_SHORT", b"Offset = 0 0 0"):
        for wrong in (b"= x", b"= -6 5", b"="):
            path.write_bytes(raw.replace(key, key.partition(b"=")[0] + wrong))
            with pytest.raises(InputError, match=re.escape(path.name)):
                read_image(path)
    assert capfd.readouterr() == ("", "")
