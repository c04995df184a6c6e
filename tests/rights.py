"""Doing something as a user without rights, also where the tests run as root, who may do anything."""

from __future__ import annotations

import os
from collections.abc import Callable

from bridge.errors import BridgeError

NOBODY = 65534


def error_without_rights(call: Callable[[], object]) -> str:
    """Return the text of what `call` raises for an ordinary user.

    Root forks a child that gives its rights up; modules that `call` needs must have been imported
    before, since the child may not be allowed to read them.
    """
    if os.geteuid() != 0:
        return _error(call)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            os.write(writer, _error(call).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as file:
        text = file.read().decode()
    os.waitpid(child, 0)
    return text


def _error(call: Callable[[], object]) -> str:
    try:
        call()
    except BridgeError as err:
        return f"{type(err).__name__}: {err}"
    return "nothing was raised"
