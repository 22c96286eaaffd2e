"""What every option of `regcli register` does, and which ones are refused together."""

import json
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np

from regcli.registry import LINEAR

PLAIN = ("--model", "classical", "--init", "none", "--iterations", "2", "--threads", "1")
DEQ = ("--model", "deq", "--weights", "{steps}")
STEPS = (*PLAIN, *DEQ, "--transform", "freeform", "--iterations", "4")
BAR = "\x1b["  # moves the cursor
MODELS = ("auto", "classical", "dio")
LABELS = ("--fixed-labels", "{fixed_labels}", "--moving-labels", "{moving_labels}")
POINTS = ("--fixed-points", "{fixed_points}", "--moving-points", "{moving_points}")


@dataclass(frozen=True)
class Run:
    """A registration that was asked for, and what it left."""

    told: object
    out: Path
    exact: int

    @property
    def report(self):
        return json.loads((self.out / "regcli.json").read_text())

    @property
    def names(self):
        return {path.name for path in self.out.iterdir()}

    @property
    def solved(self):
        return self.report["solver"][-1]

    @property
    def warp(self):
        return np.squeeze(nib.load(self.out / "warp.nii.gz").get_fdata())

    @property
    def warped(self):
        return nib.load(self.out / "warped.nii.gz").get_fdata()

    def differs(self, other):
        """Whether the maps do, by more than rounding: mm."""
        return np.abs(self.warp - other.warp).max() > 0.01

    def after(self, part, name):
        return self.report[part][name]["after"]


def _length(run, part):
    return np.linalg.norm(run.warp, axis=-1)[part].mean()


# Of `register`: what is given besides; what differs from a run without it (a) in a run with it
# (b); and what both are given, if that is not PLAIN.
ACTS = {
    "--out": (["-o", "{tmp}/other"], lambda a, b: Path(b.told.out.split()[0]).parts[-2] == "other"),
    "--model": (DEQ, lambda a, b: b.solved["stage"] == "deq" != a.solved["stage"]),
    "--weights": (
        ["--weights", "{dio}"],
        lambda a, b: b.report["weights"]["name"] == "mine" and b.differs(a),
        [*PLAIN, "--model", "dio"],
    ),
    "--transform": (
        ["--transform", "freeform"],
        lambda a, b: b.solved["stage"] == "freeform" and b.differs(a),
    ),
    "--symmetric": (
        ["--symmetric"],
        lambda a, b: b.report["recipe"]["symmetric"] and b.differs(a),
    ),
    "--init": (
        ["--init", "header"],
        lambda a, b: "affine" in [level["stage"] for level in b.report["solver"]],
    ),
    "--metric": (
        ["--metric", "ssd"],
        lambda a, b: b.report["metric"] == ["ssd"] and b.differs(a),
    ),
    "--regularizer": (["--regularizer", "bending"], lambda a, b: b.differs(a)),
    "--smoothness": (
        ["--smoothness", "9"],
        lambda a, b: b.report["jacobian"]["sdlogj"] < 0.9 * a.report["jacobian"]["sdlogj"],
    ),
    "--smoothness-map": (
        ["--smoothness-map", "{half}"],  # 0.01 there
        lambda a, b: _length(b, np.s_[:6]) > 1.1 * _length(a, np.s_[:6]),
    ),
    "--restrict": (
        ["--restrict", "1x0x1"],
        lambda a, b: [b.warp[..., n].any() for n in range(3)] == [True, False, True],
    ),
    "--iterations": (["--iterations", "1"], lambda a, b: b.solved["steps"] < a.solved["steps"]),
    "--levels": (["--levels", "2"], lambda a, b: b.solved["shape"] < a.solved["shape"]),
    "--tol": (
        ["--tol", "0.5"],
        lambda a, b: b.solved["stopped"] == "converged" and b.solved["steps"] < a.solved["steps"],
        [*PLAIN, "--iterations", "7"],
    ),
    "--sweep": (
        ["--sweep", "smoothness=1,9"],
        lambda a, b: b.names >= {"sweep.csv", "smoothness=1", "smoothness=9"},
    ),
    "--solver": (["--solver", "anderson"], lambda a, b: b.differs(a), STEPS),
    "--diagnose": (["--diagnose"], lambda a, b: "spectral radius" in b.told.err, STEPS),
    "--interp": (["--interp", "nearest"], lambda a, b: (b.warped != a.warped).any()),
    "--fixed-mask": (["--fixed-mask", "{mask}"], lambda a, b: b.differs(a)),
    "--moving-mask": (["--moving-mask", "{mask}"], lambda a, b: b.differs(a)),
    "--fixed-labels": (LABELS, lambda a, b: "Dice" in b.told.err and b.report["labels"]),
    "--moving-labels": (LABELS, lambda a, b: "HD95" in b.told.err and not a.report["labels"]),
    "--fixed-points": (POINTS, lambda a, b: "TRE" in b.told.err and b.report["points"]),
    "--moving-points": (POINTS, lambda a, b: "TRE" in b.told.err and not a.report["points"]),
    "--use-labels": (
        ["--use-labels"],
        lambda a, b: b.after("labels", "dice") > a.after("labels", "dice"),
        [*PLAIN, *LABELS],
    ),
    "--use-points": (
        ["--use-points"],
        lambda a, b: b.after("points", "tre_mm") < a.after("points", "tre_mm"),
        [*PLAIN, *POINTS],
    ),
    "--points-space": (
        ["--points-space", "voxel"],
        lambda a, b: b.after("points", "tre_mm") > 1.1 * a.after("points", "tre_mm"),
        [*PLAIN, *POINTS],
    ),
    "--frame": (  # the first is the image, the second nearly so
        ["--frame", "0"],
        lambda a, b: b.differs(a),
        [*PLAIN, "--frame", "1"],
    ),
    "--write": (
        ["--write", "inverse_warped,log_jacobian,learn2reg"],
        lambda a, b: len(b.names - a.names) == 3,
    ),
    "--naming": (["--naming", "ants"], lambda a, b: "1Warp.nii.gz" in b.names - a.names),
    "--config": (["--config", "{toml}"], lambda a, b: b.solved["stage"] == "freeform"),
    "--preset": (["--preset", "fast"], lambda a, b: b.report["recipe"]["tol"] == 5e-3),
    "--device": (["--device", "cpu"], lambda a, b: b.report["recipe"]["device"] == "cpu"),
    "--threads": (["--threads", "2"], lambda a, b: [r.report["threads"] for r in (a, b)] == [1, 2]),
    "--seed": (
        ["--seed", "5"],
        lambda a, b: b.report["seed"] == 5 and b.report["diagnosis"] != a.report["diagnosis"],
        [*STEPS, "--diagnose"],
    ),
    "--deterministic": (["--deterministic"], lambda a, b: a.exact == 0 < b.exact),
    "--time-limit": (["--time-limit", "0.001"], lambda a, b: b.report["stopped"] == "time"),
    "--fail-on": (["--fail-on", "ncc<2"], lambda a, b: b.told.code == 6),
    "--force": (["--force"], lambda a, b: a.told.code == 4, [*PLAIN, "-o", "{done}"]),
    "--json": (["--json"], lambda a, b: json.loads(b.told.out) == b.report),
    "--log": (
        ["--log", "{tmp}/a.log"],
        lambda a, b: (b.out.parent / "a.log").read_text() == (b.out / "regcli.log").read_text(),
    ),
    "--quiet": (["-q"], lambda a, b: b.told.err == "" != a.told.err),
    "--verbose": (["-v"], lambda a, b: "2 steps" in b.told.err and "2 steps" not in a.told.err),
    "--no-progress": (
        ["--no-progress"],
        lambda a, b: BAR in a.told.err and BAR not in b.told.err,
        [*PLAIN, "--seed", "3"],
    ),
}

# Of `register`: combinations without effect, and what the refusal names first.
_LINEAR = ("iterations 9", "levels 2", "tol .1", "smoothness 2", "regularizer bending")
_LINEAR = (*_LINEAR, "restrict 1x1x0", "smoothness-map {half}", "init none", "preset fast")
_LINEAR = (*_LINEAR, "metric mi --metric ncc", "write log_jacobian", "fail-on folds>0")
_LINEAR = (*_LINEAR, "sweep smoothness=1,2")
_DEQ = ("metric ssd", "levels 2")
_DEQ = (*_DEQ, "iterations 9x9", "transform rigid", "transform diffeo:cap=2")
_DEQ = (*_DEQ, "sweep metric=ssd,ncc")
_SYMMETRIC = ("restrict 1x1x0", "smoothness-map {half}", "use-points POINTS", "init {warp}")
_UNROLL = ("solver anderson", "tol .1", "diagnose", "regularizer tv", "smoothness 2")
_UNROLL = (*_UNROLL, "symmetric", "restrict 1x1x0", "smoothness-map {half}", "use-points POINTS")
_UNROLL = (*_UNROLL, *(f"transform {name}" for name in ("svf", "geodesic", "bspline")))
REFUSED = (
    *(f"--{what} --transform rigid" for what in _LINEAR),
    *(f"--tol .1 --transform {family}" for family in LINEAR),
    *(f"--{what} --model deq --weights {{steps}}" for what in _DEQ),
    *(f"--{what} --weights {{steps}}" for what in _DEQ[:2]),  # which are of deq
    *(f"--{what} --model deq --weights {{unroll}}" for what in _UNROLL),
    *(f"--{what} --symmetric" for what in _SYMMETRIC),
    *(f"--symmetric --transform {family}" for family in ("svf", "bspline", *LINEAR)),
    *(f"--{what} --model {m}" for what in ("solver broyden", "diagnose") for m in MODELS),
    "--weights {dio} --model classical",
    "--weights {dio} --transform rigid",
    "--weights {dio} --metric ncc",
    "--sweep transform=diffeo,rigid --weights {dio}",
    "--restrict 1x1x0 --transform geodesic",
    "--use-labels",
    "--use-points",
    "--fixed-labels {fixed_labels}",
    "--moving-labels {moving_labels}",
    "--fixed-points {fixed_points}",
    "--moving-points {moving_points}",
    "--points-space lps",
    "--points-space lps --fixed-points {slicer} --moving-points {slicer}",
    "--frame 0",
    "--preset fast --config {record}",
    "--sweep tol=.1,.2 --tol .3",
    "--sweep tol=.1,.2 --log {tmp}/a.log",
    "--fail-on dice<.5",
    "--fail-on tre>1",
)
EMPTY = ("-o", "--weights", "--preset", "--write", "--model", "--transform", "--metric")
EMPTY = (*EMPTY, "--regularizer", "--restrict", "--iterations", "--levels", "--sweep", "--frame")
