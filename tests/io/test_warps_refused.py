"""What files of maps say of themselves, and which are refused."""

import json
import re

import numpy as np
import pytest
import SimpleITK as sitk
from warpfiles import make_warp, write_all

from regcli.errors import InputError, OutputError
from regcli.io import warps


def test_files_are_described_in_json(space, tmp_path):
    warp = make_warp(space)
    write_all(warp, tmp_path)
    kinds = {}
    for path in tmp_path.iterdir():
        facts = json.loads(json.dumps(warps.describe_transform(path)))
        assert (facts["space"], facts["units"]) == ("LPS", "mm")
        kinds[path.name] = [facts["kind"], *(part["kind"] for part in facts["parts"])]
    field, affine = "displacement field", "affine"
    assert kinds == {
        "warp.nii.gz": [field, field],
        "inverse_warp.nii.gz": [field, field],
        "affine.mat": [affine, affine],
        "composite.h5": ["composite", field, affine],
        "inverse_composite.h5": ["composite", affine, field],
    }
    part = warps.describe_transform(tmp_path / "warp.nii.gz")["parts"][0]
    longest = float(warp.displacement[0].norm(dim=0).max())
    assert part["max_displacement_mm"] == pytest.approx(longest, abs=1e-5)
    assert part["grid"]["shape"] == list(space.shape)
    assert part["grid"]["codes"] == space.codes


def test_a_plain_matrix_is_described_as_ras(tmp_path):
    np.savetxt(tmp_path / "a.txt", np.diag([1, 2, 3, 1]), fmt="%g")
    facts = warps.describe_transform(tmp_path / "a.txt")
    assert (facts["space"], facts["parts"][0]["matrix_ras"][1]) == ("RAS", [0, 2, 0, 0])


def test_a_displacement_cannot_be_inverted_on_reading(space, tmp_path):
    write_all(make_warp(space), tmp_path)
    for name in ("warp.nii.gz", "composite.h5"):
        with pytest.raises(InputError, match="cannot be inverted"):
            warps.read_warp([(tmp_path / name, True)])


@pytest.mark.parametrize("name", ["x.h5", "x.mat", "x.nii.gz", "x.tfm", "x.png"])
@pytest.mark.parametrize("content", [None, b"", b"hello", b"\x89HDF\r\n\x1a\n" + b"\0" * 200])
def test_a_missing_or_damaged_file_is_an_input_error(tmp_path, name, content):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=re.escape(name)):
        warps.read_warp(tmp_path / name)
    with pytest.raises(InputError, match=re.escape(name)):
        warps.describe_transform(tmp_path / name)


def test_a_composite_cut_short_is_an_input_error(space, tmp_path):
    path = tmp_path / "c.h5"
    warps.write_composite(make_warp(space), path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(InputError, match=r"c\.h5"):
        warps.read_warp(path)


def test_splines_are_refused_with_a_remedy(tmp_path):
    parts = [sitk.AffineTransform(3), sitk.BSplineTransform(3)]
    sitk.WriteTransform(sitk.CompositeTransform(parts), str(tmp_path / "c.h5"))
    with pytest.raises(InputError, match="BSplineTransform") as caught:
        warps.read_warp(tmp_path / "c.h5")
    assert "displacement field" in caught.value.remedy


@pytest.mark.parametrize("name", ["c.nii.gz", "c.tfm", "c", "none/c.h5"])
def test_a_composite_that_cannot_be_written_is_an_output_error(space, tmp_path, name):
    with pytest.raises(OutputError, match=re.escape(name)):
        warps.write_composite(make_warp(space), tmp_path / name)
