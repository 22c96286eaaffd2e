"""Imports of the process that workers are forked from, and of no other; it ends on request.

To take torch apart first would leave it there for seconds after the batch.
"""

import atexit
import os

import regcli.batch.crew  # noqa: F401

atexit.register(os._exit, 0)
