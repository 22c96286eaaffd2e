"""regcli features."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from regcli.cli.common import (
    Verbosity,
    console,
    emit,
    folder,
    option,
    parse_frame,
    print_paths,
    progress,
    weights_name,
)

EXAMPLES = """Examples:

  regcli features t1.nii.gz -o features/

  regcli features t1.nii.gz --weights run/best.safetensors -o features/

  regcli features bold.nii.gz --frame mean --json -o features/

Files in DIR, for each level, such as 2mm: image, features, pca, rank and
singular_values (.nii.gz); and features.png, features.json."""


def features(
    image: Annotated[Path, typer.Argument(help="3-D: NIfTI, MHA, NRRD or MGZ.", metavar="IMAGE")],
    out: Annotated[Path, option("Folder, created.", "DIR", "-o", "--out", parser=folder)],
    weights: Annotated[
        str | None,
        option(
            "Of dio: a name (regcli weights list) or a file; default dio-brain.",
            "NAME",
            parser=weights_name,
        ),
    ] = None,
    frame: Annotated[str | None, option("Of 4-D images: a number from 0, or mean.", "N")] = None,
    device: Annotated[str, option("auto, cpu, cuda, cuda:N or mps.", "NAME")] = "auto",
    threads: Annotated[int | None, option("Default all cores.", "N", least=1)] = None,
    force: Annotated[bool, option("Replace what is there.", "", "--force")] = False,
    json_output: Annotated[bool, option("Print features.json.", "", "--json")] = False,
    quiet: Annotated[bool, option("Errors only.", "", "-q", "--quiet")] = False,
) -> None:
    """Write what a network says of an image, and in how many directions that can move it."""
    verbosity = Verbosity.of(quiet, verbose=False)
    frames = parse_frame(frame)

    from regcli.commands.features.run import FeatureJob, features_files
    from regcli.io.weights import DEFAULT

    job = FeatureJob(
        image,
        out,
        weights=weights or DEFAULT,
        frame=frames,
        device=device,
        threads=threads or 0,
        force=force,
        command=("regcli", *sys.argv[1:]),
    )
    with progress(verbosity, bars=True) as watch:
        record = features_files(job, watch)
    if verbosity.level:
        _tell(record, verbosity)
    if json_output:
        emit(json.dumps(record, indent=1))
    else:
        print_paths(list(record["outputs"].values()))


def _tell(record: dict[str, Any], verbosity: Verbosity) -> None:
    """The levels as a table, what it means, and warnings."""
    table = Table("level", "voxels", "PCA %", "rank 0", "1", "2", "3", box=None)
    for column in table.columns[1:]:
        column.justify = "right"
    for level in record["levels"]:
        explained = " ".join(f"{100 * share:.0f}" for share in level["pca_explained"])
        percent = (f"{share:.1f} %" for share in level["rank"]["percent"])
        table.add_row(level["name"], f"{level['foreground_voxels']:,}", explained, *percent)
    console().print(table)
    verbosity.say(
        "rank: in how many directions features can move a voxel; of an image alone it is 1 at most."
    )
    for warning in record["warnings"]:
        verbosity.say(f"warning: {warning}")
    verbosity.say(f"done in {record['seconds']['total']:.1f} s")
