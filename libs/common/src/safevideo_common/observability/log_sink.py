"""Where log lines go: stdout as JSON, and text files under `LOG_DIR`.

Lines are gathered and then formatted and written together: that takes half the time of doing it one by one between
other work. It happens after `FLUSH_SECONDS` at the latest, at once from ERROR on, and when the process ends in order.
A killed process may lose the lines of its last moment, never its data.
"""

import asyncio
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from select import PIPE_BUF
from typing import Final

from safevideo_common.observability.log_format import json_line, text_line

FLUSH_SECONDS: Final = 0.05
FLUSH_LINES: Final = 250
STDOUT: Final = "-"

_URGENT: Final = frozenset({"error", "critical"})
_STREAMS: Final = frozenset({"sync", "audit"})

Line = Mapping[str, object]


class LogSink:
    """One per process; services that share a process share it."""

    def __init__(self, folder: Path | None, *, stdout: bool = True) -> None:
        self._folder = folder
        self._stdout = stdout
        self._descriptors: dict[str, int] = {}
        self._pending: list[tuple[Line, object]] = []
        self._timer: asyncio.TimerHandle | None = None
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)

    def write(self, line: Line, stream: object = None) -> None:
        """Take a line, which must not change any more. `stream` may name `sync` or `audit`, which have own files."""
        self._pending.append((line, stream))
        if line["level"] in _URGENT or len(self._pending) >= FLUSH_LINES:
            self.flush()
        elif self._timer is None:
            self._flush_later()

    def flush(self) -> None:
        """Write what is gathered. A full disk or a closed pipe costs the lines, never the service."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        pending, self._pending = self._pending, []
        if self._stdout:
            for piece in _pieces([json_line(line) for line, _ in pending]):
                self._append(STDOUT, piece)
        if self._folder is not None:
            for name, lines in _by_file(pending).items():
                self._append(name, b"".join(lines))

    def _append(self, name: str, data: bytes) -> None:
        try:
            _write_all(self._descriptor(name), data)
        except OSError:
            return

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


def _pieces(lines: Iterable[bytes]) -> Iterator[bytes]:
    """Whole lines, as many as a pipe takes in one piece: the processes of one container share stdout."""
    piece = b""
    for line in lines:
        if piece and len(piece) + len(line) > PIPE_BUF:
            yield piece
            piece = b""
        piece += line
    if piece:
        yield piece


def _by_file(pending: Iterable[tuple[Line, object]]) -> Mapping[str, list[bytes]]:
    files: dict[str, list[bytes]] = {}
    for line, stream in pending:
        text = text_line(line)
        files.setdefault("app.log", []).append(text)
        if line["level"] in _URGENT:
            files.setdefault("error.log", []).append(text)
        if stream in _STREAMS:
            files.setdefault(f"{stream}.log", []).append(text)
    return files


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
