"""The weights that come with regcli are whole, described, and suit what they are for."""

from pathlib import Path

import phantoms
import pytest
import torch

from regcli.image import Space
from regcli.io import weights as files
from regcli.io.images import read_image
from regcli.recipe import RegisterRecipe
from regcli.registration.equilibrium.stage import steps
from regcli.registration.features.extract import extract_pair
from regcli.registration.features.model import load
from regcli.registration.normalize import prepare

FILES = files.shipped()
SPACE = Space((64, 64, 64), torch.diag(torch.tensor([3.0, 3, 3, 1])).double())
EYE = torch.eye(4, dtype=torch.float64)
TOLD = ("Data", "Licence", "Recipe", "Seed", "Hardware", "Held-out", "Limits")


def shares(name, images):
    """How far two images suit weights."""
    learned = load(name)
    ready = [prepare(image, None, torch.device("cpu")) for image in images]
    with torch.no_grad():
        pair = extract_pair(learned, *ready, EYE)
    return [described.suits(learned.usual) for described in pair]


def test_the_defaults_come_with_regcli():
    assert {*files.DEFAULTS, files.DEFAULT_STEPS} <= {file.name for file in FILES}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_weights_are_whole_small_and_have_a_card(file):
    model = files.facts(file.path)["model"]
    if model == "dio":
        load(file.name)
    else:
        steps(RegisterRecipe(model="deq", weights=file.name), SPACE)
    assert file.megabytes < 16
    card = files.card(file)
    assert card is not None
    assert all(f"**{word}" in card for word in TOLD)


def test_the_folder_holds_nothing_that_is_not_listed():
    folder = Path(FILES[0].path).parent
    listed = {Path(file.path).name for file in FILES}
    listed |= {Path(file.path).with_suffix(".md").name for file in FILES}
    assert {path.name for path in folder.iterdir()} == listed | {"README.md", "SHA256SUMS"}


@pytest.mark.parametrize("name", files.DEFAULTS)
def test_phantoms_are_not_taken_for_brains(name):
    pair = phantoms.pair(SPACE)
    assert max(shares(name, [pair.fixed, pair.moving])) < 1


@pytest.mark.slow
def test_real_heads_and_brains_suit_the_weights_for_their_contrast(data):
    read = [
        read_image(data / "heads" / f"{name}.nii.gz").image
        for name in ("mni152_2mm_T1w", "subject_2mm_T1w", "subject_brain_T1w", "subject_brain_T2w")
    ]
    t1, any_contrast = files.DEFAULTS
    assert min(shares(t1, read[:2])) == 1
    assert shares(t1, read[2:])[0] == 1
    assert shares(t1, read[2:])[1] < 1
    for pair in (read[:2], read[2:]):
        assert min(shares(any_contrast, pair)) == 1
