"""Whole registrations, each in a process of its own, as users run them."""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
DATA = Path(os.environ.get("REGCLI_DATA", ROOT.parent / "shared" / "data"))
REAL = {
    "head, 2 mm": ("heads/mni152_2mm_T1w.nii.gz", "heads/subject_2mm_T1w.nii.gz"),
    "brain, 1 mm": ("brains/oasis-a_T1w.nii.gz", "brains/oasis-b_T1w.nii.gz"),
}


def first_use(fixed: Path, moving: Path, threads: int) -> float:
    """Seconds by which the very first run is slower: it compiles the loops."""
    with tempfile.TemporaryDirectory() as cache:
        runs = [
            register("", fixed, moving, threads, {"NUMBA_CACHE_DIR": cache})["wall_s"]
            for _ in range(2)
        ]
    return runs[0] - runs[1]


def register(
    name: str, fixed: Path, moving: Path, threads: int, environment: dict[str, str] | None = None
) -> dict[str, Any]:
    """Times, memory and quality of one run of the command line."""
    with tempfile.TemporaryDirectory() as out:
        command = [sys.executable, "-m", "regcli", "register", str(fixed), str(moving)]
        command += ["-o", str(Path(out) / "out"), "--threads", str(threads), "-q", "--json"]
        began = time.perf_counter()
        changed = os.environ | (environment or {})
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=changed
        ) as process:
            assert process.stdout is not None
            told = process.stdout.read()
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        wall = time.perf_counter() - began
    if process.returncode:
        raise SystemExit(f"{name}: regcli ended with exit code {process.returncode}.")
    report = json.loads(told)
    i, j, k = report["fixed"]["shape"]
    return {
        "pair": name,
        "voxels": i * j * k,
        "threads": threads,
        "wall_s": wall,
        "cpu_s": usage.ru_utime + usage.ru_stime,
        "peak_mb": report["peak_memory_mb"]["cpu"],
        "seconds": report["seconds"],
        "similarity": report["similarity"]["after"],
        "ncc": report["similarity"]["ncc"]["after"],
        "folds": report["jacobian"]["folds_anywhere"],
    }


def phantom(spacing: float, folder: Path) -> tuple[Path, Path]:
    """A pair of head phantoms at a voxel size, mm."""
    out = folder / f"{spacing:g}"
    command = [sys.executable, str(ROOT / "examples" / "phantom.py"), str(out)]
    subprocess.run([*command, "--spacing", str(spacing)], check=True, capture_output=True)
    return out / "fixed.nii.gz", out / "moving.nii.gz"


def real() -> dict[str, tuple[Path, Path]]:
    """Pairs of real scans that are on this machine."""
    pairs = {name: (DATA / a, DATA / b) for name, (a, b) in REAL.items()}
    return {name: pair for name, pair in pairs.items() if all(p.exists() for p in pair)}
