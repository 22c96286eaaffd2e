"""The volumes that the compiled loops keep for their next call."""

from regcli.ops.backends.numba import memory


def release() -> None:
    """Give them back to the system: after a level, the next one needs other sizes."""
    memory.release()
