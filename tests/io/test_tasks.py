"""Learn2Reg's evaluation configurations."""

import json

import pytest

from regcli.errors import InputError
from regcli.io.tasks import find_field, read_task

PAIR = {
    "fixed": "./imagesTs/OASIS_0002_0000.nii.gz",
    "moving": "./imagesTs/OASIS_0001_0000.nii.gz",
}
TASK = {
    "task_name": "OASIS",
    "evaluation_methods": [
        {"name": "LogJacDetStd", "metric": "sdlogj"},
        {"name": "DSC", "metric": "dice", "labels": [1, 2]},
        {"name": "TRE", "metric": "tre", "dest": "keypoints"},
    ],
    "expected_shape": [10, 11, 12, 3],
    "eval_pairs": [PAIR],
    "eval_config_version": 0.2,
    "masked_evaluation": True,
}


def written(folder, **changes):
    path = folder / "task.json"
    path.write_text(json.dumps({k: v for k, v in (TASK | changes).items() if v is not None}))
    return path


def other(modality):
    return PAIR | {"fixed": f"imagesTs/OASIS_0002_000{modality}.nii.gz"}


def test_a_task_says_what_is_measured_and_where_files_are(tmp_path):
    task = read_task(written(tmp_path))
    assert (task.name, task.shape, task.masked) == ("OASIS", (10, 11, 12), True)
    assert [(m.metric, m.labels, m.dest) for m in task.methods] == [
        ("sdlogj", (), ""),
        ("dice", (1, 2), ""),
        ("tre", (), "keypoints"),
    ]
    assert task.pairs[0].name == "0002_0000<--0001_0000"
    assert task.beside(PAIR["fixed"], "labels") == tmp_path / "labelsTs/OASIS_0002_0000.nii.gz"
    assert read_task(written(tmp_path), tmp_path / "data").data == tmp_path / "data"
    assert read_task(written(tmp_path, task_name=None, name="LUMIR")).name == "LUMIR"


@pytest.mark.parametrize(
    ("pair", "name", "taken"),
    [
        (PAIR, "disp_0002_0001", True),
        (PAIR, "disp_0002_0000_0001_0000", True),
        (other(2), "disp_0002_0002_0001_0000", True),
        (other(2), "disp_0002_0001", False),  # of which modalities?
        (PAIR, "disp_0001_0002", False),
    ],
)
@pytest.mark.parametrize("ending", [".nii.gz", ".npz"])
def test_a_field_has_one_of_the_names_that_the_evaluators_take(tmp_path, pair, name, taken, ending):
    task = read_task(written(tmp_path, eval_pairs=[pair]))
    (tmp_path / (name + ending)).touch()
    if taken:
        assert find_field(tmp_path, task.pairs[0]) == tmp_path / (name + ending)
    else:
        with pytest.raises(InputError, match=r"disp_0002"):
            find_field(tmp_path, task.pairs[0])


@pytest.mark.parametrize(
    ("pair", "word", "ending"),
    [
        (PAIR, "keypoints", ".csv"),
        (PAIR, "keypoints", ".nii.gz"),
        (other(2), "keypoints02", ".csv"),
        (other(2), "keypoints00000002", ".csv"),
    ],
)
def test_landmarks_of_two_modalities_have_folders_of_their_own(tmp_path, pair, word, ending):
    task = read_task(written(tmp_path, eval_pairs=[pair]))
    with pytest.raises(InputError, match=r"no landmarks"):
        task.landmarks(task.pairs[0], "keypoints")
    for image in pair.values():
        path = task.beside(image, word, ending)
        path.parent.mkdir(exist_ok=True)
        path.touch()
    assert task.landmarks(task.pairs[0], "keypoints")[1] == path


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"evaluation_methods": None}, "evaluation_methods"),
        ({"evaluation_methods": []}, "no method"),
        ({"evaluation_methods": [{"name": "x", "metric": "ssim"}]}, "ssim"),
        ({"evaluation_methods": [{"name": "x", "metric": "dice"}]}, "labels"),
        ({"evaluation_methods": [{"name": "x", "metric": "ndv"}] * 2}, "twice"),
        ({"eval_pairs": [PAIR, PAIR]}, "twice"),
        ({"eval_pairs": [PAIR | {"moving": "imagesTs/brain.nii.gz"}]}, "brain.nii.gz"),
        ({"eval_pairs": [{"fixed": PAIR["fixed"]}]}, "moving"),
        ({"eval_pairs": 3}, "task.json"),
        ({"expected_shape": [3, 4, 5]}, "task.json"),
        ({"expected_shape": [3, 4, 5, 1]}, "shape"),
        ({"expected_shape": "much"}, "task.json"),
    ],
)
def test_what_is_no_task_is_refused(tmp_path, changes, words):
    with pytest.raises(InputError) as caught:
        read_task(written(tmp_path, **changes))
    assert words in caught.value.cause
    assert "task.json" in caught.value.cause


@pytest.mark.parametrize("text", ["", "[]", "{", "\0", "3"])
def test_what_is_no_json_is_refused(tmp_path, text):
    (tmp_path / "task.json").write_text(text)
    with pytest.raises(InputError, match=r"task\.json"):
        read_task(tmp_path / "task.json")
