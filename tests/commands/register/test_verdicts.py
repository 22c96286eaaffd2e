"""Verdicts of real brains: those that were broken on purpose are told from the others."""

import functools
import math

import numpy as np
import pytest
import SimpleITK as sitk

from regcli.commands.register.job import Job
from regcli.commands.register.run import register_files
from regcli.recipe import RegisterRecipe

SPACING = 4.0  # mm: what is looked for shows on coarse grids, too


@functools.cache
def shrunk(path):
    image = sitk.SmoothingRecursiveGaussian(sitk.ReadImage(str(path), sitk.sitkFloat32), 2.0)
    size = [int(n * h / SPACING) for n, h in zip(image.GetSize(), image.GetSpacing(), strict=True)]
    place = (image.GetOrigin(), [SPACING] * 3, image.GetDirection())
    return sitk.Resample(image, size, sitk.Transform(), sitk.sitkLinear, *place)


def turned(image, degrees):
    turn = sitk.Euler3DTransform()
    middle = [(n - 1) / 2 for n in image.GetSize()]
    turn.SetCenter(image.TransformContinuousIndexToPhysicalPoint(middle))
    turn.SetRotation(0, math.radians(degrees), 0)
    return sitk.Resample(image, image, turn, sitk.sitkLinear, 0.0)


def flipped(image):
    over = sitk.GetImageFromArray(sitk.GetArrayFromImage(image)[:, :, ::-1])
    over.CopyInformation(image)
    return over


@pytest.fixture
def judged(tmp_path):
    """The verdict on two images, which are registered by an affine."""

    def judge(fixed, moving):
        paths = [tmp_path / f"{name}.nii.gz" for name in ("fixed", "moving")]
        for path, image in zip(paths, (fixed, moving), strict=True):
            sitk.WriteImage(image, str(path))
        recipe = RegisterRecipe(transform="affine")
        job = Job(*paths, tmp_path / "out", recipe=recipe)
        return register_files(job, lambda stage, share: None)["verdict"]

    return judge


@pytest.fixture
def brains(data):
    return [shrunk(data / "brains" / f"oasis-{who}_T1w.nii.gz") for who in "ac"]


def test_brains_that_are_as_they_should_be_pass(judged, brains):
    one, other = brains
    assert judged(one, turned(other, 12)) == {"status": "PASS", "reasons": []}


@pytest.mark.parametrize(
    ("broken", "word"),
    [
        (flipped, "mirrored"),
        (lambda image: turned(image, 45), "turned by 45 degrees"),
        (lambda image: image[:, : int(0.6 * image.GetSize()[1]), :], "outside the moving image"),
    ],
    ids=["turned over", "45 degrees", "cut"],
)
def test_broken_ones_do_not(judged, brains, broken, word):
    one, other = brains
    told = judged(one, broken(other))
    assert told["status"] != "PASS"
    assert word in " ".join(told["reasons"])


def test_nor_does_what_was_cut_from_the_fixed_image(judged, brains):
    one, other = brains
    told = judged(one[:, : int(0.6 * one.GetSize()[1]), :], other)
    assert told["status"] != "PASS"
    assert "outside the fixed image" in " ".join(told["reasons"])


def test_nor_a_brain_and_a_head(judged, brains, data):
    told = judged(brains[0], shrunk(data / "heads" / "mni152_2mm_T1w.nii.gz"))
    assert told["status"] != "PASS"
    assert "overlap" in " ".join(told["reasons"])


def test_nor_a_brain_and_noise(judged, brains):
    noise = np.random.default_rng(0).random(sitk.GetArrayFromImage(brains[1]).shape)
    image = sitk.GetImageFromArray(noise.astype(np.float32))
    image.CopyInformation(brains[1])
    assert judged(brains[0], image)["status"] != "PASS"
