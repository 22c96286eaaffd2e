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
