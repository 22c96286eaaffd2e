import re
from pathlib import Path

import pytest

from regcli.batch.table import COLUMNS, read_table
from regcli.errors import InputError, RecipeError


def _table(folder, text):
    path = folder / "pairs.csv"
    path.write_bytes(text.encode())
    return path


@pytest.mark.parametrize("mark", [",", ";", "\t"])
def test_paths_are_relative_to_the_table_and_results_have_names(tmp_path, mark):
    head = "\ufeffFixed,moving , out,moving_labels"
    text = "\r\n".join([head, "a.nii.gz,/b/c.d.mgz,,", "", "a/f.nii,g.nii,x,l.nii", ""])
    first, second = read_table(_table(tmp_path, text.replace(",", mark)))
    assert first.files == {"fixed": tmp_path / "a.nii.gz", "moving": Path("/b/c.d.mgz")}
    assert (first.number, first.out) == (1, "c.d_to_a")
    assert second.files["moving_labels"] == tmp_path / "l.nii"
    assert (second.number, second.out) == (2, "x")


def test_every_column_of_the_interface_is_known(tmp_path):
    row = read_table(_table(tmp_path, ",".join(COLUMNS) + "\n" + ",".join(COLUMNS)))[0]
    assert row.files == {name: tmp_path / name for name in COLUMNS if name != "out"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "empty"),
        ("\n \n", "fixed"),
        ("moving\na", "'fixed'"),
        ("a.nii,b.nii\nc.nii,d.nii", "'a.nii'"),
        ("fixed,moving,fixed\na,b,c", "two columns 'fixed'"),
        ("fixed,moving,lables\na,b,c", "'lables'"),
        ("fixed,moving", "no rows"),
        ('fixed,moving\n"f.nii,m.nii\n', "line 2"),
    ],
)
def test_a_table_that_is_none_is_refused(tmp_path, text, words):
    with pytest.raises(RecipeError, match=words):
        read_table(_table(tmp_path, text))


def test_a_file_that_is_no_text_is_refused(tmp_path):
    for path in (tmp_path / "nothing.csv", tmp_path, _table(tmp_path, "\0\1")):
        with pytest.raises(InputError, match=re.escape(str(path))):
            read_table(path)


def test_a_row_that_lacks_an_image_or_has_too_many_cells_is_named(tmp_path):
    rows = read_table(_table(tmp_path, "fixed,moving\n,m.nii\nf.nii,\na,b,c\nf,m\n"))
    assert [bool(row.problem) for row in rows] == [True, True, True, False]
    assert "'fixed' in row 1" in rows[0].problem
    assert "'moving' in row 2" in rows[1].problem
    assert "3 cells" in rows[2].problem
    assert len({row.out for row in rows}) == 4
