import json

import pytest

from regcli.batch.journal import journal_path, open_journal, read_history
from regcli.errors import OutputError


def test_what_is_written_is_read_whatever_follows(tmp_path):
    with open_journal(tmp_path, None) as journal:
        journal.write("begin", row=1, out="a")
        journal.write("done", row=1, out="a", key="old")
        journal.write("done", row=1, out="a", key="new")
    path = journal_path(tmp_path, None)
    whole = path.read_bytes()
    for cut in range(len(whole) + 1):
        path.write_bytes(whole[:cut])
        keys = [json.loads(line)["key"] for line in whole[:cut].splitlines() if _key(line)]
        found = read_history(tmp_path).done
        assert [entry["key"] for entry in found.values()] == keys[-1:]


def _key(line):
    try:
        return "key" in json.loads(line)
    except ValueError:
        return False


def test_a_line_that_was_cut_short_does_not_swallow_the_next(tmp_path):
    journal_path(tmp_path, None).write_bytes(b'{"event": "done", "out": "a"')
    with open_journal(tmp_path, None) as journal:
        journal.write("begin", row=2, out="b")
    history = read_history(tmp_path)
    assert (history.done, history.begun) == ({}, {"b"})


def test_lines_that_are_no_entries_count_for_nothing(tmp_path):
    journal_path(tmp_path, (1, 2)).write_bytes(b'1\n[]\n{}\n\xff\n{"event": "begin", "out": "a"}\n')
    assert read_history(tmp_path).begun == {"a"}


@pytest.mark.parametrize(
    ("one", "other", "fits"),
    [
        (None, None, False),
        (None, (1, 2), False),
        ((1, 2), None, False),
        ((1, 2), (1, 2), False),
        ((1, 2), (1, 3), False),
        ((1, 2), (2, 2), True),
    ],
)
def test_runs_that_may_share_rows_exclude_each_other(tmp_path, one, other, fits):
    with open_journal(tmp_path, one):
        if fits:
            with open_journal(tmp_path, other):
                pass
        else:
            with pytest.raises(OutputError, match="Another run"), open_journal(tmp_path, other):
                pass
    with open_journal(tmp_path, other):
        pass
