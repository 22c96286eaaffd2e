"""Features of an image: where they are, what they are called, and whom they suit."""

import phantoms
import pytest
import torch
from conftest import SPACES
from weightfiles import WIDE, write_steps, write_weights

import regcli
from regcli.energy.features import ONE
from regcli.errors import InputError, WeightsError
from regcli.image import Image, Space
from regcli.registration.features.extract import extract_pair
from regcli.registration.features.maps import features
from regcli.registration.features.model import load
from regcli.registration.normalize import prepare

EYE = torch.eye(4, dtype=torch.float64)


@pytest.fixture(scope="module")
def head():
    return phantoms.pair(SPACES["odd"]).fixed


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return str(write_weights(tmp_path_factory.mktemp("w") / "w.safetensors", volumes=WIDE))


@pytest.fixture(scope="module")
def maps(head, weights):
    return regcli.features(head, weights)


def test_features_are_those_that_a_registration_compares(head, weights, maps):
    # a head that fills its grid: nothing is cropped
    ready = prepare(head, None, torch.device("cpu"))
    with torch.no_grad():
        described, _ = extract_pair(load(weights), ready, ready, EYE)
    for level, space, data in zip(maps.levels, described.spaces, described.levels, strict=True):
        assert level.space.agrees(space)
        assert torch.equal(level.features, data[0])
    assert list(maps.volumes) == described.volumes()


def test_levels_halve_their_voxels_and_have_names(maps):
    assert [level.name for level in maps.levels] == ["16mm", "8mm", "4mm"]
    for level in maps.levels:
        assert level.features.shape == (3, *level.space.shape)
        assert level.pca.shape == level.singular_values.shape == (3, *level.space.shape)
        assert level.rank.shape == level.foreground.shape == level.space.shape


def test_rank_counts_singular_values_above_the_threshold(maps):
    for level in maps.levels:
        assert level.threshold == max(0.05 * level.strongest, level.rounding)
        counted = (level.singular_values > level.threshold).sum(dim=0)
        assert torch.equal(level.rank.long(), counted)
        inside = counted[level.foreground]
        wanted = [float((inside == n).float().mean()) for n in range(4)]
        assert level.rank_shares() == pytest.approx(wanted)
        largest = level.features.max(dim=0).indices[level.foreground]
        numbers = torch.bincount(largest, minlength=3) / len(largest)
        parts = [p or [0.0] * 4 for p in level.rank_shares_by_channel()]
        total = (numbers[:, None] * torch.tensor(parts)).sum(dim=0)
        assert total.tolist() == pytest.approx(wanted, abs=1e-5)


def test_a_stricter_share_never_raises_the_rank(maps):
    for level in maps.levels:
        means = [
            sum(n * part for n, part in enumerate(level.rank_shares(share)))
            for share in (0.01, 0.05, 0.2)
        ]
        assert means == sorted(means, reverse=True)


def test_the_components_are_of_all_foregrounds_together(maps):
    seen = torch.cat([level.features[:, level.foreground] for level in maps.levels], dim=1)
    assert maps.components.mean.tolist() == pytest.approx((seen.double().mean(1) / ONE).tolist())
    along = torch.cat([level.pca[:, level.foreground] for level in maps.levels], dim=1).double()
    assert float(along.mean(dim=1).abs().max()) < 1e-5
    spread = along @ along.T / along.shape[1]  # uncorrelated, most first
    off = spread - spread.diag().diag()
    assert float(off.abs().max()) < 1e-6
    assert spread.diag().tolist() == sorted(spread.diag().tolist(), reverse=True)


def test_images_that_do_not_suit_the_weights_are_warned_of(head, weights, tmp_path):
    assert regcli.features(head, weights).warnings == []
    told = features(head, str(write_weights(tmp_path / "narrow.safetensors")))
    assert told.usual < 1
    assert "narrow" in told.warnings[0]


def test_what_has_no_features_is_refused(head, weights, tmp_path):
    flat = Image(head.data[..., :1], Space((25, 31, 1), head.space.affine))
    with pytest.raises(InputError, match="2-D"):
        features(flat, weights)
    with pytest.raises(InputError, match="constant"):
        features(Image(torch.ones_like(head.data), head.space), weights)
    with pytest.raises(WeightsError, match="no features"):
        features(head, str(write_steps(tmp_path / "steps.safetensors")))
