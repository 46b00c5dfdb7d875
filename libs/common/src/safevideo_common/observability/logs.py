"""Structured logging: one logger a service, made in its wiring and handed down.

A call is `log.info("Webhook signature valid", event_id=…)`; failures carry `code=`. Lines bound with `stream="sync"` or
`stream="audit"` also go to `sync.log` or `audit.log`.
"""

import logging
from pathlib import Path
from typing import Final

import structlog
from structlog.typing import FilteringBoundLogger

from safevideo_common.observability.log_format import TimestampFormatter, redacted
from safevideo_common.observability.log_sink import LogSink

__all__ = ["DEFAULT_FOLDER", "FilteringBoundLogger", "LogSink", "build_logger", "capture_stdlib", "log_folder"]

DEFAULT_FOLDER: Final = Path("/var/log/safevideo")


def log_folder(configured: Path | None) -> Path | None:
    """`LOG_DIR`, or the default folder where it exists, or none."""
    return configured or (DEFAULT_FOLDER if DEFAULT_FOLDER.is_dir() else None)


def build_logger(service: str, sink: LogSink, level: str = "INFO") -> FilteringBoundLogger:
    """The logger of one service. Lines less severe than `level` cost next to nothing."""
    wrapper = type("Logger", (_FastBoundLogger, structlog.make_filtering_bound_logger(level)), {})
    wrapped: FilteringBoundLogger = structlog.wrap_logger(
        _LineLogger(service, sink), processors=[], wrapper_class=wrapper, context_class=dict
    ).bind()
    return wrapped


def capture_stdlib(logger: FilteringBoundLogger, level: str = "WARNING") -> None:
    """Send what libraries log through `logger`, from `level` on, in place of stdlib's own handlers."""
    root = logging.getLogger()
    root.handlers = [_StdlibHandler(logger)]
    root.setLevel(level)


class _FastBoundLogger:
    """structlog's last step without its chain of processors: there is only one thing to do, and it is done often."""

    _context: dict[str, object]
    _logger: "_LineLogger"

    def _proxy_to_logger(self, method_name: str, event: object = None, **fields: object) -> None:
        lines = self._logger
        placed = {"timestamp": lines.stamps.now(), "level": method_name, "service": lines.service, "event": event}
        lines.write({**placed, **self._context, **fields})


class _LineLogger:
    """Where the lines of one service go."""

    def __init__(self, service: str, sink: LogSink) -> None:
        self.service = service
        self.stamps = TimestampFormatter()
        self._sink = sink

    def write(self, line: dict[str, object]) -> None:
        """`line` is the caller's no more. Its `stream` is no part of it."""
        stream = line.pop("stream", None)
        self._sink.write(redacted(line), stream)


class _StdlibHandler(logging.Handler):
    """Lines of libraries. Only the exception's type is kept: its text may quote what a user sent."""

    def __init__(self, logger: FilteringBoundLogger) -> None:
        super().__init__()
        self._logger = logger

    def emit(self, record: logging.LogRecord) -> None:
        fields: dict[str, object] = {"logger": record.name}
        if record.exc_info and record.exc_info[0] is not None:
            fields["error"] = record.exc_info[0].__name__
        if record.levelno >= logging.ERROR:
            fields["code"] = "LIBRARY_ERROR"
        self._logger.log(record.levelno, record.getMessage(), **fields)
