"""Points read and written again."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from regcli.errors import InputError, OutputError, RecipeError
from regcli.image import Space
from regcli.io.points import Points, read_points, write_points

FCSV = """# Markups fiducial file version = 4.11
# CoordinateSystem = {}
# columns = id,x,y,z,ow,ox,oy,oz,vis,sel,lock,label,desc,associatedNodeID
vtkMRMLMarkupsFiducialNode_0,1.5,-2.25,3.0,0,0,0,1,1,1,0,left ear,,
vtkMRMLMarkupsFiducialNode_1,4.0,5.0,6.125,0,0,0,1,1,1,0,"nose, tip",,
"""


def file(tmp_path: Path, text: str, name: str = "a.csv") -> Path:
    path = tmp_path / name
    path.write_text(text)
    return path


@pytest.fixture
def grid() -> Space:
    affine = torch.tensor(
        [[-0.8, 0.3, 0, 10], [0.1, 1.2, 0.2, -20], [0, 0, 3, 5], [0, 0, 0, 1]],
        dtype=torch.float64,
    )
    return Space((10, 11, 12), affine)


def test_named_columns_are_found_in_any_case_and_order(tmp_path):
    path = file(tmp_path, "Name, Z ,y,X\nnose,3,2,1\near,6,5,4\n")
    points = read_points(path)
    assert points.world.tolist() == [[1, 2, 3], [4, 5, 6]]
    assert points.world.dtype == torch.float64
    assert points.names == ("nose", "ear")


def test_a_file_without_names_has_x_y_z_first(tmp_path):
    points = read_points(file(tmp_path, "1,2,3,first\n4,5,6e-1,second\n\n"))
    assert points.world.tolist() == [[1, 2, 3], [4, 5, 0.6]]
    assert points.names == ("", "")


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("space", ["ras", "lps", "voxel"])
def test_a_round_trip_returns_the_same_text(delimiter, space, grid, tmp_path):
    text = "name,x,y,z,note\nnose,1.5,-2.25,3.0,wide\near,4.125,5.0,0.1,\n".replace(",", delimiter)
    points = read_points(file(tmp_path, text), space, grid)
    write_points(points, tmp_path / "b.csv", grid)
    assert (tmp_path / "b.csv").read_text() == text


def test_lps_points_have_x_and_y_negated(tmp_path):
    points = read_points(file(tmp_path, "x,y,z\n1,2,3\n"), "lps")
    assert points.world.tolist() == [[-1, -2, 3]]


def test_voxel_points_go_through_the_grid(grid, tmp_path):
    points = read_points(file(tmp_path, "x,y,z\n1,2,3\n"), "voxel", grid)
    assert torch.equal(points.world, grid.voxel_to_world(torch.tensor([[1.0, 2, 3]])))
    with pytest.raises(RecipeError, match="need an image"):
        read_points(file(tmp_path, "x,y,z\n1,2,3\n"), "voxel")


def test_moved_points_keep_their_other_columns(tmp_path):
    points = read_points(file(tmp_path, "x,y,z,name\n1,2,3,nose\n"), "lps")
    write_points(replace(points, world=points.world + 10), tmp_path / "b.csv")
    assert (tmp_path / "b.csv").read_text() == "x,y,z,name\n-9.0,-8.0,13.0,nose\n"


def test_points_from_nowhere_are_written_as_x_y_z(tmp_path):
    write_points(Points(torch.tensor([[1.0, -0.0, 1 / 3]])), tmp_path / "b.csv")
    assert (tmp_path / "b.csv").read_text() == "x,y,z\n1.0,0.0,0.333333343\n"


@pytest.mark.parametrize(
    ("system", "sign"), [("RAS", 1), ("0", 1), ("LPS", -1), ("1", -1), ("lps", -1)]
)
def test_fcsv_says_its_own_space_and_is_written_in_it(system, sign, tmp_path):
    path = file(tmp_path, FCSV.format(system), "a.fcsv")
    points = read_points(path, "voxel")
    expected = torch.tensor([[sign * 1.5, sign * -2.25, 3], [sign * 4, sign * 5, 6.125]])
    assert torch.equal(points.world, expected.to(torch.float64))
    assert points.names == ("left ear", "nose, tip")
    write_points(points, tmp_path / "b.fcsv")
    assert (tmp_path / "b.fcsv").read_text() == path.read_text()


def test_old_fcsv_without_a_space_is_ras(tmp_path):
    text = FCSV.replace("# CoordinateSystem = {}\n", "")
    assert read_points(file(tmp_path, text, "a.fcsv")).world[0].tolist() == [1.5, -2.25, 3]


def test_the_ending_must_fit_the_format(tmp_path):
    points = read_points(file(tmp_path, "1,2,3\n"))
    with pytest.raises(OutputError, match="the points are CSV"):
        write_points(points, tmp_path / "b.fcsv")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x,y,z\n1,2,3\n\n4,five,6\n", "row 4: 'five'"),
        ("x,y,z\n1,2,3\n4,5\n", "row 3: only 2 columns"),
        ("1,2,3\n4,nan,6\n", "row 2: 'nan'"),
        ("1,2,3\n4,inf,6\n", "row 2: 'inf'"),
        ("a,b,c\n1,2,3\n", "row 1: no columns x, y, z"),
        ("1,2\n3,4\n", "row 1: no columns x, y, z"),
        ("x,y,z\n", "no points"),
        ("\n\n", "no points"),
        ("x,y,z\n1,2,\0\n", "not a text file"),
    ],
)
def test_bad_rows_are_named(text, words, tmp_path):
    path = file(tmp_path, text)
    with pytest.raises(InputError) as caught:
        read_points(path)
    assert words in caught.value.cause
    assert str(path) in caught.value.cause
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (FCSV.format("IJK"), "CoordinateSystem"),
        (FCSV.format("2"), "CoordinateSystem"),
        (FCSV.format("RAS").replace("6.125", "six"), "row 5: 'six'"),
        ("# CoordinateSystem = RAS\n", "no points"),
    ],
)
def test_bad_fcsv_files_are_refused(text, words, tmp_path):
    with pytest.raises(InputError) as caught:
        read_points(file(tmp_path, text, "a.fcsv"))
    assert words in caught.value.cause


def test_missing_empty_and_binary_files_are_refused(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        read_points(tmp_path / "a.csv")
    with pytest.raises(InputError, match="is empty"):
        read_points(file(tmp_path, ""))
    (tmp_path / "a.csv").write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(InputError, match="not a text file"):
        read_points(tmp_path / "a.csv")


def test_a_byte_order_mark_is_no_part_of_the_first_name(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(b"\xef\xbb\xbfx,y,z\r\n1,2,3\r\n")
    assert read_points(path).world.tolist() == [[1, 2, 3]]
