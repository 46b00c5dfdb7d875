"""Where log lines go: stdout as JSON, and text files under `LOG_DIR`.

Lines are gathered and written together, at the latest after `FLUSH_SECONDS`, at once from ERROR on and when the
process ends in order. A killed process may lose the lines of its last moment, never its data.
"""

import asyncio
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Final

FLUSH_SECONDS: Final = 0.05
FLUSH_BYTES: Final = 64 * 1024
STDOUT: Final = "-"


class LogSink:
    """One per process; services that share a process share it."""

    def __init__(self, folder: Path | None, *, stdout: bool = True) -> None:
        self._folder = folder
        self._stdout = stdout
        self._descriptors: dict[str, int] = {}
        self._pending: dict[str, list[bytes]] = {}
        self._pending_bytes = 0
        self._timer: asyncio.TimerHandle | None = None
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)

    @property
    def writes_files(self) -> bool:
        """Whether text lines are wanted at all."""
        return self._folder is not None

    @property
    def writes_stdout(self) -> bool:
        """Whether JSON lines are wanted at all."""
        return self._stdout

    def write(self, line: bytes, names: Iterable[str], *, urgent: bool) -> None:
        """Append `line` to each of `names` (`STDOUT`, or a file's name)."""
        for name in names:
            self._pending.setdefault(name, []).append(line)
            self._pending_bytes += len(line)
        if urgent or self._pending_bytes >= FLUSH_BYTES:
            self.flush()
        elif self._timer is None:
            self._flush_later()

    def flush(self) -> None:
        """Write what is gathered. A full disk or a closed pipe costs the lines, never the service."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        pending, self._pending, self._pending_bytes = self._pending, {}, 0
        for name, lines in pending.items():
            try:
                _write_all(self._descriptor(name), b"".join(lines))
            except OSError:
                continue

    def reopen(self) -> None:
        """Let go of the files, so that the next line opens them anew: what logrotate asks for with SIGHUP."""
        self.flush()
        for descriptor in self._descriptors.values():
            os.close(descriptor)
        self._descriptors.clear()

    close = reopen

    def _flush_later(self) -> None:
        try:
            self._timer = asyncio.get_running_loop().call_later(FLUSH_SECONDS, self.flush)
        except RuntimeError:  # no loop yet, or another thread: nobody would flush later
            self.flush()

    def _descriptor(self, name: str) -> int:
        if name == STDOUT:
            return sys.__stdout__.fileno() if sys.__stdout__ else 1
        if name not in self._descriptors:
            path = (self._folder or Path()) / name
            self._descriptors[name] = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
        return self._descriptors[name]


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
