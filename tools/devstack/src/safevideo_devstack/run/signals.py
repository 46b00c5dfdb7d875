"""The signals that a run reacts to: stop, reopen the log files, write a memory report."""

import asyncio
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import Final

from safevideo_common.observability.logs import LogSink
from safevideo_common.observability.memory import resident_bytes, write_report

STOP_SECONDS: Final = 9
"""Contract, §15: ten seconds from Ctrl-C to the end. What hangs then is killed; answered webhooks are durable."""


def stop_on_signal(task: "asyncio.Task[None]") -> None:
    """Cancel `task` on SIGINT or SIGTERM, and on SIGHUP when that means that the terminal was closed."""
    loop = asyncio.get_running_loop()
    numbers = [signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if _has_terminal() else [])]

    def stop() -> None:
        # The kernel then kills this process, wherever it hangs, and with it the processes that it started.
        signal.alarm(STOP_SECONDS)
        for number in numbers:
            loop.add_signal_handler(number, _ignore)
        task.cancel()

    for number in numbers:
        loop.add_signal_handler(number, stop)


def reopen_on_hangup(sink: LogSink) -> None:
    """Reopen the log files on SIGHUP, where there is no terminal (contract, §14)."""
    if not _has_terminal():
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, sink.reopen)


def report_on_signal(role: str, folder: Path) -> None:
    """Write a memory report of this process on SIGUSR2 (contract, §14)."""

    def report() -> None:
        with suppress(OSError):
            write_report(role, folder, resident_bytes())

    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR2, report)


def _ignore() -> None:
    """Do nothing: an impatient second Ctrl-C must not interrupt the cleanup."""


def _has_terminal() -> bool:
    return sys.stdin is not None and sys.stdin.isatty()
