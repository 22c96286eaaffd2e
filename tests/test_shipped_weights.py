"""The weights that come with regcli are whole, described, and suit what they are for."""

from pathlib import Path

import phantoms
import pytest
import torch

from regcli.choice import load, steps
from regcli.image import Space
from regcli.io import weights as files
from regcli.io.nifti import read_image
from regcli.models.features import describe_pair
from regcli.models.prepare import prepare
from regcli.recipe import RegisterRecipe

FILES = files.shipped()
SPACE = Space((64, 64, 64), torch.diag(torch.tensor([3.0, 3, 3, 1])).double())
EYE = torch.eye(4, dtype=torch.float64)
TOLD = ("Data", "Licence", "Recipe", "Seed", "Hardware", "Held-out", "Limits")


def shares(images):
    learned = load(files.DEFAULT)
    ready = [prepare(image, None, torch.device("cpu")) for image in images]
    with torch.no_grad():
        pair = describe_pair(learned, *ready, EYE)
    return [learned.usual.share(described.volumes()) for described in pair]


def test_the_defaults_come_with_regcli():
    assert {files.DEFAULT, files.DEFAULT_STEPS} <= {file.name for file in FILES}


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


def test_phantoms_are_not_taken_for_brains():
    pair = phantoms.pair(SPACE)
    assert max(shares([pair.fixed, pair.moving])) < 1


@pytest.mark.slow
def test_real_heads_and_brains_of_both_contrasts_are(data):
    heads = [data / "heads" / f"{name}.nii.gz" for name in ("mni152_2mm_T1w", "subject_2mm_T1w")]
    brains = [data / "heads" / f"subject_brain_{c}.nii.gz" for c in ("T1w", "T2w")]
    for paths in (heads, brains):
        assert min(shares([read_image(path).image for path in paths])) == 1
