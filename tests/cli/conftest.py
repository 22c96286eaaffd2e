"""The command line in this process, and one registration to work on."""

import shutil
import sys
from dataclasses import dataclass

import pytest
from scans import write_pair

from regcli.cli import main as cli


@dataclass(frozen=True)
class Outcome:
    """What a command left on the terminal."""

    code: int
    out: str
    err: str

    def fails(self, code, *words):
        """Whether it failed with this code, two lines on stderr that hold the words, no results."""
        lines = self.err.splitlines()
        assert self.code == code, self.err
        assert [line.split(" ")[0] for line in lines] == ["error:", "remedy:"], self.err
        assert all(word in self.err for word in words), self.err
        assert self.out == ""
        return True


@pytest.fixture
def run(capfd, monkeypatch):
    """run("info", path) is `regcli info path`, ended as `main` ends it."""
    monkeypatch.setenv("COLUMNS", "80")

    def command(*arguments):
        monkeypatch.setattr(sys, "argv", ["regcli", *map(str, arguments)])
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return Outcome(ended.value.code, *capfd.readouterr())

    return command


@pytest.fixture(scope="session")
def scans(tmp_path_factory):
    return write_pair(tmp_path_factory.mktemp("scans"))


@pytest.fixture(scope="session")
def finished(scans, tmp_path_factory):
    """Folder of one registration with everything; tests only read it."""
    out = tmp_path_factory.mktemp("results") / "out"
    arguments = ["regcli", "register", scans.fixed, scans.moving, "-o", out, "-q"]
    for what in ("labels", "points"):
        arguments += [f"--fixed-{what}", getattr(scans, f"fixed_{what}")]
        arguments += [f"--moving-{what}", getattr(scans, f"moving_{what}")]
    arguments += ["--write", "inverse_warped,log_jacobian,learn2reg"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", list(map(str, arguments)))
        with pytest.raises(SystemExit) as ended:
            cli.main()
    assert ended.value.code == 0
    return out


@pytest.fixture
def result(finished, tmp_path):
    """A copy of `finished`, elsewhere, that tests may spoil."""
    return shutil.copytree(finished, tmp_path / "moved result")


@pytest.fixture
def register(run, scans, tmp_path):
    """register("--json") registers the pair into `tmp_path / out`."""

    def command(*options):
        return run("register", scans.fixed, scans.moving, "-o", tmp_path / "out", *options)

    return command
