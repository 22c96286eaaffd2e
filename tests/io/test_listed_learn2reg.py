"""Files of Learn2Reg as cases to train on."""

import json
from pathlib import Path

import pytest
from caselists import fill, names, refused, shown

from regcli.io.cases import read_cohort


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
