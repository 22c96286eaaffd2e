import pytest
import torch
from weightfiles import FACTS, write_weights

from regcli.errors import WeightsError
from regcli.io import weights as files
from regcli.registration.features.model import assemble, network


def values(tmp_path):
    return files.tensors(write_weights(tmp_path / "mine.safetensors"))


def test_a_network_comes_back_with_its_weights(tmp_path):
    learned = assemble("mine", "00", FACTS, values(tmp_path))
    torch.manual_seed(0)
    net = network("unet", 3).eval()
    assert not learned.net.training
    assert (learned.spacing_mm, learned.gains) == (4.0, (0.2, 0.3, 0.4))
    assert learned.smoothness == 1
    own = assemble("mine", "00", FACTS | {"smoothness": 0.7}, values(tmp_path))
    assert own.smoothness == 0.7
    image = torch.rand(1, 1, 17, 17, 17)
    with torch.no_grad():
        for one, other in zip(*(n(image, image > 0.1) for n in (learned.net, net)), strict=True):
            assert torch.equal(one, other)


def test_weights_of_another_model_are_refused():
    with pytest.raises(WeightsError, match="model 'deq'"):
        assemble("mine", "00", FACTS | {"model": "deq"}, {})


@pytest.mark.parametrize(
    "wrong",
    [
        {"network": "resnet"},
        {"network": 3},
        {"channels": "many"},
        {"channels": 4},
        {"spacing_mm": -1},
        {"spacing_mm": float("nan")},
        {"gains": [0.1]},
        {"gains": [0.1, 0.1, -0.1]},
        {"gains": [0.1, float("nan"), 0.1]},
        {"gains": None},
        {"muted": ["dark"]},
        {"muted": ["dark"], "types": ["background", "bright", "other"]},
        {"muted": ["bright", "dark"], "types": ["background", "bright", "dark"]},
        {"muted": 3, "types": ["background", "bright", "dark"]},
        {"muted": ["dark"], "types": "background"},
        {"smoothness": 0},
        {"smoothness": float("inf")},
        {"smoothness": "much"},
        {"volumes": {"means": [float("nan"), 1.0], "deviations": [0.1, 0.1]}},
        {"volumes": {"means": [1.0], "deviations": [1.0]}},
        {"volumes": {}},
    ],
)
def test_headers_that_do_not_fit_are_refused(tmp_path, wrong):
    with pytest.raises(WeightsError, match="damaged"):
        assemble("mine", "00", FACTS | wrong, values(tmp_path))


def test_values_that_do_not_fit_are_refused(tmp_path):
    own = values(tmp_path)
    name = next(iter(own))
    broken = [
        {k: v for k, v in own.items() if k != name},
        own | {"more": own[name]},
        own | {name: own[name][:1]},
        own | {name: own[name] * float("nan")},
    ]
    for values_ in broken:
        with pytest.raises(WeightsError, match="damaged"):
            assemble("mine", "00", FACTS, values_)
