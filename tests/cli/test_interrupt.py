from types import SimpleNamespace

import pytest

from regcli.cli import interrupt


def dropped(error):
    return SimpleNamespace(
        exc_type=error, exc_value=error("x"), exc_traceback=None, err_msg=None, object=None
    )


@pytest.mark.parametrize("asked", [True, False])
def test_an_interrupt_that_python_drops_is_told_of_only_if_it_is_lost(monkeypatch, asked):
    told = []
    monkeypatch.setattr("sys.__unraisablehook__", told.append)
    if asked:
        monkeypatch.setattr(interrupt._asked, "is_set", lambda: True)
    interrupt.unraisable(dropped(KeyboardInterrupt))
    interrupt.unraisable(dropped(ValueError))
    assert len(told) == (1 if asked else 2)
