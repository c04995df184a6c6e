"""A descriptor by which one thread wakes another that waits in poll() or select()."""

from __future__ import annotations

import os


class Wake:
    """Readable from `set` to `clear`; both may be called by any thread, `set` in a signal handler too.

    Closed with the last reference to it, so whoever polls the descriptor has to hold the object.
    """

    def __init__(self) -> None:
        self._fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def __del__(self) -> None:
        fd = getattr(self, "_fd", None)
        if fd is not None:  # there is none where none could be had
            os.close(fd)

    def fileno(self) -> int:
        return self._fd

    def set(self) -> None:
        os.eventfd_write(self._fd, 1)

    def clear(self) -> None:
        try:
            os.eventfd_read(self._fd)
        except BlockingIOError:
            pass
