"""A folder of results that is complete or absent: written aside, then renamed, regcli.json last."""

import contextlib
import errno
import os
import re
import secrets
import shutil
import socket
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from regcli.errors import OutputError

SIDECAR = "regcli.json"
_TEMPORARY = re.compile(r"\.regcli-(\d+)-(.*)-[0-9a-f]{8}")
_FULL = (errno.ENOSPC, errno.EDQUOT)
_ELSEWHERE = "Choose another folder with -o."


@dataclass(frozen=True)
class OutputFolder:
    """Results under way; made by `open_outputs`.

    Attributes:
        path: Where they will be.
        temporary: A hidden folder inside `path` where they are until `commit`.
    """

    path: Path
    temporary: Path

    def stage(self, name: str) -> Path:
        """The temporary path of the file that `commit` will call `name`, a plain file name."""
        assert Path(name).name == name
        return self.temporary / name

    def commit(self, order: Sequence[str]) -> None:
        """Give the staged files their names, in this order but regcli.json last.

        Every file is on the disk before the first is renamed. An old regcli.json goes first, so
        that none ever stands beside files it does not describe. Files not in `order` are dropped.

        Raises:
            OutputError: If one of them was not written.
        """
        names = sorted(order, key=lambda name: name == SIDECAR)
        for name in names:
            _flush(self.stage(name))
        (self.path / SIDECAR).unlink(missing_ok=True)
        _flush_folder(self.path)
        for name in names:
            if name == SIDECAR:
                _flush_folder(self.path)
            self.stage(name).replace(self.path / name)
        _flush_folder(self.path)


@contextlib.contextmanager
def open_outputs(
    path: str | Path, names: Iterable[str] = (), *, force: bool = False
) -> Iterator[OutputFolder]:
    """A folder to put results in, checked before anything is computed.

    What was not committed is removed on leaving, and so are folders made here that stay empty.
    Leftovers of processes that died are removed on entering.

    Args:
        path: The folder; it and its parents are created.
        names: Files that will be written.
        force: Replace what is there.

    Raises:
        OutputError: If the folder holds a result, cannot be made or written, or the disk is full.
    """
    path = Path(path)
    created = [folder for folder in (path, *path.parents) if _absent(folder)]
    temporary = path / f".regcli-{os.getpid()}-{socket.gethostname()}-{secrets.token_hex(4)}"
    try:
        _create(path, temporary)
        sweep(path)
        _check_free(path, names, force)
        yield OutputFolder(path, temporary)
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise OutputError(
            f"{path} cannot be written: the disk is full.", "Free some space, or use another disk."
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        for folder in created:
            with contextlib.suppress(OSError):  # not empty: it holds the result
                folder.rmdir()


@contextlib.contextmanager
def copied(text: str, path: Path | None) -> Iterator[None]:
    """A text file outside the folder that appears, whole, once what is done meanwhile succeeds.

    Args:
        text: Its content.
        path: Where; None for nowhere.

    Raises:
        OutputError: If it cannot be written.
    """
    if path is None:
        yield
        return
    staged = path.with_name(f".{path.name}-{secrets.token_hex(4)}")
    try:
        staged.write_text(text, encoding="utf-8")
        yield
        staged.replace(path)
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror}.", _ELSEWHERE) from error
    finally:
        staged.unlink(missing_ok=True)


def _absent(folder: Path) -> bool:
    try:
        return not folder.exists()
    except OSError:  # behind a folder that may not be entered
        return False


def _create(path: Path, temporary: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
        temporary.mkdir()
    except (FileExistsError, NotADirectoryError):
        raise OutputError(f"{path} is a file, not a folder.", _ELSEWHERE) from None
    except OSError as error:
        if error.errno in _FULL:
            raise
        raise OutputError(f"{path} cannot be written: {error.strerror}.", _ELSEWHERE) from None


def _check_free(path: Path, names: Iterable[str], force: bool) -> None:
    for name in (SIDECAR, *names):
        if (path / name).is_dir():
            raise OutputError(f"{path / name} is a folder where a file is due.", _ELSEWHERE)
        if not force and (path / name).exists():
            raise OutputError(
                f"{path} holds a result already ({name}).",
                "Give --force to replace it, or another folder with -o.",
            )


def sweep(path: Path) -> None:
    """Remove temporary folders of this machine's dead processes.

    Args:
        path: A folder of results, or one that was to become so.
    """
    for folder in path.glob(".regcli-*"):
        owner = _TEMPORARY.fullmatch(folder.name)
        if owner and owner[2] == socket.gethostname() and not _alive(int(owner[1])):
            shutil.rmtree(folder, ignore_errors=True)


def _alive(process: int) -> bool:
    if os.name != "posix":
        return True  # signal 0 would end it there
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


def _flush(path: Path) -> None:
    """Have the file on the disk."""
    try:
        with path.open("rb") as file:
            os.fsync(file.fileno())
    except FileNotFoundError:
        raise OutputError(f"{path.name} was not written.", "Run the command again.") from None


def _flush_folder(path: Path) -> None:
    if os.name != "posix":
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
