"""The same weights with every family of maps, one after another.

    python benchmarks/families.py CASES WEIGHTS... [--families NAME...] [--json FILE]

CASES is a folder with a folder for each pair: fixed, moving, fixed_seg and moving_seg (.nii.gz),
the last two being label maps with FreeSurfer's codes. WEIGHTS are names or files, or "classical".
Dice and HD95 are means over the structures that label maps of heads are usually judged by. Each
registration is a process of its own.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

FAMILIES = ("freeform", "svf", "diffeo", "geodesic", "bspline")
# cerebral and cerebellar white matter and cortex, deep grey nuclei, ventricles, brain stem
STRUCTURES = (2, 3, 4, 7, 8, 10, 11, 12, 13, 14, 15, 16, 17, 18, 26, 28)
STRUCTURES += (41, 42, 43, 46, 47, 49, 50, 51, 52, 53, 54, 58, 60)
SCORES = {
    "dice": ".3f",
    "hd95_mm": ".2f",
    "folds_percent": ".3f",
    "ndv_percent": ".4f",
    "sdlogj": ".2f",
    "solve_s": ".1f",
}
console = Console(width=100)


def main() -> None:
    """Register, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cases", type=Path)
    parser.add_argument("weights", nargs="+")
    parser.add_argument("--families", nargs="+", default=FAMILIES)
    parser.add_argument("--pairs", default="*", help="names of the pairs, with * for any")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    pairs = sorted(path for path in asked.cases.glob(asked.pairs) if path.is_dir())
    if not pairs:
        raise SystemExit(f"{asked.cases} has no folder {asked.pairs}.")
    rows: list[dict[str, Any]] = []
    for pair in pairs:
        for weights in asked.weights:
            for family in asked.families:
                rows.append(register(pair, weights, family, asked.threads))
                if asked.json:  # long runs are looked at before they end
                    asked.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    show(rows)


def register(pair: Path, weights: str, family: str, threads: int) -> dict[str, Any]:
    """What one registration scored."""
    model = ["--model", "classical"] if weights == "classical" else ["--weights", weights]
    if "dio" in weights:
        model += ["--model", "dio"]
    with tempfile.TemporaryDirectory() as out:
        images = [pair / f"{side}.nii.gz" for side in ("fixed", "moving")]
        command = [sys.executable, "-m", "regcli", "register", *images, "-o", Path(out) / "out"]
        command += [*model, "--transform", family, "--threads", threads, "-q", "--json"]
        for side in ("fixed", "moving"):
            command += [f"--{side}-labels", pair / f"{side}_seg.nii.gz"]
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{pair.name}, {family}: {done.stderr}")
    report = json.loads(done.stdout)
    scores = {
        name: statistics.fmean(
            report["labels"][key]["per_label"][str(code)]
            for code in STRUCTURES
            if str(code) in report["labels"][key]["per_label"]
        )
        for name, key in (("dice", "dice"), ("hd95_mm", "hd95_mm"))
    }
    return {
        "pair": pair.name,
        "weights": weights,
        "family": family,
        **scores,
        "folds_percent": report["jacobian"]["folds_percent"],
        "ndv_percent": report["jacobian"]["ndv_percent"],
        "sdlogj": report["jacobian"]["sdlogj"],
        "solve_s": report["seconds"]["solve"],
        "total_s": report["seconds"]["total"],
    }


def show(rows: list[dict[str, Any]]) -> None:
    """Means over the pairs, by weights and family."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        groups[row["weights"], row["family"]].append(row)
    table = Table("weights", "map", "Dice", "HD95, mm", "folds, %", "ndv, %", "SDlogJ", "solve, s")
    for (weights, family), group in groups.items():
        cells = (
            f"{statistics.fmean(row[key] for row in group):{form}}" for key, form in SCORES.items()
        )
        table.add_row(weights, family, *cells)
    console.print(table)


if __name__ == "__main__":
    main()
