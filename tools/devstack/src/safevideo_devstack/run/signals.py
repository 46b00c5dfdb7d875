"""How a run is told to end, and how long that may take; and what else it is told by signals."""

import asyncio
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import Final

from safevideo_common.observability.logs import LogSink
from safevideo_common.observability.memory import resident_bytes, write_report

STOP_SECONDS: Final = 9
"""Contract, §15: ten seconds from Ctrl-C to the end. What hangs until here is cut off; what was answered is safe."""


def stop_on_signal(task: "asyncio.Task[None]") -> None:
    """Cancel `task` on SIGINT or SIGTERM, and on SIGHUP when that means that the terminal was closed."""
    loop = asyncio.get_running_loop()
    numbers = [signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if _has_terminal() else [])]

    def stop() -> None:
        # The kernel ends this process then, whatever it hangs in, and the tethers end the processes that it started.
        signal.alarm(STOP_SECONDS)
        for number in numbers:
            loop.add_signal_handler(number, _stopping_already)
        task.cancel()

    for number in numbers:
        loop.add_signal_handler(number, stop)


def reopen_on_hangup(sink: LogSink) -> None:
    """Without a terminal SIGHUP asks for the log files to be opened anew (contract, §14)."""
    if not _has_terminal():
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, sink.reopen)


def report_on_signal(role: str, folder: Path) -> None:
    """SIGUSR2 has a memory report of this process written (contract, §14). It is small: nobody waits long for it."""

    def report() -> None:
        with suppress(OSError):
            write_report(role, folder, resident_bytes())

    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR2, report)


def _stopping_already() -> None:
    """An impatient second Ctrl-C must not interrupt the cleaning up."""


def _has_terminal() -> bool:
    return sys.stdin is not None and sys.stdin.isatty()
