"""regcli apply."""

import json
from pathlib import Path
from typing import Annotated

import typer

from regcli.cli.common import Verbosity, parse_frame, print_paths
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
        typer.Option(
            "-t",
            "--transform",
            help="A result folder, its regcli.json, or ITK files in ANTs order (repeat -t).",
        ),
    ],
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder, created; names are kept.")],
    inverse: Annotated[
        bool, typer.Option("--inverse", help="Fixed to moving. Default moving to fixed.")
    ] = False,
    interp: Annotated[
        InterpolationName, typer.Option(help="auto: label for codes, else linear.")
    ] = "auto",
    reference: Annotated[
        Path | None, typer.Option(help="Image whose grid carried images get.")
    ] = None,
    points_space: Annotated[PointSpaceName, typer.Option(help="Of CSV points.")] = "ras",
    frame: Annotated[str | None, typer.Option(help="Of 4-D images: a number, or mean.")] = None,
    allow_geometry_mismatch: Annotated[
        bool,
        typer.Option("--allow-geometry-mismatch", help="Carry images of another grid too."),
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace what is there.")] = False,
    json_output: Annotated[bool, typer.Option("--json", help="Print what was done.")] = False,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Errors only.")] = False,
) -> None:
    """Carry images, label maps and points by a registration, moving to fixed."""
    verbosity = Verbosity.of(quiet, verbose=False)

    from regcli.carry import Carrying, apply_files

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
        how = item.get("interpolation") or f"{item['number']} points"
        verbosity.say(f"{item['input']}: {item['kind']}, {how}")
    if json_output:
        typer.echo(json.dumps(done, indent=1))
    else:
        print_paths([item["output"] for item in done])
