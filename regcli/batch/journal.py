"""The journal of a batch: what was begun and done, on the disk line by line, to go on from."""

import errno
import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from regcli.errors import OutputError

Part = tuple[int, int]  # I of N
Entry = dict[str, Any]


@dataclass(frozen=True)
class History:
    """The entries of all journals in a folder.

    Attributes:
        done: The latest completed registration, by folder.
        begun: Folders that a batch wrote to, perhaps in vain: what they hold may be replaced.
    """

    done: dict[str, Entry]
    begun: frozenset[str]


@dataclass(frozen=True)
class Journal:
    """A journal that this process alone writes; made by `open_journal`."""

    file: BinaryIO

    def write(self, event: str, **entry: Any) -> None:
        """Add a line; it is on the disk when this returns."""
        line = json.dumps({"event": event} | entry)
        self.file.write(line.encode("utf-8") + b"\n")
        self.file.flush()
        os.fsync(self.file.fileno())


def suffix(part: Part | None) -> str:
    """The ending of the names of a part's files: "" or "-I-of-N"."""
    return "" if part is None else f"-{part[0]}-of-{part[1]}"


def journal_path(folder: Path, part: Part | None) -> Path:
    """The journal of a batch in this folder, or of a part of it."""
    return folder / f"journal{suffix(part)}.jsonl"


def overlapping(folder: Path, part: Part | None) -> list[Path]:
    """Journals in a folder that may have rows of this part: its own, and all of another N."""
    found = folder.glob("journal*.jsonl")
    if part is None:
        return sorted(found)
    own, others = journal_path(folder, part), f"-of-{part[1]}"
    return sorted(path for path in found if path == own or not path.stem.endswith(others))


def read_history(folder: Path) -> History:
    """Read the journals of all parts in a folder.

    Lines that are cut short, as by a loss of power, count for nothing: their rows are run again.
    """
    done: dict[str, Entry] = {}
    begun = set()
    for path in sorted(folder.glob("journal*.jsonl")):
        for line in path.read_bytes().splitlines():
            try:
                entry = json.loads(line)
                event, out = entry["event"], entry["out"]
            except (ValueError, KeyError, TypeError):
                continue
            begun.add(out)
            if event == "done":
                done[out] = entry
    return History(done, frozenset(begun))


@contextmanager
def open_journal(folder: Path, part: Part | None) -> Iterator[Journal]:
    """The journal of this run, and of no other at the same time.

    Args:
        folder: Of the batch; it exists.
        part: Of the batch; None for all of it.

    Raises:
        OutputError: If another run that is under way writes the same rows.
    """
    own = journal_path(folder, part)
    with own.open("ab") as file:
        _lock(file, own)
        for other in overlapping(folder, part):
            if other != own:
                with other.open("rb") as there:
                    _lock(there, other)  # and free again at once: it is not ours to keep
        if own.stat().st_size and not own.read_bytes().endswith(b"\n"):
            file.write(b"\n")  # a line that was cut short must not swallow the next
        yield Journal(file)


def _lock(file: BinaryIO, path: Path) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            raise OutputError(
                f"Another run is writing to {path.parent} ({path.name}).",
                "Wait for it, or choose another folder with -o.",
            ) from None
        # disks of some clusters know no locks; they only guard against a user's oversight
