"""A method is a class and a line of the registry; all the rest serves it as it serves others."""

import json

import nibabel as nib
import numpy as np
import phantoms
import pytest
import torch
from shiftmethod import SHIFT_MM

from regcli import registry
from regcli.commands.register.job import Job
from regcli.commands.register.run import register_files
from regcli.errors import RecipeError
from regcli.io.images import write_image
from regcli.recipe import RegisterRecipe
from regcli.registration.pipeline import register

SHIFT = {"model": "shift", "init": "none"}


@pytest.fixture
def known(monkeypatch):
    monkeypatch.setitem(registry.METHODS, "shift", "shiftmethod:shift")


def test_a_method_that_is_not_in_the_registry_is_refused():
    with pytest.raises(RecipeError, match="shift"):
        RegisterRecipe(**SHIFT)


def test_a_method_of_ones_own_registers(space, known):
    pair = phantoms.pair(space)
    result = register(pair.fixed, pair.moving, RegisterRecipe(**SHIFT))
    wanted = pair.points + torch.tensor(SHIFT_MM).to(pair.points)
    torch.testing.assert_close(result.warp(pair.points), wanted, atol=1e-4, rtol=0)
    assert (result.notes[0], result.notes[-1]) == ("Model shift: it looks at nothing.", "Shifted.")
    assert set(result.seconds) == {"linear", "features", "solve", "apply"}


def test_a_method_of_ones_own_writes_what_others_write(space, known, tmp_path):
    pair = phantoms.pair(space)
    for name, image in (("fixed", pair.fixed), ("moving", pair.moving)):
        write_image(image, tmp_path / f"{name}.nii.gz")
    out = tmp_path / "out"
    images = tmp_path / "fixed.nii.gz", tmp_path / "moving.nii.gz"
    register_files(Job(*images, out, RegisterRecipe(**SHIFT)), lambda stage, share: None)
    found = nib.load(out / "warp.nii.gz").get_fdata().reshape(-1, 3)
    np.testing.assert_allclose(found, np.tile((-2.0, 1.0, 3.0), (len(found), 1)), atol=1e-4)  # LPS
    assert json.loads((out / "regcli.json").read_text())["recipe"]["model"] == "shift"
    assert (out / "report.html").exists()
