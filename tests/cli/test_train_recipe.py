"""regcli train --recipe."""

import json

import nibabel as nib
import numpy as np
import pytest
from trainings import FAST, FILES, rows, write_folder

from regcli.io import weights as files
from regcli.train.checkpoint import read_facts

RECIPE = """
warm_steps = 1000
steps = 0
cool = 2
warm_lr = 0.01
other = [510]

[[collections]]
folder = "heads/labels"
validation = ["s2", "s3"]

[[collections]]
folder = "brains/labels"
fill = 4

[[stages]]
until = 2
contrasts = [1.0, 0.0, 0.0, 0.0]

[types]
white = [2, 41]
fluid = [4, 43]
front = [1003]
back = [1011]

[groups.cortex]
codes = [3, 42]
types = ["front", "back"]
"""


@pytest.fixture(scope="module")
def collections(tmp_path_factory):
    """Heads whose cortex is in one piece, and brains whose cortex is in two; and a recipe."""
    data = tmp_path_factory.mktemp("collections")
    folder = write_folder(data / "heads")
    (data / "brains" / "labels").mkdir(parents=True)
    for path in sorted((folder / "labels").iterdir())[:2]:
        image = nib.nifti1.load(path)
        codes = np.asarray(image.dataobj).astype(np.int16)
        codes[codes == 510] = 0
        front = np.arange(codes.shape[1])[None, :, None] > codes.shape[1] // 2
        grey = np.isin(codes, (3, 42))
        codes[grey] = np.where(np.broadcast_to(front, codes.shape)[grey], 1003, 1011)
        name = f"b{path.name}"
        nib.nifti1.Nifti1Image(codes, image.affine).to_filename(data / "brains" / "labels" / name)
    (data / "recipe.toml").write_text(RECIPE)
    return data


def by_recipe(data, out, *more):
    return ("train", data, "--recipe", data / "recipe.toml", "-o", out, *more, *FAST)


def test_a_recipe_joins_collections_and_a_copy_of_a_run_is_finished(run, collections, tmp_path):
    out, done = tmp_path / "run", tmp_path / "done"
    short = ("--warm-steps", 3)
    assert run(*by_recipe(collections, out, *short)).code == 0
    facts = files.facts(out / "best.safetensors")
    assert facts["types"] == ["background", "white", "fluid", "front", "back"]
    assert facts["channels"] == 5
    assert facts["codes"]["1003"] == 3
    assert "3" not in facts["codes"]
    record = json.loads((out / "train.json").read_text())
    assert record["training"] == ["s0", "s1", "bs0", "bs1"]
    assert record["validation"] == ["s2", "s3"]
    before = (out / "last.safetensors").read_bytes()
    told = run(*by_recipe(collections, done, *short, "--finish", out))
    assert told.code == 0, told.err
    assert (out / "last.safetensors").read_bytes() == before
    assert [int(row[1]) for row in rows(done)[1:]] == [0, 1, 2, 3, 4]
    for name in ("last", "best"):  # whatever the run scored before, and whatever it still scores
        said = read_facts(done / f"{name}.safetensors")
        assert said["step"] == said["plan"]["warm_steps"] == 5
    assert {path.name for path in done.iterdir()} == FILES
    assert run(*by_recipe(collections, done, *short, "--resume")).code == 0  # had it been killed
    assert read_facts(done / "last.safetensors")["step"] == 5
    found = run(*by_recipe(collections, tmp_path / "none", "--finish", tmp_path / "absent"))
    assert found.fails(3, "absent")
    assert run(*by_recipe(collections, out, "--finish", out)).fails(2, "the run itself")
    (out / "train.csv").unlink()
    found = run(*by_recipe(collections, tmp_path / "none", "--finish", out))
    assert found.fails(3, "train.csv is missing")
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("options", "code", "named"),
    [
        (("--synth",), 2, "--synth"),
        (("--validation", "s1"), 2, "--validation"),
        (("--finish", "x", "--resume"), 2, "--finish"),
    ],
)
def test_options_that_a_recipe_leaves_no_room_for_are_refused(
    run, collections, tmp_path, options, code, named
):
    assert run(*by_recipe(collections, tmp_path / "run", *options)).fails(code, named)


@pytest.mark.parametrize(
    ("old", "new", "code", "named"),
    [
        ("other = [510]", "", 3, "s0.nii.gz holds the code 510"),
        ("back = [1011]", "back = [1011]\nnose = [9]", 3, "'nose'"),
        ('folder = "brains/labels"', 'folder = "brains"\nshade = 1', 2, "'shade'"),
        ("cool = 2", "cool = 0", 2, "cool"),
        ("cool = 2", 'precision = "fp16"', 2, "fp16"),
        ("cool = 2", "average = 1.0", 2, "average"),
        ("cool = 2", 'muted = ["ear"]', 2, "'ear' is no type"),
        ("cool = 2", 'muted = ["front", "front"]', 2, "twice"),
        ("cool = 2", 'model = "deq"\nmuted = ["front"]', 2, "muted has no effect"),
        ("cool = 2", 'muted = ["white", "fluid", "front", "back"]', 2, "no type to register"),
        ("until = 2", "until = 2\nshape = [0, 0, 0]", 2, "shape"),
        ("until = 2", "until = 2\nshape = [18, 17, 17]", 2, "18x17x17"),
        ("until = 2", "until = 2\nshape = [401, 401, 401]", 2, "shape"),
        ("cool = 2", 'network = "unet:width=0"', 2, "unet:width=0"),
        ("warm_lr = 0.01", "warm_lr = 0.0", 2, "--warm-lr"),
        ("cool = 2", "batch = 1000000000", 2, "batch"),
        ('folder = "brains/labels"', 'folder = "absent"', 3, "absent"),
        ('validation = ["s2", "s3"]', 'validation = ["s7"]', 3, "s7"),
    ],
)
def test_recipes_that_contradict_the_data_are_refused(
    run, collections, tmp_path, old, new, code, named
):
    assert old in RECIPE
    (tmp_path / "recipe.toml").write_text(RECIPE.replace(old, new))
    told = run(
        *("train", collections, "--recipe", tmp_path / "recipe.toml", "-o", tmp_path / "run"),
        *FAST,
    )
    assert told.fails(code, named)
    assert not (tmp_path / "run").exists()


def test_an_empty_collection_is_refused(run, tmp_path):
    (tmp_path / "heads").mkdir()
    (tmp_path / "recipe.toml").write_text('[[collections]]\nfolder = "heads"\n')
    assert run(*by_recipe(tmp_path, tmp_path / "run")).fails(3, "heads")


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("white = [2, 41]", "pale = [2, 41]", "types"),
        ("white = [2, 41]\nfluid = [4, 43]", "fluid = [4, 43]\nwhite = [2, 41]", "types"),
        ("fill = 4", "fill = 43", "collections"),
        ("until = 2", "until = 1", "stages"),
    ],
)
def test_a_run_goes_on_by_the_recipe_that_it_was_begun_with(
    run, collections, tmp_path, old, new, named
):
    out = tmp_path / "run"
    assert run(*by_recipe(collections, out, "--warm-steps", 2)).code == 0
    assert old in RECIPE
    (tmp_path / "recipe.toml").write_text(RECIPE.replace(old, new))
    other = ("train", collections, "--recipe", tmp_path / "recipe.toml", "-o", out)
    told = run(*other, "--resume", "--warm-steps", 2, *FAST)
    assert told.fails(2, named)
