"""Logging that never blocks and never fills anything: stderr, and a size-capped file in the tmpfs directory.

What a handler cannot write is dropped, with one notice. Planted secrets are masked in every line,
tracebacks included.
"""

from __future__ import annotations

import errno
import logging
import os
import select
import stat
import threading
import time
from typing import TYPE_CHECKING

from bridge.config import Logging

if TYPE_CHECKING:
    from collections.abc import Callable

LINE_LIMIT = 4096
"""Bytes of one line on stderr at most. A pipe that is writable at all takes that many (PIPE_BUF), so a
reader that stopped reading cannot block us."""

FILES = 4
"""The log is kept in this many files that together stay below the configured size."""


_CONTROLS = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160)) if chr(code) != "\t"}
_CONTROLS[ord("\n")] = "\n    "
"""What a text from a device or a topic must not do to a log or a terminal: end a line and begin another that looks
like one of ours, move the cursor, ring. Further lines of one record, as of a traceback, are indented."""


class MaskingFormatter(logging.Formatter):
    """Formats a line, replaces every known secret in it, and disarms control characters."""

    def __init__(self, secrets: list[str]) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(message)s", "%Y-%m-%dT%H:%M:%SZ")
        self.converter = time.gmtime
        self._secrets = [secret for secret in secrets if secret]

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return text if text.isprintable() else text.translate(_CONTROLS)


class StderrHandler(logging.Handler):
    """Writes to stderr if that takes a line at once, else drops it."""

    def __init__(self) -> None:
        super().__init__()
        self.dropped = 0
        self._fd = _terminal(2) if os.isatty(2) else 2
        self._poller = select.poll()
        try:
            is_socket = stat.S_ISSOCK(os.fstat(self._fd).st_mode)
            self._poller.register(self._fd, select.POLLOUT)
        except OSError:  # closed
            is_socket, self._fd = False, -1
        self._send = _sender(self._fd) if is_socket else None

    def close(self) -> None:
        if self._fd > 2:
            os.close(self._fd)
            self._fd = -1
        super().close()

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._write((self.format(record) + "\n").encode("utf-8", "backslashreplace"))
        except (OSError, ValueError):
            self.dropped += 1

    def _write(self, data: bytes) -> None:
        for start in range(0, len(data), LINE_LIMIT):
            chunk = data[start : start + LINE_LIMIT]
            if self._fd < 0 or not any(event & select.POLLOUT for _, event in self._poller.poll(0)):
                self.dropped += 1
                return
            if self._send is not None:
                self._send(chunk)
            elif os.write(self._fd, chunk) < len(chunk):
                self.dropped += 1
                return


def _terminal(fd: int) -> int:
    """Return a descriptor of our own for a terminal, which does not wait; else the same one.

    One that nobody reads takes some bytes of a line and lets the rest wait: poll() cannot tell how many. It is others',
    too, so that it must not be told not to wait itself.
    """
    try:
        return os.open(os.ttyname(fd), os.O_WRONLY | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return fd


def _sender(fd: int) -> Callable[[bytes], object]:
    """Return what sends on a socket without waiting: poll() cannot tell how much it takes at once."""
    import socket  # only where stderr is one, as under journald

    duplicate = socket.socket(fileno=os.dup(fd))
    return lambda data: duplicate.send(data, socket.MSG_DONTWAIT)


class CappedFileHandler(logging.Handler):
    """A log file that begins anew when it is full and keeps the last ones; a full disk costs lines and one notice.

    A place smaller than the files may grow, as a tmpfs that was made smaller, costs the oldest lines, not the newest.

    Own code, since the standard library's rotating handler buffers: after a full disk it fails over the same
    old text for ever. Its import would also cost the start 2 ms.
    """

    def __init__(self, path: str | os.PathLike[str], total_bytes: int) -> None:
        super().__init__()
        self.path = os.fspath(path)
        self.dropped = 0
        self._limit = total_bytes // FILES
        self._fd = -1
        self._size = 0
        self._short = self._in_vain = False

    def emit(self, record: logging.LogRecord) -> None:
        try:
            data = (self.format(record) + "\n").encode("utf-8", "backslashreplace")[: self._limit]
            try:
                self._append(data)
            except OSError as err:
                # where others take what is freed, trying on would end with nothing kept
                if err.errno != errno.ENOSPC or self._in_vain or not self._make_room():
                    raise
                self._in_vain = True
                self._append(data)
                if not self._short:
                    self._short = True
                    _notice(f"log file {self.path}: no space left, so its oldest lines are given up; set "
                            "logging.max_megabytes to less than its folder has room for")  # fmt: skip
        except (OSError, ValueError) as err:
            self._drop(err)

    def _append(self, data: bytes) -> None:
        if self._fd < 0:
            self._open()
        if self._size + len(data) > self._limit:
            self._begin_anew()
        try:
            written = os.write(self._fd, data)
            if written < len(data):
                written += os.write(self._fd, data[written:])  # says why not all of it was
        except OSError:
            os.ftruncate(self._fd, self._size)  # no half line
            raise
        self._size += written
        self._in_vain = False

    def _make_room(self) -> bool:
        """Give up the oldest file that holds anything, at last the one that is written; return whether one did."""
        for number in range(FILES - 1, 0, -1):
            name = f"{self.path}.{number}"
            if os.path.lexists(name):
                held = os.lstat(name).st_size
                os.unlink(name)
                if held:
                    return True
        if self._fd < 0 or not self._size:
            return False
        os.ftruncate(self._fd, 0)
        self._size = 0
        return True

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        super().close()

    def _open(self) -> None:
        # no following of links: the folder may be one that others can write to
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        self._fd = os.open(self.path, flags, 0o640)
        self._size = os.fstat(self._fd).st_size

    def _begin_anew(self) -> None:
        """Move solarbridge.log to solarbridge.log.1 and so on, and open a new one."""
        os.close(self._fd)
        self._fd = -1
        names = [self.path, *(f"{self.path}.{number}" for number in range(1, FILES))]
        for older, newer in zip(reversed(names[1:]), reversed(names[:-1]), strict=True):
            if os.path.exists(newer):
                os.replace(newer, older)
        self._open()

    def _drop(self, err: Exception) -> None:
        self.dropped += 1
        if self.dropped == 1:
            _notice(f"log file {self.path} cannot be written ({err}); its lines are dropped")


_STDERR: StderrHandler | None = None


def _notice(text: str) -> None:
    """Tell stderr alone of trouble with the file."""
    if _STDERR is not None:
        _STDERR.handle(logging.LogRecord(__name__, logging.WARNING, "", 0, text, (), None))


def set_up(config: Logging, secrets: list[str]) -> None:
    """Send the program's log to stderr and, if a directory is configured, to files in it."""
    global _STDERR
    logging.raiseExceptions = False  # else a full disk prints a traceback per line
    formatter = MaskingFormatter(secrets)
    _STDERR = StderrHandler()
    handlers: list[logging.Handler] = [_STDERR]
    if config.directory:
        try:
            os.makedirs(config.directory, exist_ok=True)
            path = os.path.join(config.directory, "solarbridge.log")
            handlers.append(CappedFileHandler(path, config.max_megabytes * 1024 * 1024))
        except OSError as err:
            logging.getLogger(__name__).warning("log directory %s: %s; logging to stderr only", config.directory, err)
    for handler in handlers:
        handler.setFormatter(formatter)
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
    for handler in handlers:
        root.addHandler(handler)
    root.setLevel(config.level.upper())
    threading.excepthook = _thread_died


def _thread_died(args: threading.ExceptHookArgs) -> None:
    """Log the error that ended a thread, instead of printing it past the mask."""
    name = args.thread.name if args.thread is not None else "a thread"
    error = (args.exc_type, args.exc_value or args.exc_type(), args.exc_traceback)
    logging.getLogger(__name__).error("%s: ended by an error", name, exc_info=error)


def dropped() -> int:
    """Return how many lines were lost so far because nothing took them."""
    return sum(getattr(handler, "dropped", 0) for handler in logging.getLogger().handlers)
