"""Every option of --help acts, as it promises, or is refused: the tables name them all."""

import ast
import shutil
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
import typer
from jobflags import GIVEN, PLANNED
from phantoms import pair
from registerflags import ACTS, EMPTY, LABELS, PLAIN, POINTS, REFUSED, Run
from scans import write_pair, write_voxels
from weightfiles import WIDE, write_steps, write_weights

from regcli.cli import main as cli
from regcli.image import Space
from regcli.registration import pipeline

# Small, and aligned but for a deformation: a run takes a tenth of a second.
SPACE = Space((13, 14, 15), torch.diag(torch.tensor([4.0, 4.4, 3.8, 1.0])).double())
SHORT = {"--out": "-o", "--transform": "-t", "--jobs": "-j", "--quiet": "-q", "--verbose": "-v"}
# Of other commands: the test that shows what an option does, "cli/info x": test_info.py, test_x.
SHOWN = {
    "regcli": {"--version": "cli/main version_is_one_line"},
    "apply": {
        "--transform": "cli/apply a_record_a_list_of_files_and_a_composite_do_the_same",
        "--out": "cli/apply the_registered_image_comes_out_as_it_did_then",
        "--inverse": "cli/apply points_keep_their_columns_and_say_so",
        "--interp": "cli/every_flag apply_interpolates_and_takes_frames_as_asked",
        "--reference": "cli/apply a_reference_decides_the_grid",
        "--points-space": "commands/apply points_of_every_space_go_the_same_way",
        "--frame": "cli/every_flag apply_interpolates_and_takes_frames_as_asked",
        "--allow-geometry-mismatch": "cli/apply another_geometry_is_refused_unless_allowed",
        "--force": "cli/apply inputs_and_results_are_never_written_over",
        "--json": "cli/apply json_says_what_became_of_every_input",
        "--quiet": "cli/apply json_says_what_became_of_every_input",
    },
    "jacobian": {
        "--out": "cli/jacobian a_result_folder_gives_the_numbers_of_its_report",
        "--mask": "cli/jacobian a_mask_is_where_numbers_are_taken",
        "--total": "cli/jacobian total_multiplies_by_the_affine",
        "--force": "cli/every_flag jacobian_replaces_by_force_and_says_nothing_if_asked",
        "--json": "cli/jacobian a_result_folder_gives_the_numbers_of_its_report",
        "--quiet": "cli/every_flag jacobian_replaces_by_force_and_says_nothing_if_asked",
    },
    "evaluate": {
        "--transform": "cli/evaluate a_result_folder_scores_as_its_report_says",
        "--fixed-labels": "commands/evaluate/run numbers_by_hand",
        "--moved-labels": "commands/evaluate/run numbers_by_hand",
        "--moving-labels": "cli/evaluate a_result_folder_scores_as_its_report_says",
        "--points": "cli/evaluate points_are_given_together_or_one_by_one",
        "--fixed-points": "cli/evaluate points_are_given_together_or_one_by_one",
        "--moved-points": "cli/evaluate points_are_given_together_or_one_by_one",
        "--moving-points": "cli/evaluate points_are_given_together_or_one_by_one",
        "--warp": "cli/evaluate folds_are_those_of_jacobian",
        "--l2r": "cli/evaluate_task a_task_gives_the_numbers_of_its_definitions",
        "--data": "cli/evaluate_task data_and_fields_may_lie_anywhere",
        "--labels": "cli/evaluate the_table_is_the_result_where_nothing_else_is_asked_for",
        "--points-space": "commands/evaluate/run points_of_every_space_have_the_same_error",
        "--mask": "cli/evaluate folds_are_those_of_jacobian",
        "--fail-on": "cli/evaluate a_gate_ends_it_after_all_is_written",
        "--out": "cli/evaluate a_result_folder_scores_as_its_report_says",
        "--force": "cli/evaluate a_result_folder_scores_as_its_report_says",
        "--json": "cli/evaluate json_is_told_on_stdout_and_nothing_is_written",
        "--quiet": "cli/evaluate json_is_told_on_stdout_and_nothing_is_written",
    },
    "features": {
        "--out": "cli/features paths_go_to_stdout_and_the_table_to_stderr",
        "--weights": "cli/features paths_go_to_stdout_and_the_table_to_stderr",
        "--frame": "cli/features a_frame_of_a_4d_image_is_taken",
        "--device": "cli/features what_cannot_be_done_is_refused_before_any_computing",
        "--threads": "cli/features paths_go_to_stdout_and_the_table_to_stderr",
        "--force": "cli/features paths_go_to_stdout_and_the_table_to_stderr",
        "--json": "cli/features paths_go_to_stdout_and_the_table_to_stderr",
        "--quiet": "cli/features paths_go_to_stdout_and_the_table_to_stderr",
    },
    "train": {
        "--out": "cli/train label_maps_alone_give_weights_a_card_a_log_and_a_picture",
        "--synth": "cli/train label_maps_alone_give_weights_a_card_a_log_and_a_picture",
        "--model": "cli/steps baselines_are_trained_by_the_same_command",
        "--recipe": "cli/train_recipe a_recipe_joins_collections_and_a_copy_of_a_run_is_finished",
        "--start": "cli/train training_begins_with_other_weights_if_asked_to",
        "--resume": "cli/train a_run_that_was_killed_goes_on_as_if_it_had_not_been",
        "--max-time": "cli/steps steps_are_trained_resumed_and_registered_with",
        "--quiet": "cli/flags_of_jobs training_is_told_of_unless_it_is_to_be_quiet",
        "--no-progress": "cli/flags_of_jobs training_is_told_of_unless_it_is_to_be_quiet",
    },
    "batch": {
        "--out": "cli/batch rows_are_done_and_the_worst_told_first",
        "--jobs": "cli/batch a_killed_batch_leaves_no_process_and_goes_on_to_the_same_bytes",
        "--dask": "cli/batch dask_that_is_not_installed_is_named",
        "--index": "batch/run jobs_of_an_array_take_their_rows_and_are_joined",
        "--resume": "cli/batch rows_are_done_and_the_worst_told_first",
        "--json": "cli/batch json_alone_is_on_stdout_and_quiet_tells_errors_only",
        "--quiet": "cli/batch json_alone_is_on_stdout_and_quiet_tells_errors_only",
        "--verbose": "cli/batch rows_are_done_and_the_worst_told_first",
        "--no-progress": "cli/batch one_bar_is_shown_on_a_terminal_if_wanted",
    },
    "info": {"--json": "cli/info json_describes_every_file"},
    "weights list": {"--json": "cli/weights list_names_what_there_is"},
    "weights show": {"--json": "cli/weights show_prints_the_card_and_the_header"},
}
ALONE = ("--sweep", "--log")  # options of register that a batch has not
TYPERS = {"--install-completion", "--show-completion"}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """What the tables name in braces."""
    folder = tmp_path_factory.mktemp("every flag")
    scans = write_pair(folder, pair(SPACE, linear=False))
    names = {key: value for key, value in vars(scans).items() if key != "truth"}
    image = scans.truth.moving
    near = torch.zeros(SPACE.shape)
    near[:6] = 1
    names["mask"] = write_voxels(folder / "mask.nii.gz", near, image)
    names["half"] = write_voxels(folder / "half.nii.gz", 1 - 0.99 * near, image, "float32")
    moving = nib.load(scans.moving)
    frames = np.stack([np.asarray(moving.dataobj), np.asarray(nib.load(scans.fixed).dataobj)], -1)
    names["frames"] = folder / "frames.nii.gz"
    nib.save(nib.Nifti1Image(frames, moving.affine), names["frames"])
    names["toml"] = folder / "recipe.toml"
    names["toml"].write_text('transform = "freeform"\n')
    names["slicer"] = folder / "points.fcsv"
    names["slicer"].write_text("# CoordinateSystem = LPS\n# columns = id,x,y,z\n1,1,2,3\n")
    names["dio"] = write_weights(folder / "mine.safetensors", spacing_mm=8.0, volumes=WIDE)
    for kind in ("deq", "unroll"):
        path = folder / f"{kind}.safetensors"
        names["steps" if kind == "deq" else kind] = write_steps(
            path, model=kind, spacing_mm=8.0, levels=1
        )
    return names


@pytest.fixture(scope="module")
def earlier():
    """Runs that others are compared with, by what they were given."""
    return {}


@pytest.fixture
def register(run, files, earlier, tmp_path_factory, monkeypatch):
    """register("--seed", "5") registers the pair into a folder of its own."""
    check, seen = pipeline.check_pair, []

    def watched(*arguments):
        seen.append(torch.get_deterministic_debug_mode())
        return check(*arguments)

    monkeypatch.setattr(pipeline, "check_pair", watched)
    stub = "regcli.commands.sweep.run.draw_tradeoff"  # takes longer than all else
    monkeypatch.setattr(stub, lambda record, path: path.write_bytes(b"PNG"))

    def command(*arguments):
        tmp = tmp_path_factory.mktemp("run")
        names = files | {"tmp": tmp, "done": tmp / "done"}
        if PLAIN in earlier:
            done = earlier[PLAIN].out
            names |= {"record": done / "regcli.json", "warp": done / "composite.h5"}
            if "{done}" in arguments:
                shutil.copytree(done, names["done"])
        filled = [str(part).format_map(names) for part in arguments]
        moving = files["frames" if {"--frame", PLAIN[0]} <= set(filled) else "moving"]
        told = run("register", files["fixed"], moving, "-o", tmp / "out", *filled)
        return Run(told, tmp / "out", seen[-1] if seen else 0)

    if PLAIN not in earlier:
        earlier[PLAIN] = command(*PLAIN)
    return command


@pytest.mark.parametrize("option", ACTS)
def test_an_option_of_register_acts_as_it_promises(register, earlier, option, monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: option == "--no-progress")
    arguments, promised, *given = ACTS[option]
    without = tuple(given[0]) if given else PLAIN
    for words in (without, (*without, *arguments)):
        if words not in earlier:
            earlier[words] = register(*words)
    assert promised(earlier[without], earlier[*without, *arguments])


@pytest.mark.parametrize("options", REFUSED)
def test_what_would_have_no_effect_is_refused_and_named(register, options):
    words = options.replace("LABELS", " ".join(LABELS)).replace("POINTS", " ".join(POINTS)).split()
    ended = register(*words)
    assert ended.told.fails(2, words[0])
    assert not ended.out.exists()


@pytest.mark.parametrize("option", EMPTY)
def test_an_option_without_a_value_is_not_overlooked(register, option):
    assert register(option, "").told.fails(2)


def _options(command, path=()):
    """(command, option) of every option of a command and those below it."""
    for option in command.params:
        if option.param_type_name == "option":
            yield " ".join(path) or "regcli", max(option.opts, key=len)
    for name, below in getattr(command, "commands", {}).items():
        yield from _options(below, (*path, name))


def test_the_tables_name_every_option_of_every_command():
    shown = SHOWN | {"register": ACTS, "train": SHOWN["train"] | PLANNED}
    # see cli/batch every_option_of_register_is_that_of_each_row
    shown["batch"] = SHOWN["batch"] | {name: "" for name in ACTS if name not in ALONE}
    named = {(command, option) for command, options in shown.items() for option in options}
    found = set(_options(typer.main.get_command(cli.app)))
    assert {(command, name) for command, name in found if name not in TYPERS} == named


@pytest.mark.parametrize(
    ("command", "option"), [(command, option) for command, own in SHOWN.items() for option in own]
)
def test_the_test_that_a_table_refers_to_gives_the_option(command, option):
    """Or it asks the library, and what the option gives to that is tested with the other jobs."""
    file, name = SHOWN[command][option].split()
    folder, _, subject = file.rpartition("/")
    path = Path(__file__).parents[1] / folder / f"test_{subject}.py"
    words = _words(ast.parse(path.read_text(encoding="utf-8")), f"test_{name}")
    parsed = {given for key in GIVEN if key.split()[0] == command for given in GIVEN[key][1]}
    assert words
    assert option in parsed or words & {option, SHORT.get(option)}


def _words(tree, name):
    """The words of all texts in a function of a module, and in what it uses of the module."""
    parts = {}
    for part in tree.body:
        for target in getattr(part, "targets", [part]):
            parts[getattr(target, "id", getattr(target, "name", None))] = part
    words, left = set(), [name]
    while left:
        if (part := parts.pop(left.pop(), None)) is None:
            continue
        for node in ast.walk(part):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                words |= set(node.value.split())
            left += [n for n in (getattr(node, "id", None), getattr(node, "arg", None)) if n]
    return words


def test_apply_interpolates_and_takes_frames_as_asked(run, register, earlier, files, tmp_path):
    frames = ("apply", "-t", earlier[PLAIN].out, files["frames"], "-q")
    cases = {"linear": 0, "nearest": 0, "second": 1}
    images = {}
    for name, frame in cases.items():
        options = ("--frame", frame, "--interp", "nearest" if name == "nearest" else "linear")
        assert run(*frames, *options, "-o", tmp_path / name).code == 0
        images[name] = nib.load(tmp_path / name / "frames.nii.gz").get_fdata()
    assert (images["linear"] == earlier[PLAIN].warped).all()
    assert (images["nearest"] != images["linear"]).any()
    assert (images["second"] != images["linear"]).any()


def test_jacobian_replaces_by_force_and_says_nothing_if_asked(run, register, earlier, tmp_path):
    command = ("jacobian", earlier[PLAIN].out, "-o", tmp_path / "j")
    assert "folds" in run(*command).err
    assert run(*command).fails(4, "--force")
    told = run(*command, "--force", "-q")
    assert (told.code, told.err) == (0, "")
    warp = ("jacobian", earlier[PLAIN].out / "warp.nii.gz", "-o", tmp_path / "k")
    assert run(*warp, "--total").fails(2, "--total")
