"""Folders, tables and Learn2Reg files as cases to train on."""

import json
from dataclasses import astuple
from pathlib import Path

import numpy as np
import pytest
from imagefiles import numbers, save

from regcli.errors import InputError, RecipeError
from regcli.io import nifti
from regcli.io.cases import PAIR_LIMIT, Cohort, read_cohort
from regcli.io.listings import IMAGES, Case
from regcli.io.nifti import read_image
from regcli.io.points import read_points


def fill(folder: Path, *names: str) -> Path:
    """Files that are there; what they hold is not looked at."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"something")
    return folder


def shown(cohort: Cohort, folder: Path) -> dict[str, list[str | None]]:
    """Image, labels, points and mask by name of case, relative to a folder."""
    everyone = (*cohort.training, *cohort.validation)
    files = {case.name: astuple(case)[1:] for case in everyone}
    return {
        name: [path and path.relative_to(folder).as_posix() for path in paths]
        for name, paths in files.items()
    }


def names(some: tuple[Case, ...]) -> list[str]:
    return [case.name for case in some]


def refused(data: Path, *words: str, validation=(), labels_only=False) -> InputError:
    """The one-line error, which holds the words, that reading must end in."""
    with pytest.raises(InputError) as caught:
        read_cohort(data, validation=validation, labels_only=labels_only)
    for word in words:
        assert word in caught.value.cause, caught.value.cause
    assert caught.value.remedy
    assert "\n" not in caught.value.cause + caught.value.remedy
    return caught.value


# Folders


@pytest.mark.parametrize("start", [".", "images", "labels"])
def test_folders_beside_each_other_belong_together_wherever_one_starts(start, tmp_path):
    fill(tmp_path, "images/a.nii.gz", "images/b.nii.gz", "labels/a.nii.gz", "labels/b.nii.gz")
    fill(tmp_path, "points/b.csv", "masks/a.nii.gz")
    assert shown(read_cohort(tmp_path / start), tmp_path) == {
        "a": ["images/a.nii.gz", "labels/a.nii.gz", None, "masks/a.nii.gz"],
        "b": ["images/b.nii.gz", "labels/b.nii.gz", "points/b.csv", None],
    }


def test_the_folders_of_learn2reg_are_understood_without_its_json(tmp_path):
    for kind, ending in (("images", "nii.gz"), ("labels", "nii.gz"), ("keypoints", "csv")):
        fill(tmp_path, *(f"{kind}Tr/OASIS_000{n}_0000.{ending}" for n in (1, 2)))
    fill(tmp_path, "imagesTs/OASIS_0003_0000.nii.gz", "masksTr/OASIS_0001_0000.nii.gz")
    found = shown(read_cohort(tmp_path), tmp_path)
    assert list(found) == ["OASIS_0001_0000", "OASIS_0002_0000"]
    assert found["OASIS_0002_0000"] == [
        "imagesTr/OASIS_0002_0000.nii.gz",
        "labelsTr/OASIS_0002_0000.nii.gz",
        "keypointsTr/OASIS_0002_0000.csv",
        None,
    ]


def test_folders_may_lie_inside_the_folder_of_images(tmp_path):
    fill(tmp_path, "a.nii", "b.nii", "Segs/a.mha", "landmarks/b.fcsv")
    assert shown(read_cohort(tmp_path), tmp_path) == {
        "a": ["a.nii", "Segs/a.mha", None, None],
        "b": ["b.nii", None, "landmarks/b.fcsv", None],
    }


def test_files_of_one_folder_are_told_apart_by_their_last_word(tmp_path):
    fill(tmp_path, "sub-01_T1w.nii.gz", "sub-01_dseg.nii.gz", "sub-01_desc-brain_mask.nii.gz")
    fill(tmp_path, "sub-02_desc-preproc_T1w.nii.gz", "sub-02_T1w_seg.nii.gz")
    fill(tmp_path, "sub-02_keypoints.csv", "sub-02_T1w.json", "participants.csv", "notes.txt")
    fill(tmp_path, "atlas_img.nii.gz", "atlas_labels.nii.gz", "plain.nrrd")
    assert shown(read_cohort(tmp_path), tmp_path) == {
        "atlas_img": ["atlas_img.nii.gz", "atlas_labels.nii.gz", None, None],
        "plain": ["plain.nrrd", None, None, None],
        "sub-01_T1w": [
            "sub-01_T1w.nii.gz",
            "sub-01_dseg.nii.gz",
            None,
            "sub-01_desc-brain_mask.nii.gz",
        ],
        "sub-02_desc-preproc_T1w": [
            "sub-02_desc-preproc_T1w.nii.gz",
            "sub-02_T1w_seg.nii.gz",
            "sub-02_keypoints.csv",
            None,
        ],
    }


def test_a_name_that_agrees_wholly_goes_before_one_that_agrees_partly(tmp_path):
    fill(tmp_path, "images/a.nii", "images/a_0000.nii", "labels/a.nii", "labels/a_0000.nii")
    found = shown(read_cohort(tmp_path), tmp_path)
    assert found["a"][1] == "labels/a.nii"
    assert found["a_0000"][1] == "labels/a_0000.nii"


def test_an_image_may_name_its_channel_where_its_labels_do_not(tmp_path):
    fill(tmp_path, "imagesTr/BRATS_001_0000.nii.gz", "imagesTr/BRATS_002_0000.nii.gz")
    fill(tmp_path, "labelsTr/BRATS_001.nii.gz", "labelsTr/BRATS_002.nii.gz")
    found = shown(read_cohort(tmp_path), tmp_path)
    assert [files[1] for files in found.values()] == [
        "labelsTr/BRATS_001.nii.gz",
        "labelsTr/BRATS_002.nii.gz",
    ]


def test_case_does_not_matter_in_endings_folders_and_last_words(tmp_path):
    fill(tmp_path, "Images/A_T1w.NII.GZ", "Images/A_DSEG.Nii", "Images/b.MGZ", "KeyPointsTR/b.CSV")
    assert shown(read_cohort(tmp_path), tmp_path) == {
        "A_T1w": ["Images/A_T1w.NII.GZ", "Images/A_DSEG.Nii", None, None],
        "b": ["Images/b.MGZ", None, "KeyPointsTR/b.CSV", None],
    }


def test_every_image_that_can_be_read_is_found(tmp_path):
    assert set(IMAGES) == set(nifti._READABLE)
    fill(tmp_path, *(f"image{ending[1:]}{ending}" for ending in IMAGES))
    assert len(names(read_cohort(tmp_path, share=0).training)) == len(IMAGES)


def test_the_folder_goes_before_the_last_word(tmp_path):
    fill(tmp_path, "images/a.nii", "labels/a_mask.nii", "masks")
    assert shown(read_cohort(tmp_path), tmp_path)["a"] == [
        "images/a.nii",
        "labels/a_mask.nii",
        None,
        None,
    ]


def test_hidden_files_are_not_seen(tmp_path):
    fill(tmp_path, "images/a.nii.gz", "images/._a.nii.gz", "images/.DS_Store")
    fill(tmp_path, "._x_dataset.json", ".labels/a.nii.gz")
    assert names(read_cohort(tmp_path).training) == ["a"]


def test_links_and_spaces_are_followed_but_not_resolved(tmp_path):
    store = fill(tmp_path / "my store", "x 1.nii.gz", "y 1.nii.gz")
    data = tmp_path / "my data"
    for folder, target in (("images", "x 1.nii.gz"), ("labels", "y 1.nii.gz")):
        (data / folder).mkdir(parents=True)
        (data / folder / "case 1.nii.gz").symlink_to(store / target)
    link = tmp_path / "link"
    link.symlink_to(data, target_is_directory=True)
    assert read_cohort(link).training == (
        Case("case 1", link / "images/case 1.nii.gz", link / "labels/case 1.nii.gz"),
    )


def test_a_relative_folder_is_understood(tmp_path, monkeypatch):
    fill(tmp_path, "images/a.nii", "labels/a.nii")
    monkeypatch.chdir(tmp_path / "images")
    assert shown(read_cohort(Path()), tmp_path)["a"][1] == "labels/a.nii"


def test_cases_name_files_that_can_be_read(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "labels").mkdir()
    save(tmp_path / "images/a.nii.gz", numbers((6, 5, 4)))
    save(tmp_path / "labels/a.nii.gz", np.arange(120, dtype=np.int16).reshape(6, 5, 4) % 3)
    fill(tmp_path, "points/a.csv").joinpath("points/a.csv").write_text("x,y,z\n1,2,3\n")
    (case,) = read_cohort(tmp_path).training
    assert case.image and case.labels and case.points
    assert read_image(case.image).image.data.shape == (1, 6, 5, 4)
    assert read_image(case.labels, labels=True).image.data.unique().tolist() == [0, 1, 2]
    assert read_points(case.points).world.tolist() == [[1, 2, 3]]


def test_labels_of_images_that_were_taken_away_do_no_harm(tmp_path):
    fill(tmp_path, "images/a.nii", "labels/a.nii", "labels/b.nii", "images/c.nii", "labels/c.nii")
    assert names(read_cohort(tmp_path).training) == ["a", "c"]


def test_images_without_labels_are_cases_too(tmp_path):
    fill(tmp_path, "images/a.nii", "images/b.nii", "labels/a.nii")
    assert [case.labels is None for case in read_cohort(tmp_path).training] == [False, True]


# Label maps alone


@pytest.mark.parametrize("start", ["maps", ".", "labels", "segs"])
def test_a_folder_of_label_maps_alone_is_understood(start, tmp_path):
    folder = tmp_path / start if start != "." else tmp_path / "labels"
    fill(folder, "s01.nii.gz", "s02.nii.gz")
    cohort = read_cohort(tmp_path / start, labels_only=True)
    assert cohort.training == tuple(
        Case(name, None, folder / f"{name}.nii.gz") for name in ("s01", "s02")
    )


def test_label_maps_alone_may_carry_their_word_and_masks(tmp_path):
    fill(tmp_path, "sub-01_dseg.nii.gz", "sub-02_dseg.nii.gz", "sub-02_mask.nii.gz")
    assert shown(read_cohort(tmp_path, labels_only=True), tmp_path) == {
        "sub-01_dseg": [None, "sub-01_dseg.nii.gz", None, None],
        "sub-02_dseg": [None, "sub-02_dseg.nii.gz", None, "sub-02_mask.nii.gz"],
    }


def test_images_come_along_with_label_maps(tmp_path):
    fill(tmp_path, "images/a.nii", "labels/a.nii", "labels/b.nii")
    assert shown(read_cohort(tmp_path, labels_only=True), tmp_path) == {
        "a": ["images/a.nii", "labels/a.nii", None, None],
        "b": [None, "labels/b.nii", None, None],
    }


@pytest.mark.parametrize("start", ["images", "."])
def test_images_without_labels_are_refused_if_only_labels_count(start, tmp_path):
    fill(tmp_path, "images/a.nii", "images/b.nii", "labels/a.nii")
    refused(tmp_path / start, "1 of 2 cases lack label maps, b", labels_only=True)
    (tmp_path / "labels/a.nii").unlink()
    refused(tmp_path / start, "2 of 2 cases lack label maps, a", labels_only=True)


# Folders that are refused


def test_what_is_not_there_or_empty_is_refused(tmp_path):
    refused(tmp_path / "nowhere", "nowhere does not exist")
    refused(tmp_path / "nowhere.csv", "nowhere.csv does not exist")
    refused(tmp_path / "nowhere.json", "nowhere.json does not exist")
    refused(tmp_path, "holds no images (.nii")
    refused(tmp_path, "holds no label maps", labels_only=True)
    fill(tmp_path, "labels/a.nii", "sub-01/anat/sub-01_T1w.nii.gz")
    refused(tmp_path, "holds no images")
    assert "--synth" in refused(tmp_path / "labels", "holds no images").remedy
    refused(fill(tmp_path, "a.xlsx") / "a.xlsx", "does not list images")


def test_a_broken_link_an_empty_file_and_a_folder_are_named(tmp_path):
    path = fill(tmp_path, "images/a.nii.gz") / "images/b.nii.gz"
    path.symlink_to(tmp_path / "gone.nii.gz")
    refused(tmp_path, str(path), "does not exist")
    path.unlink()
    path.touch()
    refused(tmp_path, str(path), "is empty")
    path.unlink()
    path.mkdir()
    refused(tmp_path, str(path), "is a folder")


def test_a_folder_that_cannot_be_listed_is_refused(tmp_path, monkeypatch):
    def denied(self: Path) -> None:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "iterdir", denied)  # chmod does not stop root
    refused(tmp_path, "cannot be listed: Permission denied")


@pytest.mark.parametrize("kind", ["labels", "masks", "points"])
def test_names_that_do_not_agree_are_refused(kind, tmp_path):
    ending = "csv" if kind == "points" else "nii"
    fill(
        tmp_path, "images/s01.nii", "images/s02.nii", f"{kind}/s01.{ending}", f"{kind}/s2.{ending}"
    )
    refused(tmp_path, f"s2.{ending} is of no image", f"s02.nii has no {kind.rstrip('s')[:4]}")


def test_what_may_belong_to_two_is_refused(tmp_path):
    fill(tmp_path, "sub-01_T1w.nii", "sub-01_T2w.nii", "sub-01_dseg.nii")
    refused(tmp_path, "sub-01_dseg.nii may be of", "sub-01_T1w.nii", "sub-01_T2w.nii")


def test_two_that_may_belong_to_one_are_refused(tmp_path):
    fill(tmp_path, "sub-01_T1w.nii", "sub-01_dseg.nii", "sub-01_desc-aseg_dseg.nii")
    refused(tmp_path, "sub-01_dseg.nii", "sub-01_desc-aseg_dseg.nii", "may be of sub-01_T1w.nii")


def test_two_folders_for_the_same_are_refused(tmp_path):
    fill(tmp_path, "images/a.nii", "imagesTr/b.nii")
    refused(tmp_path, "images and", "imagesTr may both hold the image")
    assert names(read_cohort(tmp_path / "imagesTr").training) == ["b"]


def test_a_last_word_alone_is_no_name(tmp_path):
    refused(fill(tmp_path, "a.nii", "seg.nii"), "seg.nii is of no image")


def test_labels_in_another_space_are_not_taken(tmp_path):
    fill(tmp_path, "sub-01_T1w.nii", "sub-01_space-MNI152_dseg.nii")
    refused(tmp_path, "sub-01_space-MNI152_dseg.nii is of no image")


def test_one_name_for_two_cases_is_refused(tmp_path):
    refused(fill(tmp_path, "a.nii", "a.mha"), "two cases a")


# Who is held out


@pytest.mark.parametrize(
    ("count", "held_out"), [(1, 0), (2, 0), (3, 1), (10, 1), (11, 2), (20, 2), (30, 3), (31, 4)]
)
def test_the_last_tenth_is_held_out(count, held_out, tmp_path):
    fill(tmp_path, *(f"s{n:02}.nii" for n in range(count)))
    cohort = read_cohort(tmp_path)
    assert names(cohort.training) == [f"s{n:02}" for n in range(count - held_out)]
    assert names(cohort.validation) == [f"s{n:02}" for n in range(count - held_out, count)]
    assert cohort == read_cohort(tmp_path)


def test_the_order_of_the_folder_does_not_matter(tmp_path, monkeypatch):
    fill(tmp_path, *(f"images/s{n:02}.nii" for n in range(12)))
    fill(tmp_path, *(f"labels/s{n:02}.nii" for n in range(12)))
    cohort, listed = read_cohort(tmp_path), Path.iterdir
    monkeypatch.setattr(Path, "iterdir", lambda self: sorted(listed(self), reverse=True))
    assert read_cohort(tmp_path) == cohort


def test_a_share_may_be_asked_for(tmp_path):
    fill(tmp_path, *(f"s{n}.nii" for n in range(8)))
    assert names(read_cohort(tmp_path, share=0.25).validation) == ["s6", "s7"]
    assert read_cohort(tmp_path, share=0).validation == ()
    assert len(read_cohort(tmp_path, share=0.99).training) == 1
    assert names(read_cohort(tmp_path, share=0.1, least=2).validation) == ["s6", "s7"]
    assert read_cohort(tmp_path, share=0, least=2).validation == ()
    fill(tmp_path / "many", *(f"s{n:02}.nii" for n in range(100)))
    assert len(read_cohort(tmp_path / "many", share=0.07).validation) == 7  # 0.07 * 100 > 7
    for share in (-0.1, 1.0, float("nan")):
        with pytest.raises(RecipeError, match="share"):
            read_cohort(tmp_path, share=share)


@pytest.mark.parametrize(("count", "kept"), [(1, 1), (2, 2), (3, 2), (4, 2), (5, 3)])
def test_so_many_are_held_out_that_two_remain(tmp_path, count, kept):
    fill(tmp_path, *(f"s{n}.nii" for n in range(count)))
    assert len(read_cohort(tmp_path, least=2).training) == kept


def test_all_of_a_subject_is_held_out_or_nothing(tmp_path):
    fill(tmp_path, *(f"sub-{s}_ses-{t}_T1w.nii" for s in "abcd" for t in (1, 2)))
    cohort = read_cohort(tmp_path)
    assert names(cohort.validation) == ["sub-d_ses-1_T1w", "sub-d_ses-2_T1w"]
    cohort = read_cohort(tmp_path, validation=("sub-b", "sub-c_ses-2_T1w"))
    assert names(cohort.validation) == ["sub-b_ses-1_T1w", "sub-b_ses-2_T1w", "sub-c_ses-2_T1w"]


def test_named_cases_are_held_out(tmp_path):
    fill(tmp_path, *(f"s{n}.nii" for n in range(5)))
    cohort = read_cohort(tmp_path, validation=("s3", "s1"))
    assert names(cohort.training) == ["s0", "s2", "s4"]
    assert names(cohort.validation) == ["s1", "s3"]
    assert cohort.pairs == (("s1", "s3"), ("s3", "s1"))
    assert cohort.training_pairs == ()


def test_a_name_that_is_unknown_or_leaves_nobody_is_refused(tmp_path):
    fill(tmp_path, "s0.nii", "s1.nii")
    error = refused(tmp_path, "s7 is no case of", validation=("s1", "s7"))
    assert "s0" in error.remedy
    refused(tmp_path, "no case to train on", validation=("s0", "s1"))


def test_pairs_are_all_ordered_ones_while_they_are_few(tmp_path):
    fill(tmp_path, *(f"s{n}.nii" for n in range(6)))
    held_out = ("s1", "s2", "s4", "s5")
    pairs = read_cohort(tmp_path, validation=held_out).pairs
    assert set(pairs) == {(a, b) for a in held_out for b in held_out if a != b}
    assert len(pairs) == 12
    assert read_cohort(tmp_path, validation=("s1",)).pairs == ()


@pytest.mark.parametrize("count", [6, 9, 10, 30])
def test_many_pairs_are_cut_so_that_all_cases_come_up_as_often(count, tmp_path):
    everyone = [f"s{n:02}" for n in range(count + 1)]
    fill(tmp_path, *(f"{name}.nii" for name in everyone))
    pairs = read_cohort(tmp_path, validation=tuple(everyone[1:])).pairs
    assert len(set(pairs)) == len(pairs) == PAIR_LIMIT
    for side in (0, 1):
        often = [sum(pair[side] == name for pair in pairs) for name in everyone[1:]]
        assert max(often) - min(often) <= 1


# Tables


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


# Learn2Reg


def image_of(task: str, patient: int, modality: int = 0, part: str = "Tr") -> str:
    return f"./images{part}/{task}_{patient:04}_{modality:04}.nii.gz"


def pair_of(fixed: str, moving: str) -> dict[str, str]:
    return {"fixed": fixed, "moving": moving}


def described(folder: Path, **content: object) -> Path:
    """A dataset JSON with the keys that the challenge's files have, and those given."""
    usual = {
        "name": "OASIS",
        "release": "1.1",
        "description": "",
        "licence": "",
        "reference": "",
        "pairings": "unpaired",
        "provided_data": {"0": ["image", "label", "mask"]},
        "registration_direction": {"fixed": 0, "moving": 0},
        "modality": {"0": "MR"},
        "img_shift": {"fixed": "Patient A", "moving": "Patient B"},
        "labels": {"0": {"1": "Left-Cerebral-White-Matter"}},
        "tensorImageSize": {"0": "3D"},
        "tensorImageShape": {"0": [160, 224, 192]},
        "numTest": 0,
        "test": [],
        "numPairedTraining": 0,
        "training_paired_images": [],
        "numPairedTest": 0,
        "test_paired_images": [],
    }
    path = folder / "OASIS_dataset.json"
    path.write_text(json.dumps(usual | content, indent=4))
    return path


@pytest.fixture
def oasis(tmp_path):
    """As in OASIS: 'training' lists those that are validated, too; tests lie elsewhere."""
    everyone = [image_of("OASIS", n) for n in range(1, 7)]
    for kind in ("images", "labels", "masks"):
        fill(tmp_path, *(image.replace("images", kind) for image in everyone))
    tests = [image_of("OASIS", n, part="Ts") for n in (7, 8)]
    fill(tmp_path, *tests)
    return described(
        tmp_path,
        numTraining=6,
        training=[
            {
                "image": image,
                "label": image.replace("images", "labels"),
                "mask": image.replace("images", "masks"),
            }
            for image in everyone
        ],
        test=[{"image": image} for image in tests],
        numRegistration_val=2,
        registration_val=[pair_of(everyone[3], everyone[4]), pair_of(everyone[4], everyone[5])],
        numRegistration_test=1,
        registration_test=[pair_of(*tests)],
    )


@pytest.mark.parametrize("by_folder", [False, True])
def test_oasis_holds_out_the_pairs_of_its_validation(by_folder, oasis):
    cohort = read_cohort(oasis.parent if by_folder else oasis)
    assert names(cohort.training) == [f"OASIS_000{n}_0000" for n in (1, 2, 3)]
    assert names(cohort.validation) == [f"OASIS_000{n}_0000" for n in (4, 5, 6)]
    assert cohort.pairs == (
        ("OASIS_0004_0000", "OASIS_0005_0000"),
        ("OASIS_0005_0000", "OASIS_0006_0000"),
    )
    assert cohort.training_pairs == ()
    assert shown(cohort, oasis.parent)["OASIS_0001_0000"] == [
        "imagesTr/OASIS_0001_0000.nii.gz",
        "labelsTr/OASIS_0001_0000.nii.gz",
        None,
        "masksTr/OASIS_0001_0000.nii.gz",
    ]
    assert read_cohort(oasis, labels_only=True) == cohort


def test_named_cases_are_held_out_instead_of_those_of_the_json(oasis):
    cohort = read_cohort(oasis, validation=("OASIS_0001_0000", "OASIS_0004_0000"))
    assert names(cohort.validation) == ["OASIS_0001_0000", "OASIS_0004_0000"]
    assert len(cohort.pairs) == 2
    assert cohort.training_pairs == (("OASIS_0005_0000", "OASIS_0006_0000"),)
    refused(oasis, "OASIS_0007_0000 is no case", validation=("OASIS_0007_0000",))


def test_the_folder_of_images_alone_does_not_need_the_json(oasis):
    cohort = read_cohort(oasis.parent / "imagesTr")
    assert names(cohort.validation) == ["OASIS_0006_0000"]
    assert all(case.labels and case.mask for case in cohort.training)


def test_abdomen_mrct_lists_its_modalities_apart(tmp_path):
    task = "AbdomenMRCT"
    pairs = [(image_of(task, n, 0), image_of(task, n, 1)) for n in (1, 2, 3)]
    alone = image_of(task, 9, 1)
    listed = {"0": [pair[0] for pair in pairs], "1": [*(pair[1] for pair in pairs), alone]}
    for kind in ("images", "labels"):
        fill(tmp_path, *(i.replace("images", kind) for some in listed.values() for i in some))
    path = described(
        tmp_path,
        numTraining={"0": 3, "1": 4},
        training={
            modality: [{"image": i, "label": i.replace("images", "labels")} for i in some]
            for modality, some in listed.items()
        },
        training_paired_images=[pair_of(*pair) for pair in pairs],
        registration_val=[pair_of(*pairs[2])],
    )
    cohort = read_cohort(path)
    assert names(cohort.training) == [
        f"{task}_{n}" for n in ("0001_0000", "0001_0001", "0002_0000", "0002_0001", "0009_0001")
    ]
    assert cohort.pairs == ((f"{task}_0003_0000", f"{task}_0003_0001"),)
    assert cohort.training_pairs == tuple(
        (f"{task}_000{n}_0000", f"{task}_000{n}_0001") for n in (1, 2)
    )


def test_pairs_of_the_tests_are_never_trained_on(tmp_path):
    """NLST names pairs of its validation and of its test among those of its training."""
    pairs = [(image_of("NLST", n, 0), image_of("NLST", n, 1)) for n in (1, 2, 3)]
    images = [image for pair in pairs for image in pair]
    points = [image.replace("images", "keypoints").replace("nii.gz", "csv") for image in images]
    fill(tmp_path, *images, *points)
    path = described(
        tmp_path,
        training=[{"image": i, "keypoints": p} for i, p in zip(images, points, strict=True)],
        training_paired_images=[pair_of(*pair) for pair in pairs],
        registration_val=[pair_of(*pairs[1])],
        registration_test=[pair_of(*pairs[2])],
    )
    cohort = read_cohort(path)
    assert names(cohort.training) == ["NLST_0001_0000", "NLST_0001_0001"]
    assert cohort.training_pairs == (("NLST_0001_0000", "NLST_0001_0001"),)
    assert cohort.pairs == (("NLST_0002_0000", "NLST_0002_0001"),)
    assert shown(cohort, tmp_path)["NLST_0001_0001"][2] == "keypointsTr/NLST_0001_0001.csv"


def test_what_is_validated_and_tested_is_validated_and_no_pair_twice(tmp_path):
    images = [image_of("NLST", n) for n in (1, 2, 3)]
    fill(tmp_path, *images)
    pair = pair_of(images[1], images[2])
    path = described(
        tmp_path, training=images, registration_val=[pair, pair], registration_test=[pair]
    )
    cohort = read_cohort(path)
    assert names(cohort.validation) == ["NLST_0002_0000", "NLST_0003_0000"]
    assert cohort.pairs == (("NLST_0002_0000", "NLST_0003_0000"),)


def test_pairs_of_the_training_that_are_held_out_are_validated(tmp_path):
    pairs = [(image_of("NLST", n, 0), image_of("NLST", n, 1)) for n in (1, 2)]
    fill(tmp_path, *(image for pair in pairs for image in pair))
    path = described(
        tmp_path,
        training=[image for pair in pairs for image in pair],
        training_paired_images=[pair_of(*pair) for pair in pairs],
    )
    held_out = ("NLST_0002_0000", "NLST_0002_0001")
    assert read_cohort(path, validation=held_out).pairs == (held_out,)


def test_images_of_a_validation_may_be_listed_in_pairs_only(tmp_path):
    """LUMIR calls the list 'validation' and keeps the images in a folder of their own."""
    trained = [image_of("LUMIRMRI", n) for n in (0, 1)]
    validated = [image_of("LUMIRMRI", n, part="Val") for n in (3454, 3455)]
    fill(tmp_path, *trained, *validated, "labelsVal/LUMIRMRI_3455_0000.nii.gz")
    path = described(
        tmp_path,
        training=[{"image": image} for image in trained],
        validation=[pair_of(validated[1], validated[0])],
    )
    cohort = read_cohort(path)
    assert shown(cohort, tmp_path) == {
        "LUMIRMRI_0000_0000": ["imagesTr/LUMIRMRI_0000_0000.nii.gz", None, None, None],
        "LUMIRMRI_0001_0000": ["imagesTr/LUMIRMRI_0001_0000.nii.gz", None, None, None],
        "LUMIRMRI_3454_0000": ["imagesVal/LUMIRMRI_3454_0000.nii.gz", None, None, None],
        "LUMIRMRI_3455_0000": [
            "imagesVal/LUMIRMRI_3455_0000.nii.gz",
            "labelsVal/LUMIRMRI_3455_0000.nii.gz",
            None,
            None,
        ],
    }
    assert cohort.pairs == (("LUMIRMRI_3455_0000", "LUMIRMRI_3454_0000"),)
    refused(path, "3 of 4 cases lack label maps", labels_only=True)


def test_entries_that_are_paths_alone_get_what_lies_beside_them(tmp_path):
    images = [image_of("LungCT", n) for n in (1, 2, 3, 4)]
    fill(tmp_path, *images, "labelsTr/LungCT_0001_0000.nii.gz", "masksTr/LungCT_0002_0000.nii.gz")
    fill(tmp_path, "keypointsTr/LungCT_0001_0000.csv", "landmarksTr/LungCT_0001_0000.csv")
    fill(tmp_path, "landmarksTr/LungCT_0003_0000.csv")
    cohort = read_cohort(described(tmp_path, training=images))
    assert names(cohort.validation) == ["LungCT_0004_0000"]
    assert [files[1:] for files in shown(cohort, tmp_path).values()] == [
        ["labelsTr/LungCT_0001_0000.nii.gz", "keypointsTr/LungCT_0001_0000.csv", None],
        [None, None, "masksTr/LungCT_0002_0000.nii.gz"],
        [None, "landmarksTr/LungCT_0003_0000.csv", None],
        [None, None, None],
    ]


def test_points_may_be_called_images_as_learn2reg_does(tmp_path):
    image = image_of("ThoraxCBCT", 0)
    fill(tmp_path, image, "pointsOf/ThoraxCBCT_0000_0000.csv", "keypoints01Tr/unlike.csv")
    entry = {
        "image": image,
        "keypoints": "./pointsOf/ThoraxCBCT_0000_0000.nii.gz",
        "landmarks": "./nowhere.csv",
        "keypoints01": "./keypoints01Tr/ThoraxCBCT_0000_0000.nii.gz",
    }
    (case,) = read_cohort(described(tmp_path, training=[entry])).training
    assert case.points == tmp_path / "pointsOf/ThoraxCBCT_0000_0000.csv"


A = "./imagesTr/a.nii.gz"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({}, "no list 'training'"),
        ({"training": []}, "no list 'training'"),
        ({"training": "a.nii.gz"}, "no list 'training'"),
        ({"training": {"0": 3}}, "no list 'training'"),
        ({"training": [{"label": A}]}, "an entry of 'training' has no 'image'"),
        ({"training": [{"image": [A, A]}]}, "an entry of 'training' has no 'image'"),
        ({"training": [3]}, "an entry of 'training' has no 'image'"),
        ({"training": [A, A]}, "two cases a"),
        ({"training": [{"image": A, "label": "./gone.nii.gz"}]}, "gone.nii.gz does not exist"),
        ({"training": [{"image": A, "label": 3}]}, "a path that is no text"),
        ({"training": [A, "./gone.nii.gz"]}, "gone.nii.gz does not exist"),
        ({"training": [A], "registration_val": [{"fixed": A}]}, "'registration_val' is no list"),
        ({"training": [A], "registration_val": [A]}, "'registration_val' is no list"),
        ({"training": [A], "registration_val": 3}, "'registration_val' is no list"),
        ({"training": [A], "registration_test": [[A, A]]}, "'registration_test' is no list"),
        ({"training": [A], "training_paired_images": [{"moving": A}]}, "paired_images' is no"),
        ({"training": [A], "registration_val": [{"fixed": A, "moving": 3}]}, "is no list"),
        ({"training": [A], "registration_val": [{"fixed": A, "moving": "b.nii"}]}, "b.nii does"),
        ({"training": [A], "registration_val": [{"fixed": A, "moving": A}]}, "to train on"),
    ],
)
def test_a_json_that_cannot_be_used_is_refused(content, words, tmp_path):
    fill(tmp_path, A)
    refused(described(tmp_path, **content), words)


@pytest.mark.parametrize(
    ("text", "words"),
    [('{"training": [', "is not JSON"), ("[]", "no list 'training'"), ("3", "no list 'training'")],
)
def test_what_is_no_json_of_learn2reg_is_refused(text, words, tmp_path):
    path = tmp_path / "x_dataset.json"
    path.write_text(text)
    refused(path, words)
    refused(tmp_path, words)


def test_two_jsons_in_a_folder_are_refused(tmp_path):
    fill(tmp_path, "a_dataset.json", "b_dataset.json")
    refused(tmp_path, "2 *_dataset.json")
