"""The supervisor of a process's background tasks: none ends unseen, and one that ended is started again.

Guarantees for each task that should run as long as its process:

- When it ends, with an error or without one, that is logged and counted. It is started again after a growing, capped
  and random delay.
- While it keeps failing, the process is not ready. It is ready again once the task has run for `STABLE_SECONDS`.
- After `MAX_FAILURES` in a row the process ends: only a new one may help then.
"""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from traceback import extract_tb
from typing import Final, NoReturn

from prometheus_client import CollectorRegistry

from safevideo_common.errors import ServiceUnavailable
from safevideo_common.observability import metric_catalog
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_common.observability.metric import counter, gauge
from safevideo_common.resilience.backoff import Backoff
from safevideo_common.tasks import running_task

RESTART: Final = Backoff(initial=0.5, maximum=60.0)
STABLE_SECONDS: Final = 60.0
"""After this long a run counts as successful: the failure that ends it is the first in a row."""

FAILING_AFTER: Final = 3
"""Failures in a row. One or two may be an accident, and are over in about a second."""

MAX_FAILURES: Final = 20
"""In a row, over about ten minutes."""

MAX_LOGGED_FRAMES: Final = 12

Work = Callable[[], Coroutine[object, object, None]]
"""Starts the work of a background task. It is called again after each end, so its run leaves nothing behind."""


class BackgroundTaskDied(Exception):
    """A task that must run as long as its process has ended. The message names it and the kind of its last error."""


@dataclass(slots=True)
class _Run:
    """The state of one supervised task."""

    name: str
    started_at: float = 0.0
    is_running: bool = False
    failures: int = 0
    """In a row."""

    def is_failing(self, now: float) -> bool:
        return self.failures >= FAILING_AFTER and not (self.is_running and self._is_stable(now))

    def ended(self, now: float) -> None:
        self.failures = 1 if self._is_stable(now) else self.failures + 1
        self.is_running = False

    def _is_stable(self, now: float) -> bool:
        return now - self.started_at >= STABLE_SECONDS


class Supervisor:
    """Supervises the background tasks of one process, for its event loop."""

    def __init__(self, logger: FilteringBoundLogger, registry: CollectorRegistry) -> None:
        self.max_failures = MAX_FAILURES
        """With 1 nothing is started again: for tests, in which each failure should show."""
        self._logger = logger
        self._failures = counter(metric_catalog.BACKGROUND_TASK_FAILURES, registry)
        self._failing = gauge(metric_catalog.BACKGROUND_TASK_FAILING, registry)
        self._runs: list[_Run] = []

    async def supervise(self, name: str, work: Work) -> NoReturn:
        """Run `work` again and again until cancelled. Raises `BackgroundTaskDied` after too many failures in a row."""
        run, now = _Run(name), asyncio.get_running_loop().time
        self._failures.labels(name)
        self._failing.labels(name).set_function(lambda: float(run.is_failing(now())))
        self._runs.append(run)
        try:
            while True:
                run.started_at, run.is_running = now(), True
                error = await _end_of(name, work)
                run.ended(now())
                self._report(run, error)
                if run.failures >= self.max_failures:
                    raise BackgroundTaskDied(f"background task {name} ended: {_kind_of(error)}") from error
                await asyncio.sleep(RESTART.delay(run.failures))
        finally:
            self._runs.remove(run)

    async def check(self) -> None:
        """Raise `ServiceUnavailable` while a task keeps failing."""
        now = asyncio.get_running_loop().time()
        if failing := sorted(run.name for run in self._runs if run.is_failing(now)):
            raise ServiceUnavailable(f"keeps failing: {', '.join(failing)}")

    def _report(self, run: _Run, error: BaseException | None) -> None:
        self._failures.labels(run.name).inc()
        self._logger.error(
            "Background task ended, it is started again",
            code="BACKGROUND_TASK_FAILED",
            task=run.name,
            error=_kind_of(error),
            failures=run.failures,
            frames=frames_of(error),
        )


async def _end_of(name: str, work: Work) -> BaseException | None:
    """Run `work` to its end, and return the error that ended it, or None. Cancelled with this task, it ends too.

    In a task of its own: before Python 3.13 a task in which a group of tasks failed counts as cancelled itself.
    """
    async with running_task(work(), name) as task:
        await asyncio.wait([task])
    return asyncio.CancelledError() if task.cancelled() else task.exception()  # cancelled by what it waited for


def _kind_of(error: BaseException | None) -> str:
    return type(error).__name__ if error else "early"


def frames_of(error: BaseException | None) -> list[str]:
    """Return where an error was raised, without its text, which may quote what a user sent."""
    frames = extract_tb(error.__traceback__)[-MAX_LOGGED_FRAMES:] if error else ()
    return [f"{Path(each.filename).name}:{each.lineno} {each.name}" for each in frames]
