"""Small folders to train on, and what a training leaves."""

import csv

import nibabel as nib
import numpy as np
from heads import labels

FAST = ("--spacing", "2", "--shape", "17x17x17", "--validate-every", "2", "-q")
FILES = {"best.safetensors", "last.safetensors", "card.md", "train.csv", "train.json", "loss.png"}


def write_folder(folder, images=False, count=4):
    """Small heads: label maps, and scans of them if asked for."""
    for kind in ("labels", "images") if images else ("labels",):
        (folder / kind).mkdir(parents=True)
    for n in range(count):
        map_ = labels(size=11.0 + 0.7 * n)
        affine = map_.space.affine.numpy()
        codes = map_.data[0].numpy()
        nib.save(nib.Nifti1Image(codes, affine), folder / "labels" / f"s{n}.nii.gz")
        if images:
            scan = (codes % 40 * 25.0 + np.random.default_rng(n).normal(0, 3, codes.shape)).clip(0)
            scan = scan.astype(np.float32)
            nib.save(nib.Nifti1Image(scan, affine), folder / "images" / f"s{n}.nii.gz")
    return folder


def rows(run_folder):
    with (run_folder / "train.csv").open(newline="") as file:
        return list(csv.reader(file))
