import phantoms
import pytest
import torch

from regcli.energy.features import ONE
from regcli.energy.information import MI
from regcli.energy.intensity import LNCC, SSD
from regcli.image import Space
from regcli.recipe import RegisterRecipe
from regcli.registration.force import Pair
from regcli.registration.normalize import prepare
from regcli.registration.presets import deformable
from regcli.registry import TRANSFORMS, build

SPACE = Space((18, 20, 16), torch.diag(torch.tensor([9.0, 9, 9, 1])).double())
STILL = torch.eye(3, 4, dtype=torch.float64)


def energy(similarities, features):
    """Of the identity, where nothing has moved yet."""
    pair = phantoms.pair(SPACE)
    fixed, moving = (prepare(i, None, torch.device("cpu")) for i in (pair.fixed, pair.moving))
    registration = deformable(RegisterRecipe(), similarities, fixed)
    seen = Pair(SPACE, fixed.data, moving.data, STILL, features=features)
    transform = build(TRANSFORMS, "freeform")
    problem = registration.force.problem(seen, transform)
    return float(problem.evaluate(transform.identity(SPACE))[0])


def test_users_scale_all_regularizers():
    fixed = prepare(phantoms.pair(SPACE).fixed, None, torch.device("cpu"))
    plain, users = (
        deformable(RegisterRecipe(smoothness=own), (SSD(),), fixed).force for own in (1.0, 0.5)
    )
    assert users.smoothness == pytest.approx(0.5 * plain.smoothness)
    assert users.regularizers == plain.regularizers


@pytest.mark.parametrize(
    ("similarities", "share"),
    [((LNCC(), MI()), 0.45), ((SSD(), LNCC()), 0.45), ((MI(),), 1.0), ((SSD(),), 1.0)],
)
def test_learned_features_weigh_less_beside_lncc(similarities, share):
    certain = torch.zeros(2, 1, 2, *SPACE.shape, dtype=torch.uint8)
    certain[0, :, 0], certain[1, :, 1] = ONE, ONE
    added = energy(similarities, (certain[0], certain[1])) - energy(similarities, None)
    voxels = SPACE.shape[0] * SPACE.shape[1] * SPACE.shape[2]
    assert added == pytest.approx(share * voxels, rel=1e-4)


def test_options_of_diffeo_are_those_of_the_symmetric_one():
    fixed = prepare(phantoms.pair(SPACE).fixed, None, torch.device("cpu"))
    recipe = RegisterRecipe(transform="diffeo:cap=0.3,sigma=0.9", symmetric=True)
    transform = deformable(recipe, (SSD(),), fixed).transform
    assert (transform.cap, transform.sigma) == (0.3, 0.9)
