"""What is compared follows from how images compare inside."""

import phantoms
import pytest
import torch
from weightfiles import WIDE, write_weights

from regcli.image import Space
from regcli.recipe import RegisterRecipe
from regcli.registration import stages
from regcli.registration.contrast import Contrast
from regcli.registration.pipeline import register
from regcli.registration.stages import CROSS, SAME, comparison

SPACE = Space((24, 26, 22), torch.diag(torch.tensor([8.0, 8.0, 8.0, 1.0])).double())
SURE, UNSURE = Contrast(-0.9, 0.06, 0.9), Contrast(0.3, 0.18, 0.3)
ALIKE = Contrast(0.8, 0.06, 0.9)


@pytest.fixture
def measured(monkeypatch):
    """Let every pair of images compare as is said."""

    def say(contrast):
        monkeypatch.setattr(stages, "measure", lambda *_: contrast)

    return say


def compared(metric=("auto",)):
    image = torch.empty(0)
    return comparison(image, image, RegisterRecipe(metric=metric), torch.eye(4))


@pytest.mark.parametrize(
    ("contrast", "specs", "share"),
    [(ALIKE, SAME, 1.0), (UNSURE, CROSS, 1.0), (SURE, CROSS, 0.0)],
)
def test_features_serve_where_mind_is_not_sure(measured, contrast, specs, share):
    measured(contrast)
    found = compared()
    assert found.specs == specs
    assert found.feature_share == share
    assert (found.smoothness > 1) == (share == 0)
    assert found.contrast == contrast


def test_between_sure_and_not_there_is_no_step(measured):
    measured(Contrast(0.3, 0.13, 0.3))
    found = compared()
    assert found.feature_share == pytest.approx(0.5)
    measured(SURE)
    most = compared().smoothness
    assert found.smoothness == pytest.approx((1 + most) / 2)


def test_a_metric_that_was_asked_for_is_not_questioned(measured):
    measured(SURE)
    found = compared(("mi:bins=16",))
    assert found.specs == ("mi:bins=16",)
    assert found.smoothness == found.feature_share == 1
    assert found.contrast is None


@pytest.mark.parametrize(("model", "used"), [("auto", False), ("dio", True)])
def test_features_are_left_out_unless_insisted_on(measured, tmp_path, model, used):
    measured(SURE)
    pair = phantoms.pair(SPACE)
    path = str(write_weights(tmp_path / "mine.safetensors", volumes=WIDE))
    recipe = RegisterRecipe(model=model, weights=path, init="header", iterations=(2,))
    result = register(pair.fixed, pair.moving, recipe)
    assert (result.weights is not None) == used
    assert result.trust is not None
    assert result.trust.used == used
    assert any("left out" in note for note in result.notes) != used
