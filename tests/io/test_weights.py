import hashlib

import pytest
from weightfiles import FACTS, write_weights

from regcli.errors import WeightsError
from regcli.io import weights


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where shipped weights would lie."""
    here = tmp_path / "weights"
    here.mkdir()
    monkeypatch.setattr(weights, "_FOLDERS", (tmp_path / "nowhere", here))
    return here


def ship(folder, name="brain"):
    path = write_weights(folder / f"{name}.safetensors")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    (folder / "SHA256SUMS").write_text(f"{digest}  {path.name}\n")
    return path


def test_shipped_weights_are_found_by_name(folder):
    path = ship(folder)
    assert [file.name for file in weights.shipped()] == ["brain"]
    assert weights.is_shipped("brain")
    assert not weights.is_shipped("knee")
    assert weights.find("brain").path == str(path)
    assert weights.find("brain").sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_shipped_weights_that_changed_are_refused(folder):
    path = ship(folder)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(WeightsError, match="damaged"):
        weights.find("brain")


def test_shipped_weights_without_a_sum_are_refused(folder):
    ship(folder)
    (folder / "SHA256SUMS").unlink()
    with pytest.raises(WeightsError, match="SHA256SUMS"):
        weights.find("brain")


def test_a_file_is_found_by_its_path(tmp_path):
    path = write_weights(tmp_path / "mine.safetensors")
    assert weights.find(str(path)).name == "mine"


def test_what_is_not_there_is_refused_with_what_is(folder, tmp_path):
    ship(folder)
    for spec in ("knee", str(tmp_path / "none.safetensors"), str(tmp_path)):
        with pytest.raises(WeightsError) as error:
            weights.find(spec)
        assert "brain" in error.value.remedy


def test_the_header_is_read_without_the_values(tmp_path):
    path = write_weights(tmp_path / "mine.safetensors")
    assert weights.facts(path) == FACTS
    path.write_bytes(path.read_bytes()[:-100])
    assert weights.facts(path) == FACTS
    with pytest.raises(WeightsError, match="damaged"):
        weights.tensors(path)


@pytest.mark.parametrize(
    "content", [b"", b"abc", b"\xff" * 40, b"\x02" + b"\0" * 7 + b"{}", b"\x80" * 8]
)
def test_other_files_are_refused(tmp_path, content):
    path = tmp_path / "other.safetensors"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match="does not hold weights"):
        weights.facts(path)


def test_the_card_lies_beside_the_file(folder):
    path = ship(folder)
    assert weights.card(weights.find("brain")) is None
    path.with_suffix(".md").write_text("# Card\n")
    assert weights.card(weights.find("brain")) == "# Card\n"
