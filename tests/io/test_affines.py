import re

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from scipy.io import loadmat, savemat

from regcli.errors import InputError, OutputError
from regcli.io.affines import read_affine, write_affine

LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
ENDINGS = (".mat", ".tfm", ".txt")


@pytest.fixture
def matrix():
    out = torch.eye(4, dtype=torch.float64)
    out[:3] += torch.randn(3, 4, generator=torch.Generator().manual_seed(3)).double() / 5
    out[:3, 3] *= 100
    return out


def carried(matrix, point):
    """A LPS point carried by a RAS matrix, in LPS."""
    return (LPS @ matrix.numpy() @ LPS @ np.append(point, 1))[:3]


@pytest.mark.parametrize("ending", ENDINGS)
def test_an_affine_comes_back_as_it_was_written(matrix, tmp_path, ending):
    for centre in (None, torch.tensor([10.0, -20.0, 30.0])):
        write_affine(matrix, tmp_path / f"a{ending}", centre=centre)
        torch.testing.assert_close(read_affine(tmp_path / f"a{ending}"), matrix, atol=1e-9, rtol=0)


@pytest.mark.parametrize("ending", ENDINGS)
def test_itk_carries_points_as_the_matrix_does(matrix, tmp_path, ending):
    write_affine(matrix, tmp_path / f"a{ending}", centre=torch.tensor([1.0, 2.0, 3.0]))
    transform = sitk.ReadTransform(str(tmp_path / f"a{ending}"))
    point = (12.0, -34.0, 56.0)
    np.testing.assert_allclose(transform.TransformPoint(point), carried(matrix, point), atol=1e-9)


def test_the_matlab_file_is_laid_out_as_ants_does(matrix, tmp_path):
    write_affine(matrix, tmp_path / "a.mat", centre=torch.tensor([1.0, 2.0, 3.0]))
    variables = loadmat(tmp_path / "a.mat")
    names = [name for name in variables if not name.startswith("__")]
    assert names == ["AffineTransform_double_3_3", "fixed"]
    assert variables["AffineTransform_double_3_3"].shape == (12, 1)
    np.testing.assert_allclose(variables["fixed"].ravel(), (-1, -2, 3))


def test_an_affine_is_written_to_the_same_bytes_every_time(matrix, tmp_path):
    for name in ("a.mat", "b.mat"):
        write_affine(matrix, tmp_path / name)
    assert (tmp_path / "a.mat").read_bytes() == (tmp_path / "b.mat").read_bytes()


@pytest.mark.parametrize("dtype", ["float", "double"])
@pytest.mark.parametrize("kind", ["AffineTransform", "MatrixOffsetTransformBase"])
def test_affines_of_ants_are_read_in_both_precisions(tmp_path, kind, dtype):
    A = np.eye(3) + np.arange(9).reshape(3, 3) / 50
    t, c = np.array([4.0, -5.0, 6.0]), np.array([7.0, 8.0, -9.0])
    numbers = np.concatenate([A.ravel(), t]).astype("f4" if dtype == "float" else "f8")
    variables = {f"{kind}_{dtype}_3_3": numbers[:, None], "fixed": c[:, None]}
    savemat(tmp_path / "0GenericAffine.mat", variables, format="4")
    lps = np.eye(4)
    lps[:3, :3], lps[:3, 3] = A, t + c - A @ c
    found = read_affine(tmp_path / "0GenericAffine.mat").numpy()
    np.testing.assert_allclose(found, LPS @ lps @ LPS, atol=1e-5)


@pytest.mark.parametrize(
    "transform",
    [
        sitk.Euler3DTransform((1, 2, 3), 0.1, 0.2, 0.3, (4, 5, 6)),
        sitk.VersorRigid3DTransform((0, 0, 1), 0.4, (1, 2, 3), (4, 5, 6)),
        sitk.Similarity3DTransform(1.1, (1, 0, 0), 0.2, (1, 2, 3), (3, 2, 1)),
        sitk.ScaleTransform(3, (1.1, 0.9, 1.2)),
        sitk.ScaleVersor3DTransform((1.1, 0.9, 1.2), (0, 0, 1), 0.4, (1, 2, 3)),
        sitk.TranslationTransform(3, (7, 8, 9)),
        sitk.VersorTransform((0, 1, 0), 0.3),
    ],
    ids=lambda transform: transform.GetName(),
)
@pytest.mark.parametrize("ending", [*ENDINGS, ".h5"])
def test_every_linear_transform_of_itk_becomes_its_matrix(tmp_path, transform, ending):
    path = tmp_path / f"a{ending}"
    sitk.WriteTransform(transform, str(path))
    point = (10.0, -20.0, 30.0)
    expected = transform.TransformPoint(point)
    np.testing.assert_allclose(carried(read_affine(path), point), expected, atol=1e-6)


@pytest.mark.parametrize("ending", [".tfm", ".h5"])
def test_a_chain_of_linear_transforms_becomes_one_matrix(tmp_path, ending):
    parts = [sitk.ScaleTransform(3, (2, 1, 1)), sitk.TranslationTransform(3, (7, 8, 9))]
    chain = sitk.CompositeTransform(parts)
    sitk.WriteTransform(chain, str(tmp_path / f"c{ending}"))
    expected = chain.TransformPoint((1.0, 2.0, 3.0))
    found = carried(read_affine(tmp_path / f"c{ending}"), (1, 2, 3))
    np.testing.assert_allclose(found, expected, atol=1e-9)


def test_a_2d_affine_leaves_the_third_axis_alone(tmp_path):
    sitk.WriteTransform(sitk.Euler2DTransform((1, 2), 0.5, (3, 4)), str(tmp_path / "a.tfm"))
    found = read_affine(tmp_path / "a.tfm")
    expected = sitk.ReadTransform(str(tmp_path / "a.tfm")).TransformPoint((5.0, 6.0))
    np.testing.assert_allclose(carried(found, (5, 6, 7)), (*expected, 7), atol=1e-9)


@pytest.mark.parametrize("ending", [".mat", ".txt"])
def test_a_plain_matrix_is_ras(matrix, tmp_path, ending):
    np.savetxt(tmp_path / f"greedy{ending}", matrix.numpy(), fmt="%.17g")
    torch.testing.assert_close(read_affine(tmp_path / f"greedy{ending}"), matrix, atol=0, rtol=0)


def test_a_matrix_of_flirt_is_refused(matrix, tmp_path):
    rows = ("".join(f"{value:.10g}  " for value in row) for row in matrix.tolist())
    (tmp_path / "flirt.mat").write_text("\n".join(rows) + "\n")
    with pytest.raises(InputError, match="flirt") as caught:
        read_affine(tmp_path / "flirt.mat")
    assert "c3d_affine_tool" in caught.value.remedy


@pytest.mark.parametrize(
    ("name", "content", "cause"),
    [
        ("missing.mat", None, "does not exist"),
        ("missing.h5", None, "does not exist"),
        ("empty.txt", b"", "empty"),
        ("noise.mat", b"\x07" * 40, "cannot be read"),
        ("noise.tfm", b"hello", "cannot be read"),
        ("noise.h5", b"hello", "not an HDF5 file"),
        ("image.png", b"hello", "no transform file"),
        ("transposed.txt", b"1 0 0 0\n0 1 0 0\n0 0 1 0\n5 6 7 1\n", "last row"),
        ("flat.txt", b"1 0 0 0\n0 1 0 0\n0 0 0 0\n0 0 0 1\n", "singular"),
        ("nan.txt", b"1 0 0 nan\n0 1 0 0\n0 0 1 0\n0 0 0 1\n", "not finite"),
    ],
)
def test_an_unusable_file_is_an_input_error(tmp_path, name, content, cause):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=cause):
        read_affine(tmp_path / name)


def test_a_deformable_transform_is_not_an_affine(tmp_path):
    sitk.WriteTransform(sitk.BSplineTransform(3), str(tmp_path / "spline.tfm"))
    with pytest.raises(InputError, match="BSplineTransform, which is not linear"):
        read_affine(tmp_path / "spline.tfm")


@pytest.mark.parametrize("name", ["a.csv", "a", "none/a.mat"])
def test_an_affine_that_cannot_be_written_is_an_output_error(matrix, tmp_path, name):
    with pytest.raises(OutputError, match=re.escape(name)):
        write_affine(matrix, tmp_path / name)
