import os
import subprocess
import sys

import pytest
import torch

from regcli.errors import InputError, RecipeError
from regcli.machine import choose_device, settings
from regcli.recipe import RegisterRecipe


@pytest.mark.parametrize("name", ["nonsense", "cpu:x", "meta", "cuda:99", ""])
def test_a_device_that_is_not_there_is_refused(name):
    with pytest.raises(InputError, match=f"no device '{name}'"):
        choose_device(name)


def test_auto_finds_a_device_that_computes():
    assert torch.ones(2, device=choose_device("auto")).sum().item() == 2
    assert choose_device("cpu") == torch.device("cpu")


def state():
    return (
        torch.get_num_threads(),
        torch.is_grad_enabled(),
        torch.get_deterministic_debug_mode(),
    )


def test_more_threads_than_the_system_bears_are_refused():
    with pytest.raises(RecipeError, match="100000"), settings(RegisterRecipe(threads=100000)):
        pass


def test_settings_of_torch_are_left_as_they_were():
    before = state()
    with settings(RegisterRecipe(threads=1, deterministic=True)):
        assert state() == (1, False, 2)
    assert state() == before
    with pytest.raises(KeyError, match="inside"), settings(RegisterRecipe(threads=1)):
        raise KeyError("inside")
    assert state() == before


@pytest.mark.parametrize(("asked", "wanted"), [(None, "PASSIVE"), ("ACTIVE", "ACTIVE")])
def test_waiting_threads_sleep_unless_the_user_wants_otherwise(asked, wanted):
    """Before torch is imported: its OpenMP reads it then."""
    environment = {k: v for k, v in os.environ.items() if k != "OMP_WAIT_POLICY"}
    environment |= {"OMP_WAIT_POLICY": asked} if asked else {}
    said = "import os, sys, regcli; print(os.environ['OMP_WAIT_POLICY'], 'torch' in sys.modules)"
    run = subprocess.run(
        [sys.executable, "-c", said], env=environment, capture_output=True, check=True
    )
    assert run.stdout.decode().split() == [wanted, "False"]
