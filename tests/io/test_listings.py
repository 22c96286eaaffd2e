"""Folders as cases to train on."""

from pathlib import Path

import numpy as np
import pytest
from caselists import fill, names, refused, shown
from imagefiles import numbers, save

from regcli.io.cases import read_cohort
from regcli.io.images import FORMATS, read_image
from regcli.io.listings import Case
from regcli.io.points import read_points


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
    fill(tmp_path, *(f"image{ending[1:]}{ending}" for ending in FORMATS))
    assert len(names(read_cohort(tmp_path, share=0).training)) == len(FORMATS)


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
