"""Buffered output of log lines: JSON on stdout for containers, text files under `LOG_DIR` (contract, §14).

Lines are buffered, then formatted and written together: that takes half the time. The sink writes them after at most
`FLUSH_SECONDS`, at once from ERROR on, and when the process stops in order. A killed process may lose the last lines.
"""

import asyncio
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from select import PIPE_BUF
from typing import Final

import orjson

FLUSH_SECONDS: Final = 0.05
FLUSH_LINES: Final = 250
STDOUT: Final = "-"
DEFAULT_FOLDER: Final = Path("/var/log/safevideo")

_URGENT: Final = frozenset({"error", "critical"})
_STREAMS: Final = frozenset({"sync", "audit"})
FILES: Final = ("app.log", "error.log", "sync.log", "audit.log")
_COLUMNS: Final = frozenset({"timestamp", "level", "service", "code", "event"})
_BARE: Final = re.compile(r"[!#-<>-~]+")  # visible ASCII without the quote and the equals sign

Line = Mapping[str, object]


def log_folder(configured: Path | None) -> Path | None:
    """Return `LOG_DIR`, or the default folder where it exists, or None."""
    return configured or (DEFAULT_FOLDER if DEFAULT_FOLDER.is_dir() else None)


class LogSink:
    """The log output of a process; services that share a process share it."""

    def __init__(self, folder: Path | None, *, stdout: bool = True) -> None:
        self._folder = folder
        self._stdout = stdout
        self._descriptors: dict[str, int] = {}
        self._pending: list[tuple[Line, object]] = []
        self._timer: asyncio.TimerHandle | None = None
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            for name in FILES:  # so that a `grep` finds them before their first line
                with suppress(OSError):
                    self._descriptor(name)

    def write(self, line: Line, stream: object = None) -> None:
        """Buffer a line, which must not change any more. `stream` may be `sync` or `audit`, which have own files."""
        self._pending.append((line, stream))
        if line["level"] in _URGENT or len(self._pending) >= FLUSH_LINES:
            self.flush()
        elif self._timer is None:
            self._flush_later()

    def flush(self) -> None:
        """Write the buffer. With a full disk or a closed pipe the lines are lost and the service continues."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        pending, self._pending = self._pending, []
        if self._stdout:
            for piece in _pieces([_json_line(line) for line, _ in pending]):
                self._append(STDOUT, piece)
        if self._folder is not None:
            for name, lines in _by_file(pending).items():
                self._append(name, b"".join(lines))

    def reopen(self) -> None:
        """Close the files, so that the next line opens them again: what logrotate requests with SIGHUP."""
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

    def _append(self, name: str, data: bytes) -> None:
        try:
            descriptor, rest = self._descriptor(name), memoryview(data)
            while rest:
                rest = rest[os.write(descriptor, rest) :]
        except OSError:
            return

    def _descriptor(self, name: str) -> int:
        if name == STDOUT:
            return sys.__stdout__.fileno() if sys.__stdout__ else 1
        if name not in self._descriptors:
            path = (self._folder or Path()) / name
            self._descriptors[name] = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
        return self._descriptors[name]


def _pieces(lines: Iterable[bytes]) -> Iterator[bytes]:
    """Join whole lines up to what a pipe writes atomically: the processes of one container share stdout."""
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
        text = _text_line(line)
        files.setdefault("app.log", []).append(text)
        if line["level"] in _URGENT:
            files.setdefault("error.log", []).append(text)
        if stream in _STREAMS:
            files.setdefault(f"{stream}.log", []).append(text)
    return files


def _json_line(line: Line) -> bytes:
    return orjson.dumps(line, default=str, option=orjson.OPT_APPEND_NEWLINE | orjson.OPT_NON_STR_KEYS)


def _text_line(line: Line) -> bytes:
    """Format `DATE TIME LEVEL SERVICE CODE message key=value …`. The fifth column is the code, or `-`."""
    date, _, time = str(line["timestamp"]).partition("T")
    pairs = "".join(f" {key}={_text_value(value)}" for key, value in line.items() if key not in _COLUMNS)
    message = str(line["event"]).replace("\n", "\\n")
    level = str(line["level"]).upper()
    return f"{date} {time} {level} {line['service']} {line.get('code', '-')} {message}{pairs}\n".encode(
        "utf-8", "backslashreplace"
    )


def _text_value(value: object) -> str:
    """Return the value bare where that is unambiguous, else as JSON: no input can forge a line or a key."""
    text = value if isinstance(value, str) else str(value)
    return text if _BARE.fullmatch(text) else orjson.dumps(text).decode()
