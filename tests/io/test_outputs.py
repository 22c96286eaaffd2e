"""Result folders are complete or absent, whatever happens."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from regcli.errors import OutputError
from regcli.io.outputs import OutputFolder, open_outputs

NAMES = ("warp.nii.gz", "regcli.json", "report.html")
ROOT = Path(__file__).parents[2]


def write(folder: OutputFolder, text: str = "new") -> None:
    for name in NAMES:
        folder.stage(name).write_text(text)


def contents(path: Path) -> dict[str, str]:
    return {file.name: file.read_text() for file in path.iterdir()}


def killed(path: Path, body: str) -> None:
    """Run `body` with an open folder `out` in another process, which kills itself."""
    program = f"""
import os, signal
from pathlib import Path
from regcli.io.outputs import open_outputs
with open_outputs({str(path)!r}, {NAMES!r}, force=True) as out:
    for name in {NAMES!r}:
        out.stage(name).write_text("half")
    {body}
    os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=False)
    assert done.returncode == -signal.SIGKILL


def test_committed_files_bear_their_names_and_nothing_else_is_left(tmp_path):
    out = tmp_path / "a" / "b"
    with open_outputs(out, NAMES) as folder:
        assert folder.stage("warp.nii.gz").name == "warp.nii.gz"
        assert folder.stage("x").parent.parent == out
        write(folder)
        assert not [name for name in NAMES if (out / name).exists()]
        folder.commit(NAMES)
    assert contents(out) == dict.fromkeys(NAMES, "new")


def test_the_sidecar_is_renamed_last(tmp_path, monkeypatch):
    renamed, original = [], Path.replace

    def replace(self: Path, target: Path) -> Path:
        renamed.append(Path(target).name)
        return original(self, target)

    monkeypatch.setattr(Path, "replace", replace)
    with open_outputs(tmp_path, NAMES) as folder:
        write(folder)
        folder.commit(NAMES)
    assert renamed == ["warp.nii.gz", "report.html", "regcli.json"]


@pytest.mark.parametrize("name", ["regcli.json", "warp.nii.gz"])
def test_a_folder_with_a_result_is_refused_before_anything_is_done(name, tmp_path):
    (tmp_path / name).write_text("old")
    with (
        pytest.raises(OutputError, match="holds a result") as caught,
        open_outputs(tmp_path, NAMES),
    ):
        pytest.fail("entered")
    assert caught.value.code == 4
    assert "--force" in caught.value.remedy
    assert contents(tmp_path) == {name: "old"}


def test_other_files_are_no_result_and_stay(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with open_outputs(tmp_path, NAMES) as folder:
        write(folder)
        folder.commit(NAMES)
    assert contents(tmp_path) == {"notes.txt": "mine", **dict.fromkeys(NAMES, "new")}


def test_force_replaces_a_result_only_at_the_commit(tmp_path):
    for name in NAMES:
        (tmp_path / name).write_text("old")
    with open_outputs(tmp_path, NAMES, force=True) as folder:
        write(folder)
        assert (tmp_path / "regcli.json").read_text() == "old"
        folder.commit(NAMES)
    assert contents(tmp_path) == dict.fromkeys(NAMES, "new")


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_failure_leaves_nothing_behind(error, tmp_path):
    with pytest.raises(error), open_outputs(tmp_path / "a" / "b", NAMES) as folder:
        write(folder)
        raise error
    assert list(tmp_path.iterdir()) == []


def test_a_failure_leaves_what_was_there(tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "regcli.json").write_text("old")
    with pytest.raises(ValueError, match="early"), open_outputs(out, NAMES, force=True) as folder:
        write(folder)
        raise ValueError("early")
    assert contents(out) == {"regcli.json": "old"}
    (out / "regcli.json").unlink()
    with pytest.raises(ValueError, match="late"), open_outputs(out) as folder:
        raise ValueError("late")
    assert out.is_dir()


def test_a_file_that_was_not_written_is_an_error_and_nothing_is_renamed(tmp_path):
    out = tmp_path / "out"
    with pytest.raises(OutputError, match="was not written"), open_outputs(out) as folder:
        folder.stage("regcli.json").write_text("{}")
        folder.commit(NAMES)
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_the_way_is_an_error(tmp_path):
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(OutputError, match="not a folder"), open_outputs(path):
            pytest.fail("entered")
    out = tmp_path / "out"
    (out / "warp.nii.gz").mkdir(parents=True)
    with pytest.raises(OutputError, match="is a folder where"), open_outputs(out, NAMES):
        pytest.fail("entered")


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS])
def test_a_folder_that_cannot_be_written_is_an_error(number, tmp_path, monkeypatch):
    def refuse(self: Path, **options: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "mkdir", refuse)  # permissions do not stop root
    with pytest.raises(OutputError, match="cannot be written"), open_outputs(tmp_path / "out"):
        pytest.fail("entered")


def test_a_full_disk_is_an_output_error_and_leaves_nothing(tmp_path):
    with pytest.raises(OutputError, match="disk is full"), open_outputs(tmp_path / "out") as folder:
        folder.stage("a").write_text("a")
        raise OSError(errno.ENOSPC, "No space left on device")
    assert list(tmp_path.iterdir()) == []


def test_other_system_errors_pass(tmp_path):
    with pytest.raises(OSError, match="odd"), open_outputs(tmp_path):
        raise OSError(errno.EIO, "odd")


def test_kill_before_the_commit_leaves_no_final_name_and_is_swept_up(tmp_path):
    killed(tmp_path, "pass")
    assert [path.name[:8] for path in tmp_path.iterdir()] == [".regcli-"]
    with open_outputs(tmp_path, NAMES) as folder:
        assert list(tmp_path.iterdir()) == [folder.temporary]
        write(folder)
        folder.commit(NAMES)
    assert contents(tmp_path) == dict.fromkeys(NAMES, "new")


def test_kill_between_two_renames_leaves_no_sidecar(tmp_path):
    for name in NAMES:
        (tmp_path / name).write_text("old")
    killed(
        tmp_path,
        """real = Path.replace
    def once(self, target):
        real(self, target)
        os.kill(os.getpid(), signal.SIGKILL)
    Path.replace = once
    out.commit({NAMES!r})""".replace("{NAMES!r}", repr(NAMES)),
    )
    assert not (tmp_path / "regcli.json").exists()
    assert (tmp_path / "warp.nii.gz").read_text() == "half"
    assert (tmp_path / "report.html").read_text() == "old"


def test_temporary_folders_of_living_processes_and_other_machines_stay(tmp_path):
    with open_outputs(tmp_path, ["a"]) as first, open_outputs(tmp_path, ["b"]) as second:
        elsewhere = tmp_path / ".regcli-999999999-another.host-0123abcd"
        elsewhere.mkdir()
        with open_outputs(tmp_path, ["c"]):
            assert first.temporary.is_dir()
            assert second.temporary.is_dir()
            assert elsewhere.is_dir()
