"""How much faster `regcli batch -j N` is than a shell loop of `regcli register` on the same pairs.

    python benchmarks/batch_throughput.py [--pairs 8] [--jobs 2] [--spacing 4] [register options]

Pairs are phantoms of examples/phantom.py. Both ways write the same files; the loop's processes use
all cores, as they do unless told otherwise, and the batch starts its workers within its time.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PHANTOM = Path(__file__).parents[1] / "examples" / "phantom.py"
REGCLI = (sys.executable, "-m", "regcli")


def measure(pairs: int, jobs: int, spacing: float, options: list[str]) -> dict[str, float]:
    """Wall seconds of both ways, and their ratio.

    Args:
        pairs: How many.
        jobs: Workers of the batch.
        spacing: Of the phantoms, mm.
        options: Of `regcli register`.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make = (sys.executable, PHANTOM, folder / "pair", "--spacing", str(spacing))
        subprocess.run(list(map(str, make)), check=True, stdout=subprocess.DEVNULL)
        rows = [f"pair/fixed.nii.gz,pair/moving.nii.gz,r{n}" for n in range(pairs)]
        (folder / "pairs.csv").write_text("\n".join(["fixed,moving,out", *rows]))
        one = [*REGCLI, "register", "pair/fixed.nii.gz", "pair/moving.nii.gz", "-q", *options]
        _run(folder, *one, "-o", "warm")  # compiles loops, if that has not been done
        loop = sum(_run(folder, *one, "-o", f"loop/r{n}") for n in range(pairs))
        batch = [*REGCLI, "batch", "pairs.csv", "-o", "batch", "-q", *options]
        together = _run(folder, *batch, "-j", str(jobs))
        for n in range(pairs):
            same = [
                (folder / way / f"r{n}" / "affine.mat").read_bytes() for way in ("loop", "batch")
            ]
            assert same[0] == same[1], "the ways differ in what they find"
        shutil.rmtree(folder / "batch")
    return {"loop_s": loop, "batch_s": together, "ratio": loop / together}


def _run(folder: Path, *command: str) -> float:
    began = time.monotonic()
    subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
    return time.monotonic() - began


def main() -> None:
    """Measure, and print a line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--pairs", type=int, default=8)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--spacing", type=float, default=4)
    known, options = parser.parse_known_args()
    found = measure(known.pairs, known.jobs, known.spacing, options)
    print(
        f"{known.pairs} pairs: loop {found['loop_s']:.1f} s, batch -j {known.jobs} "
        f"{found['batch_s']:.1f} s, {found['ratio']:.2f} times as fast"
    )


if __name__ == "__main__":
    main()
