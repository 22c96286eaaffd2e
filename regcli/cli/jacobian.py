"""regcli jacobian."""

import json
from pathlib import Path
from typing import Annotated

import typer

from regcli.cli.common import Verbosity, emit, folder, option, print_paths

EXAMPLES = """Examples:

  regcli jacobian out/ -o jacobian/

  regcli jacobian sub-01_1Warp.nii.gz --mask brain_mask.nii.gz -o jacobian/

  regcli jacobian out/ --total --json -o jacobian/"""


def jacobian(
    warp: Annotated[
        Path, typer.Argument(help="A result folder, a displacement field, or .h5.", metavar="WARP")
    ],
    out: Annotated[Path, option("Folder, created.", "DIR", "-o", "--out", parser=folder)],
    mask: Annotated[
        Path | None, option("Where numbers are taken; default everywhere.", "FILE")
    ] = None,
    total: Annotated[
        bool, option("Include the affine's determinant in the maps.", "", "--total")
    ] = False,
    force: Annotated[bool, option("Replace what is there.", "", "--force")] = False,
    json_output: Annotated[bool, option("Print jacobian.json.", "", "--json")] = False,
    quiet: Annotated[bool, option("Errors only.", "", "-q", "--quiet")] = False,
) -> None:
    """Write the Jacobian determinant of a warp, its logarithm, and their summary."""
    verbosity = Verbosity.of(quiet, verbose=False)

    from regcli.commands.jacobian import jacobian_files

    summary = jacobian_files(warp, out, mask=mask, total=total, force=force)
    told = ("folds_percent", "ndv_percent", "min", "max", "sdlogj")
    folds, volume, least, most, spread = (_shown(summary[name]) for name in told)
    verbosity.say(
        f"folds {folds} %, ndv {volume} %, determinant {least} to {most}, sdlogj {spread}"
    )
    if json_output:
        emit(json.dumps(summary, indent=1))
    else:
        print_paths([str(out / name) for name in summary["outputs"]])


def _shown(value: float | None) -> str:
    return "beyond numbers" if value is None else f"{value:.4g}"
