"""What the options of commands decide of the jobs that these give to the library."""

from pathlib import Path

# Of `train`: what is given, and the part of the job that it decides.
PLANNED = {
    "--network": ("lku", "plan.network", "lku"),
    "--spacing": ("3", "plan.spacing_mm", 3.0),
    "--shape": ("33x17x17", "plan.shape", (33, 17, 17)),
    "--validation": ("s1, s2", "validation", ("s1", "s2")),
    "--transform": ("freeform", "plan.transform", "freeform"),
    "--adjoint": ("jfb", "plan.adjoint", "jfb"),
    "--warm-steps": ("5", "plan.warm_steps", 5),
    "--steps": ("5", "plan.steps", 5),
    "--epochs": ("5", "epochs", 5),
    "--batch": ("5", "plan.batch", 5),
    "--warm-lr": (".5", "plan.warm_rate", 0.5),
    "--cool": ("7", "plan.cool", 7),
    "--finish": ("done", "finish", Path("done")),
    "--lr": (".5", "plan.rate", 0.5),
    "--validate-every": ("5", "plan.validate_every", 5),
    "--seed": ("5", "plan.seed", 5),
    "--device": ("cpu", "plan.device", "cpu"),
    "--precision": ("bf16", "plan.precision", "bf16"),
    "--threads": ("5", "threads", 5),
    "--deterministic": (None, "deterministic", True),
}

# Of the others: what is given before each option; and for each of them its words, the part of the
# job that it decides, and what that becomes.
GIVEN = {
    "apply": (
        "apply a.nii.gz -t one.h5 -o out",
        {
            "--transform": ("-t two.mat", "transforms", (Path("one.h5"), Path("two.mat"))),
            "--out": ("-o other", "out", Path("other")),
            "--inverse": ("--inverse", "inverse", True),
            "--interp": ("--interp cubic", "interpolation", "cubic"),
            "--reference": ("--reference r.nii", "reference", Path("r.nii")),
            "--points-space": ("--points-space lps", "points_space", "lps"),
            "--frame": ("--frame 3", "frame", 3),
            "--allow-geometry-mismatch": ("--allow-geometry-mismatch", "any_geometry", True),
            "--force": ("--force", "force", True),
        },
    ),
    "jacobian": (
        "jacobian warp.nii -o out",
        {
            "--out": ("-o other", "out", Path("other")),
            "--mask": ("--mask m.nii", "mask", Path("m.nii")),
            "--total": ("--total", "total", True),
            "--force": ("--force", "force", True),
        },
    ),
    "evaluate": (
        "evaluate",
        {
            "--transform": (
                "-t one.h5 -t two.mat",
                "transforms",
                (Path("one.h5"), Path("two.mat")),
            ),
            "--fixed-labels": ("--fixed-labels a", "fixed_labels", Path("a")),
            "--moved-labels": ("--moved-labels a", "moved_labels", Path("a")),
            "--moving-labels": ("--moving-labels a", "moving_labels", Path("a")),
            "--points": ("--points a b", "moved_points", Path("b")),
            "--fixed-points": ("--fixed-points a", "fixed_points", Path("a")),
            "--moved-points": ("--moved-points a", "moved_points", Path("a")),
            "--moving-points": ("--moving-points a", "moving_points", Path("a")),
            "--points-space": ("--points-space voxel", "points_space", "voxel"),
            "--labels": ("--labels 2,17", "codes", (2, 17)),
            "--warp": ("--warp w", "warp", Path("w")),
            "--mask": ("--mask m", "mask", Path("m")),
            "--fail-on": ("--fail-on dice<.5 --fail-on tre>2", "fail_on", ("dice<.5", "tre>2")),
            "--out": ("-o out", "out", Path("out")),
            "--force": ("--force", "force", True),
        },
    ),
    "evaluate --l2r": (
        "evaluate --l2r task.json",
        {
            "--l2r": ("--l2r other.json", "task", Path("other.json")),
            "--warp": ("--warp w", "fields", Path("w")),
            "--data": ("--data d", "data", Path("d")),
            "--out": ("-o out", "out", Path("out")),
            "--force": ("--force", "force", True),
        },
    ),
    "features": (
        "features a.nii -o out",
        {
            "--out": ("-o other", "out", Path("other")),
            "--weights": ("--weights w.safetensors", "weights", "w.safetensors"),
            "--frame": ("--frame mean", "frame", "mean"),
            "--device": ("--device cuda:1", "device", "cuda:1"),
            "--threads": ("--threads 3", "threads", 3),
            "--force": ("--force", "force", True),
        },
    ),
    "batch": (
        "batch {table} -o out",
        {
            "--out": ("-o other", "out", Path("other")),
            "--jobs": ("--jobs 2", "workers", 2),
            "--index": ("--index 1/2", "part", (1, 2)),
            "--resume": ("--resume", "resume", True),
        },
    ),
}
