"""regcli apply."""

import json
from pathlib import Path
from typing import Annotated

import typer

from regcli.cli.common import Verbosity, emit, folder, option, parse_frame, print_paths
from regcli.cli.register import InterpolationName, PointSpaceName

EXAMPLES = """Examples:

  regcli apply -t out/ moving.nii.gz moving_labels.nii.gz -o carried/

  regcli apply -t out/ atlas.nii.gz landmarks.csv --inverse -o back/

  regcli apply -t 1Warp.nii.gz -t 0GenericAffine.mat moving.nii.gz -o carried/"""


def apply(
    inputs: Annotated[
        list[Path],
        typer.Argument(help="Images, label maps, points (.csv, .fcsv).", metavar="FILE..."),
    ],
    transform: Annotated[
        list[Path],
        option(
            "A result folder, its regcli.json, or ITK files in ANTs order (repeat -t).",
            "DIR|FILE",
            "-t",
            "--transform",
        ),
    ],
    out: Annotated[
        Path, option("Folder, created; names are kept.", "DIR", "-o", "--out", parser=folder)
    ],
    inverse: Annotated[
        bool, option("Fixed to moving. Default moving to fixed.", "", "--inverse")
    ] = False,
    interp: Annotated[
        InterpolationName,
        option("auto (label for codes, else linear), linear, nearest, label, cubic.", "NAME"),
    ] = "auto",
    reference: Annotated[
        Path | None, option("Image whose grid carried images get.", "FILE")
    ] = None,
    points_space: Annotated[
        PointSpaceName, option("Of CSV points: ras, lps (mm) or voxel.", "NAME")
    ] = "ras",
    frame: Annotated[str | None, option("Of 4-D images: a number from 0, or mean.", "N")] = None,
    allow_geometry_mismatch: Annotated[
        bool, option("Carry images of another grid too.", "", "--allow-geometry-mismatch")
    ] = False,
    force: Annotated[bool, option("Replace what is there.", "", "--force")] = False,
    json_output: Annotated[bool, option("Print what was done.", "", "--json")] = False,
    quiet: Annotated[bool, option("Errors only.", "", "-q", "--quiet")] = False,
) -> None:
    """Carry images, label maps and points by a registration, moving to fixed."""
    verbosity = Verbosity.of(quiet, verbose=False)

    from regcli.commands.apply import Carrying, apply_files

    done = apply_files(
        Carrying(
            transforms=tuple(transform),
            inputs=tuple(inputs),
            out=out,
            inverse=inverse,
            interpolation=interp,
            reference=reference,
            points_space=points_space,
            frame=parse_frame(frame),
            any_geometry=allow_geometry_mismatch,
            force=force,
        )
    )
    for item in done:
        points = item["kind"] == "points"
        what = f"{item['number']} points" if points else f"{item['kind']}, {item['interpolation']}"
        verbosity.say(f"{item['input']}: {what}")
    if json_output:
        emit(json.dumps(done, indent=1))
    else:
        print_paths([item["output"] for item in done])
