"""A report of a made-up registration: pictures of a pair of phantoms, numbers by hand."""

import base64
import io

import numpy as np
import torch
from phantoms import pair
from PIL import Image

from regcli.report.pictures import Subject
from regcli.warp import Warp

EYE = torch.eye(4, dtype=torch.float64)
SHA = "0123456789abcdef" * 4


def subject(space, displacement=None):
    """A pair on one grid, carried by u, which is (1, 3, I, J, K) mm."""
    truth = pair(space)
    start, after = Warp(space, EYE), Warp(space, EYE, displacement)
    stages = {"before": start, "linear": start, "after": after}
    moved = after.apply(truth.moving, space)
    return Subject(truth.fixed, truth.moving, moved, stages, truth.fixed.data[0] > 0.1)


def bump(space, height_mm=4.0):
    """A smooth displacement, (1, 3, I, J, K) mm."""
    x, y, z = torch.meshgrid(*(torch.linspace(-1, 1, n) for n in space.shape), indexing="ij")
    hill = height_mm * torch.exp(-4 * (x**2 + y**2 + z**2))
    return torch.stack([hill, -hill, 0.5 * hill])[None]


def decode(uri):
    """(H, W, 3) colours of a picture, by another reader."""
    data = base64.b64decode(uri.removeprefix("data:image/png;base64,"))
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def record(space, **changes):
    """What regcli.json holds."""
    side = {"sha256": SHA, "shape": list(space.shape), "spacing": list(space.spacing)}
    side["affine"] = space.affine.tolist()
    three = {"before": 0.31, "linear": 0.42, "after": 0.83}
    of_labels = {f"per_label{s}": {"2": 0.5, "17": None} for s in ("", "_before", "_linear")}
    level = {"stage": "diffeo", "level": 0, "shape": [7, 8, 9], "steps": 2, "converged": True}
    level |= {"stopped": "converged", "measure": "energy x", "residuals": [1.0, 0.5, 0.4]}
    return {
        "version": "9.8.7",
        "command": "regcli register fixed.nii.gz moving.nii.gz",
        "recipe": {"transform": "diffeo", "levels": [], "weights": "", "smoothness": 1.0},
        "metric": ["lncc", "mind:weight=0.3"],
        "regularizer": ["diffusion:weight=0.1", "volume"],
        **{"seed": 0, "device": "cpu", "threads": 2},
        "fixed": side | {"path": "/data/fixed.nii.gz"},
        "moving": side | {"path": "/data/moving.nii.gz"},
        "weights": {"name": "dio-brain", "sha256": SHA},
        "seconds": dict.fromkeys(("read", "linear", "solve", "write", "total"), 1.25),
        "peak_memory_mb": {"cpu": 512, "cuda": 0},
        "similarity": three | {"name": "lncc", "ncc": three, "coverage_percent": 97.0},
        "alignment": {"rotation_degrees": 4.25, "scales": [1.12, 1.0, 0.93]},
        "foreground": {"overlap_percent": 98.5, "moving_inside_percent": 99.0}
        | {"counted_percent": 100.0},
        "handedness": {"as_is": 0.61, "mirrored": 0.58},
        "agreement": {
            "correlation": 0.72,
            "same_contrast": True,
            "mismatch": {"linear": 0.154, "after": 0.121},
            "information": {"linear": 0.333, "after": 0.555},
        },
        "trust": {"used": True, "fixed": 1.0, "moving": 1.0},
        "jacobian": {"folds_percent": 0.5, "ndv_percent": 0.25, "min": -0.2, "max": 3.0}
        | {"sdlogj": 0.4, "folds_anywhere": 12},
        "inverse": {"mean_mm": 0.01, "max_mm": 0.2},
        "solver": [level, level | {"level": 1, "measure": "relative residual"}],
        "labels": {"dice": three | of_labels, "hd95_mm": three | of_labels},
        "points": {"tre_mm": {"before": 5.5, "linear": 3.25, "after": 1.125}},
        "verdict": {"status": "WARN", "reasons": ["0.50 % of the voxels are folded."]},
        "notes": ["The linear stage started from: moments."],
        "warnings": [],
    } | changes
