import math

import phantoms
import pytest
import torch
from weightfiles import NARROW, WIDE, write_weights

from regcli.errors import InputError, WeightsError
from regcli.image import Space
from regcli.io import weights as files
from regcli.recipe import RegisterRecipe
from regcli.registration.aligned import aligned
from regcli.registration.features import choice
from regcli.registration.features.model import load
from regcli.registration.features.trust import Trust
from regcli.registration.normalize import prepare

EYE = torch.eye(4, dtype=torch.float64)


@pytest.fixture
def images():
    pair = phantoms.pair(Space((24, 26, 22), torch.diag(torch.tensor([8.0, 8, 8, 1])).double()))
    return [prepare(i, None, torch.device("cpu")) for i in (pair.fixed, pair.moving)]


def decide(images, **values):
    """The pair of descriptions, or None, and what was said."""
    found = choice.candidates(RegisterRecipe(**values), images[0].space)
    seen = look(found.networks, images, insisted=found.insisted)
    return seen.pair, " ".join(found.notes + seen.notes)


def look(networks, images, *, insisted):
    pair = aligned(*images, EYE, images[0].space, symmetric=False)
    with torch.no_grad():
        return choice.features(networks, pair, insisted=insisted)


def test_images_with_usual_volumes_get_learned_features(images, tmp_path):
    path = str(write_weights(tmp_path / "mine.safetensors", volumes=WIDE))
    found, said = decide(images, weights=path)
    assert all(len(one.levels) == 3 for one in found)
    assert "Model dio, weights mine" in said


def test_both_images_are_described_on_one_isotropic_grid(images, tmp_path):
    path = str(write_weights(tmp_path / "mine.safetensors", volumes=WIDE))
    one, other = decide(images, weights=path)[0]
    for a, b in zip(one.spaces, other.spaces, strict=True):
        assert a.agrees(b)
    assert all(math.isclose(h, 4.0) for h in one.spaces[-1].spacing)


def test_images_with_other_volumes_are_registered_classically(images, tmp_path):
    path = str(write_weights(tmp_path / "mine.safetensors", volumes=NARROW))
    found, said = decide(images, weights=path)
    assert found is None
    assert "do not suit the weights mine" in said


def test_who_asks_for_dio_gets_it_whatever_the_volumes(images, tmp_path):
    path = str(write_weights(tmp_path / "mine.safetensors", volumes=NARROW))
    found, said = decide(images, model="dio", weights=path)
    assert found is not None
    assert "0%" in said


@pytest.mark.parametrize(
    ("model", "volumes", "trust"),
    [
        ("auto", WIDE, Trust(True, 1.0, 1.0)),
        ("auto", NARROW, Trust(False, 0.0, 0.0)),
        ("dio", NARROW, Trust(True, 0.0, 0.0)),
    ],
)
def test_how_far_images_suit_is_told_whether_weights_are_used_or_not(
    images, tmp_path, model, volumes, trust
):
    path = str(write_weights(tmp_path / "mine.safetensors", volumes=volumes))
    seen = look([load(path)], images, insisted=model == "dio")
    assert seen.trust == trust
    assert (seen.network is not None) == (seen.pair is not None) == trust.used


def test_types_that_are_muted_count_for_trust_alone(images, tmp_path):
    named = {"types": ["background", "bright", "dark"], "muted": ["bright"]}
    paths = [tmp_path / f"{name}.safetensors" for name in ("all", "muted")]
    for path, more in zip(paths, ({}, named), strict=True):
        write_weights(path, volumes=WIDE, **more)
    whole, muted = (decide(images, weights=str(path))[0] for path in paths)
    for one, other in zip(whole, muted, strict=True):
        for level, kept in zip(one.levels, other.levels, strict=True):
            assert torch.equal(kept, level[:, [0, 2]])


@pytest.mark.parametrize(
    ("model", "volumes", "listened_to", "trust"),
    [
        ("auto", (WIDE, WIDE), "first", Trust(True, 1.0, 1.0)),
        ("auto", (NARROW, WIDE), "second", Trust(True, 1.0, 1.0)),
        ("auto", (NARROW, NARROW), None, Trust(False, 0.0, 0.0)),
        ("dio", (NARROW, NARROW), "second", Trust(True, 0.0, 0.0)),
    ],
)
def test_the_first_weights_that_suit_both_images_are_taken(
    images, tmp_path, model, volumes, listened_to, trust
):
    names = ("first", "second")
    networks = [
        load(str(write_weights(tmp_path / f"{name}.safetensors", volumes=of)))
        for name, of in zip(names, volumes, strict=True)
    ]
    seen = look(networks, images, insisted=model == "dio")
    assert (seen.network and seen.network.name) == listened_to
    assert seen.trust == trust
    assert len(seen.notes) == 1
    assert ("do not suit the weights first" in seen.notes[0]) == (listened_to != "first")


def test_who_asks_for_a_metric_or_the_classical_model_gets_that(images, tmp_path):
    path = str(write_weights(tmp_path / "mine.safetensors", volumes=WIDE))
    assert "a metric was asked for" in decide(images, weights=path, metric=("lncc",))[1]
    assert decide(images, model="classical") == (None, "")


def test_without_shipped_weights_auto_is_classical(images, monkeypatch, tmp_path):
    monkeypatch.setattr(files, "_FOLDERS", (tmp_path,))
    assert decide(images)[0] is None
    with pytest.raises(WeightsError, match="no weights 'dio-brain'"):
        decide(images, model="dio")


def test_two_dimensional_images_are_registered_classically(tmp_path):
    space = Space((24, 26, 1), torch.diag(torch.tensor([8.0, 8, 8, 1])).double())
    data = torch.rand(1, 24, 26, 1)
    image = prepare(phantoms.Image(data, space), None, torch.device("cpu"))
    path = str(write_weights(tmp_path / "mine.safetensors", volumes=WIDE))
    assert "3-D" in decide([image, image], weights=path)[1]
    with pytest.raises(InputError, match="3-D"):
        decide([image, image], model="dio", weights=path)


def test_weights_that_give_no_numbers_are_no_reason_to_fail_unless_asked_for(
    images, tmp_path, monkeypatch
):
    def say_nothing(*_):
        raise WeightsError("The weights mine give something that is no number.", "Use others.")

    path = str(write_weights(tmp_path / "mine.safetensors", volumes=WIDE))
    monkeypatch.setattr(choice, "extract_pair", say_nothing)
    found, said = decide(images, weights=path)
    assert found is None
    assert "no number" in said
    with pytest.raises(WeightsError, match="no number"):
        decide(images, model="dio", weights=path)


def test_a_name_of_weights_that_is_misspelt_does_not_go_unseen(images):
    with pytest.raises(WeightsError, match="knee"):
        decide(images, weights="knee", transform="affine")


def test_a_network_is_made_once_unless_its_file_changes(tmp_path):
    path = tmp_path / "mine.safetensors"
    write_weights(path)
    first = load(str(path))
    assert load(str(path)) is first
    write_weights(path, gains=[0.1, 0.1, 0.1])
    assert load(str(path)).gains != first.gains
