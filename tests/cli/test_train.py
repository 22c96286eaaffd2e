"""regcli train."""

import errno
import json
import os
import shutil
import signal

import nibabel as nib
import numpy as np
import processes
import pytest
import torch
from safetensors.numpy import load_file
from trainings import FAST, FILES, rows, write_folder

from regcli.cli import main as cli
from regcli.io import weights as files
from regcli.registration.features.model import assemble
from regcli.train.checkpoint import read_facts, read_weights, write_tensors
from regcli.train.record import alone_in


def write_learn2reg(folder):
    write_folder(folder, images=True)
    (folder / "images").rename(folder / "imagesTr")
    (folder / "labels").rename(folder / "labelsTr")
    entries = [
        {"image": f"./imagesTr/s{n}.nii.gz", "label": f"./labelsTr/s{n}.nii.gz"} for n in range(4)
    ]
    pair = {"fixed": "./imagesTr/s2.nii.gz", "moving": "./imagesTr/s3.nii.gz"}
    content = {"name": "Heads", "training": entries, "registration_val": [pair]}
    path = folder / "Heads_dataset.json"
    path.write_text(json.dumps(content))
    return path


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """Label maps; tests only read them."""
    return write_folder(tmp_path_factory.mktemp("labels") / "data")


def warm(folder, out):
    """A short training of the first stage alone."""
    options = ("train", folder / "labels", "--synth", "--validation", "s2,s3", "-o", out)
    return (*options, "--warm-steps", 2, "--steps", 0, *FAST)


@pytest.fixture(scope="module")
def trained(folder, tmp_path_factory):
    """The folder of a `warm` run; tests only read it."""
    out = tmp_path_factory.mktemp("trained") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["regcli", *map(str, warm(folder, out))])
        with pytest.raises(SystemExit) as ended:
            cli.main()
    assert ended.value.code == 0
    return out


@pytest.fixture
def again(trained, tmp_path):
    """A copy of `trained`, tmp_path / "run", that tests may spoil."""
    return shutil.copytree(trained, tmp_path / "run")


def test_label_maps_alone_give_weights_a_card_a_log_and_a_picture(run, folder, tmp_path):
    out = tmp_path / "run"
    told = run(
        *("train", folder / "labels", "--synth", "-o", out, "--validation", "s2,s3"),
        *("--warm-steps", 2, "--steps", 2, *FAST),
    )
    assert told.code == 0, told.err
    assert told.out == f"{out / 'best.safetensors'}\n"
    assert {path.name for path in out.iterdir()} == FILES
    assert [row[0] for row in rows(out)[1:]] == ["types", "types", "pairs", "pairs"]
    assert (out / "loss.png").read_bytes()[:4] == b"\x89PNG"
    facts = files.facts(out / "best.safetensors")
    learned = assemble("x", "", facts, files.tensors(out / "best.safetensors"))
    assert learned.spacing_mm == 2
    record = json.loads((out / "train.json").read_text())
    assert record["validation"] == ["s2", "s3"]
    card = (out / "card.md").read_text()
    assert all(
        word in card
        for word in ("s2, s3", "Seed", "gn-ift", "Licence", "17x17x17", "Dice", "torch")
    )


@pytest.mark.slow
def test_a_run_that_was_killed_goes_on_as_if_it_had_not_been(run, folder, tmp_path):
    """By SIGKILL, wherever it is."""
    options = (folder / "labels", "--synth", "--validation", "s2,s3", "--seed", 4)
    options = (*options, "--warm-steps", 4, "--steps", 0, "--threads", 1, *FAST)
    assert run("train", *options, "-o", tmp_path / "whole").code == 0
    killed = tmp_path / "killed"
    process = processes.start(processes.regcli, "train", *options, "-o", killed)
    log = killed / "train.csv"
    processes.until(lambda: log.exists() and log.stat().st_size > 40)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert 1 < len(rows(killed)) < 6
    assert run("train", *options, "-o", killed, "--resume").code == 0
    assert rows(killed) == rows(tmp_path / "whole")
    one, other = (load_file(tmp_path / name / "last.safetensors") for name in ("whole", "killed"))
    assert all(np.array_equal(one[name], other[name]) for name in one)


def test_learn2reg_data_is_trained_on_and_its_pairs_validated(run, tmp_path):
    data, out = write_learn2reg(tmp_path / "heads"), tmp_path / "run"
    told = run("train", data, "-o", out, "--warm-steps", 1, "--steps", 1, *FAST)
    assert told.code == 0, told.err
    assert len(rows(out)) == 3
    record = json.loads((out / "train.json").read_text())
    assert record["training"] == ["s0", "s1"]
    assert record["validation"] == ["s2", "s3"]


def test_images_alone_are_trained_on_through_registrations(run, tmp_path):
    data = write_folder(tmp_path / "data", images=True)
    shutil.rmtree(data / "labels")
    out = tmp_path / "run"
    told = run(
        *("train", data, "-o", out, "--epochs", 1, "--batch", 4),
        *("--precision", "fp32", *FAST),
    )
    assert told.code == 0, told.err
    assert [row[0] for row in rows(out)[1:]] == ["pairs"]  # half a batch of cases is a step, too
    assert json.loads((out / "train.json").read_text())["validation"] == ["s2", "s3"]


def test_what_cannot_be_trained_is_refused_before_anything_is_written(run, folder, tmp_path):
    data, out = folder / "labels", tmp_path / "run"
    synth = ("train", data, "--synth", "-o", out)
    assert run(*synth, "--network", "resnet").code == 2
    assert run(*synth, "--adjoint", "magic").fails(2, "magic")
    assert run(*synth, "--adjoint", "unroll").fails(2, "unroll")
    assert run(*synth, "--transform", "affine").fails(2, "affine")
    assert run(*synth, "--lr", "-1").fails(2, "--lr")
    assert run(*synth, "--shape", "3x4").fails(2, "3x4")
    assert run(*synth, "--steps", 3, "--epochs", 2).fails(2, "--epochs")
    assert run(*synth, "--steps", 0, "--warm-steps", 0).fails(3, "--steps")
    assert run(*synth, "--seed", 1 << 64).fails(2, "--seed")
    assert run(*synth, "--threads", 100000).fails(2, "--threads")
    assert run(*synth, "--validation", "nobody").fails(3, "nobody")
    assert run(*synth, "--validation", "s3").fails(3, "pair")
    assert run(*synth, "--resume").fails(3, "--resume")
    assert run(*synth, "--start", "").fails(2, "empty")
    assert run("train", tmp_path / "nowhere", "-o", out).fails(3, "nowhere")
    assert run(*synth, "--validation", "s2,s3", "--spacing", "0.11").fails(3, "--spacing")
    assert run(*synth, "--spacing", "100").fails(2, "--spacing")
    assert run(*synth, "--shape", "16x16x16").fails(2, "17x17x17")
    assert run("train", data, "--synth", "-o", __file__, "--validation", "s2,s3").fails(4, "folder")
    assert not out.exists()


def test_data_that_do_not_belong_together_are_refused(run, tmp_path):
    data, out = write_folder(tmp_path / "data", images=True), tmp_path / "run"
    train = ("train", data, "-o", out, "--warm-steps", 0, "--steps", 1, *FAST)
    (data / "keypoints").mkdir()
    for n in range(4):
        (data / "keypoints" / f"s{n}.csv").write_text("x,y,z\n1,2,3\n" + "4,5,6\n" * (n == 1))
    assert run(*train).fails(3, "s0 has 1 points, s1 has 2")
    (data / "keypoints" / "s1.csv").write_text("x,y,z\n1e9,2,3\n")
    assert run(*train).fails(3, "s1.csv", "far outside")
    (data / "keypoints" / "s1.csv").unlink()
    assert run(*train).fails(3, "1 of 4 cases have no points, s1")
    shutil.rmtree(data / "keypoints")
    (data / "masks").mkdir()
    image = nib.load(data / "images" / "s2.nii.gz")
    nothing = nib.Nifti1Image(np.zeros(image.shape, np.uint8), image.affine)
    nib.save(nothing, data / "masks" / "s2.nii.gz")
    assert run(*train).fails(3, "s2.nii.gz", "empty")
    shutil.rmtree(data / "masks")
    (data / "labels" / "s3.nii.gz").unlink()
    assert run(*train).fails(3, "1 of 4 cases have no labels, s3")
    assert not out.exists()


def test_landmarks_and_labels_are_learned_from_together(run, tmp_path):
    data, out = write_folder(tmp_path / "data", images=True), tmp_path / "run"
    (data / "keypoints").mkdir()
    for n in range(4):
        (data / "keypoints" / f"s{n}.csv").write_text("x,y,z\n1,2,3\n")
    told = run("train", data, "-o", out, "--warm-steps", 1, "--steps", 1, *FAST)
    assert told.code == 0, told.err
    assert [row[0] for row in rows(out)[1:]] == ["types", "pairs"]


def test_a_label_map_without_a_brain_is_refused(run, tmp_path):
    data, out = write_folder(tmp_path / "data", images=True), tmp_path / "run"
    path = data / "labels" / "s1.nii.gz"
    image = nib.load(path)
    nothing = np.where(np.asarray(image.dataobj) == 510, 510, 0).astype(np.int16)
    nib.save(nib.Nifti1Image(nothing, image.affine), path)
    for synth in ((), ("--synth",)):
        assert run("train", data / "labels" if synth else data, *synth, "-o", out).fails(3, "s1")
    assert not out.exists()


def test_a_disk_that_is_full_is_named(run, folder, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("regcli.train.loop.write_checkpoint", full)
    options = (folder / "labels", "--synth", "--validation", "s2,s3", "-o", tmp_path / "run")
    told = run("train", *options, "--warm-steps", 2, "--steps", 0, *FAST, "-q")
    assert told.fails(4, str(tmp_path / "run"), "--resume")


def test_what_does_not_fit_on_a_disk_does_not_stay_on_it(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("regcli.train.checkpoint.os.fsync", full)
    with pytest.raises(OSError, match="space"):
        write_tensors(tmp_path / "one.safetensors", {"a": torch.zeros(3)}, {})
    assert not list(tmp_path.iterdir())


def test_what_another_version_drew_is_not_gone_on_with(run, folder, again):
    options = warm(folder, again)
    path = again / "train.json"
    begun = json.loads(path.read_text())
    for part, name in (("drawing", "cut"), ("plan", "smoothness")):
        changed = begun | {part: {k: v for k, v in begun[part].items() if k != name}}
        path.write_text(json.dumps(changed))
        assert run(*options, "--resume").fails(3, "another version")


def test_training_begins_with_other_weights_if_asked_to(run, folder, trained, tmp_path):
    options = (folder / "labels", "--synth", "--validation", "s2,s3", "--steps", 0, *FAST)
    best = trained / "best.safetensors"
    begun = ("--start", best, "--warm-steps", 2, "--warm-lr", 1e-9)
    assert run("train", *options, "-o", tmp_path / "two", *begun).code == 0
    one, other = (load_file(path) for path in (best, tmp_path / "two" / "best.safetensors"))
    assert all(np.allclose(one[name], other[name], atol=1e-6) for name in one)
    own = read_facts(best) | {"gains": [1.0, 2.0, 3.0], "smoothness": 0.5}
    write_tensors(tmp_path / "own.safetensors", read_weights(best), own)
    begun = ("--start", tmp_path / "own.safetensors", *begun[2:])
    assert run("train", *options, "-o", tmp_path / "four", *begun).code == 0
    kept = read_facts(tmp_path / "four" / "best.safetensors")
    assert kept["start"].startswith("own (sha256 ")
    assert kept["start"] in (tmp_path / "four" / "card.md").read_text()
    assert str(tmp_path) not in json.dumps(kept)  # nobody's folders go with weights
    assert (kept["gains"], kept["smoothness"]) == ([1.0, 2.0, 3.0], 0.5)
    for name in ("s0", "s1", "s2", "s3"):
        image = nib.load(folder / "labels" / f"{name}.nii.gz")
        halved = nib.Nifti1Image(np.asarray(image.dataobj) // 2, image.affine)
        nib.save(halved, tmp_path / f"{name}.nii.gz")
    options = (tmp_path, *options[1:])
    assert run("train", *options, "-o", tmp_path / "three", *begun).fails(3, "channels")


def test_a_run_is_neither_overwritten_nor_continued_as_another(run, folder, again):
    options = warm(folder, again)
    assert run(*options).fails(4, "--resume")
    assert run(*options, "--resume", "--seed", 9).fails(2, "seed")
    assert run(*options, "--resume", "--spacing", 3).fails(2, "spacing")
    begun = (again / "train.json").read_bytes()
    assert run(*options, "--resume").code == 0  # done already
    (again / "last.safetensors").unlink()
    assert run(*options, "--resume").fails(3, "last.safetensors", "missing")
    assert (again / "train.json").read_bytes() == begun


def test_two_trainings_do_not_write_one_folder(folder, tmp_path, run):
    with alone_in(tmp_path):
        assert run(*warm(folder, tmp_path)).fails(4, "Another training", str(tmp_path))
    assert not list(tmp_path.iterdir())


def test_the_state_of_a_training_is_not_taken_for_weights(run, folder, trained, tmp_path):
    pair = [folder / "labels" / f"s{n}.nii.gz" for n in (0, 1)]
    last = ("--weights", trained / "last.safetensors")
    told = run("register", *pair, *last, "-o", tmp_path / "out")
    assert told.fails(3, "state of a training", "best.safetensors")
    assert not (tmp_path / "out").exists()


def test_folders_where_the_files_of_a_run_should_be_are_refused(run, folder, tmp_path):
    options = ("train", folder / "labels", "--synth", "-o", tmp_path)
    for name in ("best.safetensors", "train.csv", "card.md"):
        (tmp_path / name).mkdir()
        assert run(*options).fails(4, name, "folder")
        (tmp_path / name).rmdir()


def test_damaged_runs_are_refused_in_two_lines(run, folder, again):
    out, options = again, warm(folder, again)
    record, log, state = (out / n for n in ("train.json", "train.csv", "last.safetensors"))
    for path, contents in (
        (record, (b"", b"[]", b'{"plan": 3}', b"\xff")),
        (log, (b"\xff\xfe", log.read_bytes().replace(b"types,0,", b"types,0,abc"))),
        (state, (b"", (out / "best.safetensors").read_bytes())),
    ):
        kept = path.read_bytes()
        for content in contents:
            path.write_bytes(content)
            assert run(*options, "--resume").fails(3, path.name)
        path.write_bytes(kept)
    assert run(*options, "--resume").code == 0


def test_a_rate_that_is_too_high_ends_the_training_with_a_word_about_it(run, folder, tmp_path):
    options = (folder / "labels", "--synth", "--validation", "s2,s3", "-o", tmp_path / "run")
    options = ("train", *options, "--warm-steps", 4, "--steps", 0, *FAST)
    assert run(*options, "--warm-lr", "1e30").fails(2, "--warm-lr")
