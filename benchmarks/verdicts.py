"""What verdicts say of pairs that are as they should be, and of pairs broken on purpose.

    python benchmarks/verdicts.py RUNS [--spacing 2] [--jobs 2] [--data FOLDER] [register options]

Registers, as one batch, every ordered pair of the four OASIS brains, and one of them with a second
one that was turned over, turned by 45 degrees, cut, or exchanged for a head, for noise, for a body
that is no brain; one pair also with a mask of almost nothing, and with an empty one. Images are
copies with voxels of --spacing mm; 0 takes the files as they are, and registers what is whole.
Prints the table, and ends with 1 if a whole pair is not PASS or a broken one is.
"""

import argparse
import csv
import itertools
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import SimpleITK as sitk

PEOPLE = "abcd"
HEAD = "mni152_2mm_T1w.nii.gz"
REFUSED = "refused"


def resampled(image: sitk.Image, spacing: float) -> sitk.Image:
    """A copy with cubic voxels, smoothed first."""
    smooth = sitk.SmoothingRecursiveGaussian(image, 0.42 * spacing)
    sides = zip(image.GetSize(), image.GetSpacing(), strict=True)
    size = [int((n - 1) * h / spacing) + 1 for n, h in sides]
    place = (image.GetOrigin(), [spacing] * 3, image.GetDirection())
    return sitk.Resample(smooth, size, sitk.Transform(), sitk.sitkLinear, *place)


def turned(image: sitk.Image, axis: tuple[float, float, float]) -> sitk.Image:
    """What it shows, turned by 45 degrees about its centre."""
    turn = sitk.VersorRigid3DTransform()
    middle = [(n - 1) / 2 for n in image.GetSize()]
    turn.SetCenter(image.TransformContinuousIndexToPhysicalPoint(middle))
    turn.SetRotation(axis, np.pi / 4)
    return sitk.Resample(image, image, turn, sitk.sitkLinear, 0.0)


def body(like: sitk.Image) -> sitk.Image:
    """An ellipsoid with a dozen balls in it."""
    z, y, x = np.meshgrid(*(np.linspace(-1, 1, n) for n in like.GetSize()[::-1]), indexing="ij")
    draw = np.random.default_rng(0)
    data = 0.3 * ((z / 0.9) ** 2 + (y / 0.6) ** 2 + (x / 0.8) ** 2 < 1)
    for _ in range(12):
        a, b, c = draw.uniform(-0.5, 0.5, 3)
        ball = (z - a) ** 2 + (y - b) ** 2 + (x - c) ** 2 < draw.uniform(0.08, 0.3) ** 2
        data[ball] = draw.uniform(0.2, 1)
    return filled(data, like)


def filled(data: np.ndarray, like: sitk.Image) -> sitk.Image:
    """An image of these voxels on another's grid."""
    image = sitk.GetImageFromArray(data.astype(np.float32))
    image.CopyInformation(like)
    return image


def broken(b: sitk.Image, head: sitk.Image) -> dict[str, sitk.Image]:
    """What is given instead of b."""
    i, j, _ = b.GetSize()
    data = sitk.GetArrayFromImage(b)
    return {
        "turned over": filled(data[:, :, ::-1], b),
        "45 degrees about x": turned(b, (1, 0, 0)),
        "45 degrees about y": turned(b, (0, 1, 0)),
        "45 degrees about z": turned(b, (0, 0, 1)),
        "cut below": b[:, : int(0.55 * j), :],
        "cut above": b[:, int(0.4 * j) :, :],
        "cut in half": b[: i // 2, :, :],
        "a head": head,
        "noise": filled(np.random.default_rng(0).random(data.shape), b),
        "another body": body(b),
    }


def masks(a: sitk.Image) -> dict[str, sitk.Image]:
    """Masks of the fixed image that leave too little."""
    nothing = np.zeros(a.GetSize()[::-1])
    little = nothing.copy()
    k, j, i = (n // 2 for n in nothing.shape)
    little[k - 3 : k + 3, j - 3 : j + 3, i - 3 : i + 3] = 1
    return {"an empty mask": filled(nothing, a), "a mask of a few voxels": filled(little, a)}


def prepare(runs: Path, data: Path, spacing: float) -> list[dict[str, str]]:
    """Write the images; returns the rows of the batch, whose names say what they are."""
    folder = runs / "images"
    folder.mkdir(parents=True, exist_ok=True)
    files = {who: data / "brains" / f"oasis-{who}_T1w.nii.gz" for who in PEOPLE}
    rows = []
    if spacing:
        for who, path in files.items():
            copy = resampled(sitk.ReadImage(str(path), sitk.sitkFloat32), spacing)
            files[who] = folder / f"{who}.nii.gz"
            sitk.WriteImage(copy, str(files[who]))
        a, b = (sitk.ReadImage(str(files[who])) for who in "ab")
        head = sitk.ReadImage(str(data / "heads" / HEAD), sitk.sitkFloat32)
        for name, image in broken(b, head).items():
            path = folder / f"{name.replace(' ', '_')}.nii.gz"
            sitk.WriteImage(image, str(path))
            rows += [_row(f"b {name}", files["a"], path), _row(f"a {name}", path, files["a"])]
        for name, mask in masks(a).items():
            path = folder / f"{name.replace(' ', '_')}.nii.gz"
            sitk.WriteImage(mask, str(path))
            rows.append(_row(name, files["a"], files["b"]) | {"fixed_mask": str(path)})
    pairs = itertools.permutations(PEOPLE, 2)
    return [_row(f"whole {f}{m}", files[f], files[m]) for f, m in pairs] + rows


def _row(name: str, fixed: Path, moving: Path) -> dict[str, str]:
    """Of the batch."""
    out = name.replace(" ", "_")
    return {"fixed": str(fixed), "moving": str(moving), "out": out, "fixed_mask": ""}


def main() -> int:
    """Register, print the table, and say whether every verdict is right."""
    default = os.environ.get("REGCLI_DATA", "../shared/data")
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("runs", type=Path)
    parser.add_argument("--spacing", type=float, default=2)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--data", type=Path, default=Path(default))
    known, options = parser.parse_known_args()
    runs = known.runs.resolve()
    rows = prepare(runs, known.data.resolve(), known.spacing)
    with (runs / "pairs.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, rows[0])
        table.writeheader()
        table.writerows(rows)
    command = [sys.executable, "-m", "regcli", "batch", "pairs.csv", "-o", "out", "--resume", "-q"]
    command += ["-j", str(known.jobs), *options]
    subprocess.run(command, cwd=runs, check=False, stdout=subprocess.DEVNULL)
    with (runs / "out" / "summary.csv").open(newline="") as file:
        found = {row["out"]: row for row in csv.DictReader(file)}
    wrong = 0
    for row in rows:
        told = found[row["out"]]
        status = REFUSED if int(told["exit_code"]) else told["status"]
        whole = row["out"].startswith("whole")
        right = (status == "PASS") == whole
        wrong += not right
        mark = " " if right else "!"
        print(f"{mark} {row['out']:24} {status:8} {told['cause'] or told['reasons']}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
