"""The logger of a simulator that was given none: one line an entry, to the standard library's logger of this name."""

import logging
from typing import Final, cast

import structlog
from structlog.typing import FilteringBoundLogger

NAME: Final = "sharegram_simulator"


def standard_logger() -> FilteringBoundLogger:
    """`message key=value …` at the levels and to the places that the process set up for `logging`."""
    logger = structlog.wrap_logger(
        logging.getLogger(NAME),
        processors=[structlog.processors.format_exc_info, _one_line],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
    )
    return cast("FilteringBoundLogger", logger)


def _one_line(_: object, __: str, entry: structlog.typing.EventDict) -> str:
    message, trace = entry.pop("event"), entry.pop("exception", None)
    line = " ".join([str(message), *(f"{name}={value}" for name, value in entry.items())])
    return line if trace is None else f"{line}\n{trace}"
