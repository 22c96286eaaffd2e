"""regcli evaluate."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

from regcli.cli.common import Verbosity, emit, folder, listed, option, print_paths
from regcli.cli.evaluation import tables, task_table
from regcli.cli.register import PointSpaceName
from regcli.errors import RecipeError

EXAMPLES = """Examples:

  regcli evaluate --fixed-labels a.nii.gz --moved-labels carried/b.nii.gz

  regcli evaluate -t out/ --fixed-labels a.nii.gz --moving-labels b.nii.gz

  regcli evaluate -t out/ --points a.csv b.csv --fail-on "tre>2mm" -o scores/

  regcli evaluate --l2r OASIS_VAL_evaluation_config.json --warp submission/

Without -o and --json the table goes to stdout."""

_WHAT, _HOW, _RUN = "What to compare", "How", "How to run"


def evaluate(
    transform: Annotated[
        list[Path] | None,
        option(
            "Carries what is moving; its folds are counted. As of regcli apply.",
            "DIR|FILE",
            "-t",
            "--transform",
            panel=_WHAT,
        ),
    ] = None,
    fixed_labels: Annotated[
        Path | None, option("Label map; its grid is that of the comparison.", "FILE", panel=_WHAT)
    ] = None,
    moved_labels: Annotated[
        Path | None, option("Label map, carried already.", "FILE", panel=_WHAT)
    ] = None,
    moving_labels: Annotated[
        Path | None, option("Label map that -t carries.", "FILE", panel=_WHAT)
    ] = None,
    points: Annotated[
        tuple[Path, Path] | None,
        option(
            "The same as --fixed-points A and, with -t, --moving-points B, else --moved-points B.",
            "A B",
            panel=_WHAT,
        ),
    ] = None,
    fixed_points: Annotated[
        Path | None, option("CSV with x, y, z, or .fcsv.", "FILE", panel=_WHAT)
    ] = None,
    moved_points: Annotated[
        Path | None, option("The same points, carried already.", "FILE", panel=_WHAT)
    ] = None,
    moving_points: Annotated[
        Path | None, option("Where -t should take the fixed points.", "FILE", panel=_WHAT)
    ] = None,
    warp: Annotated[
        Path | None,
        option(
            "Result or warp whose folds are counted. With --l2r the folder of fields.",
            "DIR|FILE",
            panel=_WHAT,
        ),
    ] = None,
    l2r: Annotated[
        Path | None,
        option("As Learn2Reg's evaluator: an *_evaluation_config.json.", "TASK.json", panel=_WHAT),
    ] = None,
    data: Annotated[
        Path | None,
        option("With --l2r: folder of images, labels, landmarks.", "DIR", panel=_WHAT),
    ] = None,
    labels: Annotated[
        str | None, option("Codes to compare; default all but 0.", "A,B", panel=_HOW)
    ] = None,
    points_space: Annotated[
        PointSpaceName, option("Of CSV points: ras, lps (mm) or voxel.", "NAME", panel=_HOW)
    ] = "ras",
    mask: Annotated[
        Path | None, option("Where folds are counted; default everywhere.", "FILE", panel=_HOW)
    ] = None,
    fail_on: Annotated[
        list[str] | None,
        option('Exit 6 if so, such as "dice<0.7"; repeat it.', "GATE", panel=_RUN),
    ] = None,
    out: Annotated[
        Path | None,
        option(
            "Folder for evaluate.json and .csv, created.",
            "DIR",
            "-o",
            "--out",
            panel=_RUN,
            parser=folder,
        ),
    ] = None,
    force: Annotated[bool, option("Replace what is there.", "", "--force", panel=_RUN)] = False,
    json_output: Annotated[bool, option("Print evaluate.json.", "", "--json", panel=_RUN)] = False,
    quiet: Annotated[
        bool, option("Errors and results only.", "", "-q", "--quiet", panel=_RUN)
    ] = False,
) -> None:
    """Measure overlap, surface distance, landmark error and folds; or a Learn2Reg task."""
    verbosity = Verbosity.of(quiet, verbose=False)
    command = ("regcli", *sys.argv[1:])
    if l2r is not None:
        given = {
            **{"transform": transform, "fixed-labels": fixed_labels, "moved-labels": moved_labels},
            **{"moving-labels": moving_labels, "points": points, "fixed-points": fixed_points},
            **{"moved-points": moved_points, "moving-points": moving_points, "mask": mask},
            **{"labels": labels, "fail-on": fail_on, "points-space": points_space != "ras"},
        }
        for name in [name for name, value in given.items() if value]:
            raise RecipeError(f"--{name} has no effect with --l2r.", "The task says what to do.")

        from regcli.commands.evaluate.learn2reg import TaskJob, task_files

        record = task_files(TaskJob(l2r, warp, data, out, force, command))
        _tell(record, task_table(record), verbosity, json_output)
        return
    if data is not None:
        raise RecipeError("--data has no effect without --l2r.", "Leave it out.")
    if points is not None and (fixed_points or moved_points or moving_points):
        raise RecipeError("--points and another of points were both given.", "Give one of them.")
    if points is not None:
        fixed_points = points[0]
        moved_points, moving_points = (None, points[1]) if transform else (points[1], None)

    from regcli.commands.evaluate.job import Evaluation
    from regcli.commands.evaluate.run import check_gates, evaluate_files

    job = Evaluation(
        transforms=tuple(transform or ()),
        fixed_labels=fixed_labels,
        moved_labels=moved_labels,
        moving_labels=moving_labels,
        fixed_points=fixed_points,
        moved_points=moved_points,
        moving_points=moving_points,
        points_space=points_space,
        codes=_codes(labels),
        warp=warp,
        mask=mask,
        out=out,
        force=force,
        fail_on=tuple(fail_on or ()),
        command=command,
    )
    record = evaluate_files(job)
    _tell(record, tables(record), verbosity, json_output)
    check_gates(job, record)


def _tell(record: dict[str, Any], text: str, verbosity: Verbosity, json_output: bool) -> None:
    """The table, on stdout if there is no other result; then JSON or paths."""
    for warning in record["warnings"]:
        verbosity.say(f"warning: {warning}")
    if not json_output and not record["outputs"]:
        emit(text)
        return
    verbosity.say(text)
    if json_output:
        emit(json.dumps(record, indent=1))
    else:
        print_paths(list(record["outputs"].values()))


def _codes(text: str | None) -> tuple[int, ...]:
    try:
        return tuple(int(code) for code in listed("--labels", text))
    except ValueError:
        raise RecipeError(
            f"--labels '{text}': codes are whole numbers.", "Write them like 2,3,4."
        ) from None
