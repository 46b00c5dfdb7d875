"""Structured logging: one logger per service, made in its wiring and passed down.

A call is `logger.info("Webhook signature valid", event_id=…)`; failures carry `code=`. Lines bound with `stream="sync"`
or `stream="audit"` also go to `sync.log` or `audit.log`. Values whose key sounds like a secret are redacted.
"""

import logging
import re
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from functools import lru_cache
from time import monotonic, time_ns
from typing import Final

import structlog
from structlog.typing import FilteringBoundLogger

from safevideo_common.observability.log_sink import LogSink

__all__ = [
    "FilteringBoundLogger",
    "LogSink",
    "build_logger",
    "capture_stdlib",
    "log_fields",
]

_fields_of_task: Final[ContextVar[Mapping[str, object]]] = ContextVar("log_fields", default={})  # noqa: B039 - never changed

_SECRET: Final = re.compile("secret|token|password|authorization|signature|api_key|email|document")


REPEAT_SECONDS: Final = 10.0
"""A line of a library that says the same again is written this often. While a broker is down, each of aiokafka's
clients writes one for each attempt to connect: hundreds a second in a worker with replays."""
_REPEATED_LINES: Final = 1000
"""So many different lines are remembered, the oldest of them forgotten first."""


def build_logger(service: str, sink: LogSink, level: str = "INFO") -> FilteringBoundLogger:
    """Make the logger of one service. Lines below `level` cost next to nothing."""
    wrapper = type("Logger", (_FastBoundLogger, structlog.make_filtering_bound_logger(level)), {})
    logger: FilteringBoundLogger = structlog.wrap_logger(
        _LineLogger(service, sink), processors=[], wrapper_class=wrapper, context_class=dict
    ).bind()
    return logger


def capture_stdlib(logger: FilteringBoundLogger, level: str = "WARNING", now: Callable[[], float] = monotonic) -> None:
    """Send what libraries log from `level` on through `logger`, in place of the handlers of `logging`.

    The same line is written once in `REPEAT_SECONDS`. Its next one says with `repeated` how many were left out. `now`
    is a clock in seconds that never goes back.
    """
    root = logging.getLogger()
    root.handlers = [_StdlibHandler(logger, now)]
    root.setLevel(level)


@contextmanager
def log_fields(**fields: object) -> Iterator[None]:
    """Add these fields to each line that this task, and the tasks it starts, log within the block."""
    token = _fields_of_task.set({**_fields_of_task.get(), **fields})
    try:
        yield
    finally:
        _fields_of_task.reset(token)


class _LineLogger:
    """The destination of one service's lines."""

    def __init__(self, service: str, sink: LogSink) -> None:
        self.service = service
        self._sink = sink

    def write(self, line: dict[str, object]) -> None:
        """Pass `line` on, without its `stream` and its secrets. The caller must not change it any more."""
        stream = line.pop("stream", None)
        _redact(line)
        self._sink.write(line, stream)


class _FastBoundLogger:
    """structlog's last step without a chain of processors: this is called for every line."""

    _context: dict[str, object]
    _logger: _LineLogger

    def _proxy_to_logger(self, method_name: str, event: object = None, **fields: object) -> None:
        columns = {"timestamp": _timestamp(), "level": method_name, "service": self._logger.service, "event": event}
        self._logger.write({**columns, **_fields_of_task.get(), **self._context, **fields})


class _StdlibHandler(logging.Handler):
    """The lines of libraries. They keep only the type of an exception: its text may quote what a user sent."""

    def __init__(self, logger: FilteringBoundLogger, now: Callable[[], float]) -> None:
        super().__init__()
        self._logger = logger
        self._now = now
        self._written: dict[tuple[str, str], tuple[float, int]] = {}
        """When a line was written, and how many like it were left out since."""

    def emit(self, record: logging.LogRecord) -> None:
        text, now = record.getMessage(), self._now()
        key = (record.name, text)
        written, left_out = self._written.pop(key, (-REPEAT_SECONDS, 0))
        if now - written < REPEAT_SECONDS:
            self._written[key] = (written, left_out + 1)
            return
        self._written[key] = (now, 0)
        if len(self._written) > _REPEATED_LINES:
            del self._written[next(iter(self._written))]
        self._write(record, text, left_out)

    def _write(self, record: logging.LogRecord, text: str, left_out: int) -> None:
        fields: dict[str, object] = {"logger": record.name}
        if left_out:
            fields["repeated"] = left_out
        if record.exc_info and record.exc_info[0] is not None:
            fields["error"] = record.exc_info[0].__name__
        if record.levelno >= logging.ERROR:
            fields["code"] = "LIBRARY_ERROR"
        self._logger.log(record.levelno, text, **fields)


def _timestamp() -> str:
    """Return the current time as `2026-11-24T20:58:25.123Z`."""
    second, millisecond = divmod(time_ns() // 1_000_000, 1000)
    return f"{_second_text(second)}.{millisecond:03d}Z"


@lru_cache(maxsize=4)
def _second_text(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")


_harmless_keys: Final[set[str]] = set()
"""Keys that were checked: there are as many as the code has."""


def _redact(line: MutableMapping[str, object]) -> None:
    """Replace the value of each key that sounds like a secret or personal data."""
    if line.keys() <= _harmless_keys:
        return
    for key in line:
        if _SECRET.search(key):
            line[key] = "[redacted]"
        else:
            _harmless_keys.add(key)
