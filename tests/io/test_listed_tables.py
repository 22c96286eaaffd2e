"""Tables as cases to train on."""

from pathlib import Path

import pytest
from caselists import fill, names, refused, shown

from regcli.io.cases import Cohort, read_cohort
from regcli.io.listings import Case


def table(folder: Path, text: str, name: str = "data.csv") -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_a_table_says_what_belongs_together(tmp_path):
    fill(tmp_path, "a.nii", "b.nii", "seg/x.nii", "p.csv", "far off/m, 1.nii")
    path = table(
        tmp_path / "lists",
        "image,labels,points,mask,split,name\n"
        '../b.nii,../seg/x.nii,../p.csv,"../far off/m, 1.nii",training,second\n'
        f"{tmp_path / 'a.nii'},,,,validation,\n",
    )
    assert read_cohort(path) == Cohort(
        (
            Case(
                "second",
                tmp_path / "lists/../b.nii",
                tmp_path / "lists/../seg/x.nii",
                tmp_path / "lists/../p.csv",
                tmp_path / "lists/../far off/m, 1.nii",
            ),
        ),
        (Case("a", tmp_path / "a.nii"),),
        (),
    )


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_columns_may_come_in_any_order_case_and_number(delimiter, tmp_path):
    fill(tmp_path, "a.nii", "b.nii", "a_seg.nii")
    text = "\ufeff\n Label ,age,IMAGE\n\na_seg.nii,70, a.nii \n,81,b.nii\n,,\n"
    path = table(tmp_path, text.replace(",", delimiter), "data.TSV")
    assert shown(read_cohort(path), tmp_path) == {
        "a": ["a.nii", "a_seg.nii", None, None],
        "b": ["b.nii", None, None, None],
    }


def test_a_table_of_label_maps_alone_is_understood(tmp_path):
    fill(tmp_path, "a.nii", "b.nii")
    path = table(tmp_path, "labels\na.nii\nb.nii\n")
    cohort = read_cohort(path, labels_only=True)
    assert cohort.training == (
        Case("a", None, tmp_path / "a.nii"),
        Case("b", None, tmp_path / "b.nii"),
    )
    refused(path, "2 of 2 cases lack images")


def test_a_table_without_split_holds_out_the_last_tenth(tmp_path):
    rows = [f"s{n}.nii" for n in range(5)]
    fill(tmp_path, *rows)
    plain = table(tmp_path, "\n".join(["image", *reversed(rows)]))
    empty = table(tmp_path, "\n".join(["image,split", *(f"{row}," for row in rows)]), "b.csv")
    assert names(read_cohort(plain).validation) == names(read_cohort(empty).validation) == ["s4"]


def test_a_split_decides_and_an_empty_cell_is_for_training(tmp_path):
    fill(tmp_path, *(f"s{n}.nii" for n in range(4)))
    path = table(tmp_path, "image,split\ns0.nii,Validation\ns1.nii,\ns2.nii\ns3.nii,training\n")
    assert names(read_cohort(path).validation) == ["s0"]
    assert names(read_cohort(path, validation=("s3",)).validation) == ["s3"]
    trained = table(tmp_path, "image,split\ns0.nii,training\ns1.nii,\ns2.nii,\n", "b.csv")
    assert read_cohort(trained).validation == ()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("\n\n", "no column image or labels"),
        ("a.nii\nb.nii\n", "no column image or labels"),
        ("file,mask\na.nii,b.nii\n", "no column image or labels"),
        ("image,Images\na.nii,b.nii\n", "two columns for image"),
        ("image,name\na.nii,x\nb.nii,x\n", "two cases x"),
        ("image\nsub/a.nii\na.nii\n", "two cases a"),
        ("image,split\na.nii,test\n", "row 2: 'test' is no split"),
        ("image,labels,name\n\n,,x\n", "row 3: no image and no labels"),
        ("image,labels\na.nii,b.nii,extra\n", "row 2: 3 cells"),
        ("image\na.nii\ngone.nii\n", "gone.nii does not exist"),
        ("image,labels\na.nii,gone.nii\n", "gone.nii does not exist"),
        ("image,points\na.nii,sub\n", "sub is a folder"),
        ("image,mask\na.nii,gone.nii\n", "gone.nii does not exist"),
        ("image\n", "holds no images"),
        ("image,split\na.nii,validation\n", "no case to train on"),
        ("image\na\0.nii\n", "is not a text file"),
        ("image\n" + 140_000 * "a", "row 2: field larger"),
    ],
)
def test_a_table_that_cannot_be_used_is_refused(text, words, tmp_path):
    fill(tmp_path, "a.nii", "b.nii", "sub/a.nii")
    refused(table(tmp_path, text), words)


def test_a_table_that_is_no_text_is_refused(tmp_path):
    path = tmp_path / "data.csv"
    path.write_bytes(b"image\n\xff\xfe\n")
    refused(path, "is not a text file")
    path.write_bytes(b"")
    refused(path, "is empty")
