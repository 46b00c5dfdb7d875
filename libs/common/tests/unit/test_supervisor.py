"""The supervisor of background tasks: what it starts again and when, what it counts and says, and when it gives up."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from safevideo_common.errors import ServiceUnavailable
from safevideo_common.supervisor import (
    FAILING_AFTER,
    MAX_FAILURES,
    RESTART,
    STABLE_SECONDS,
    BackgroundTaskDied,
    Supervisor,
)
from safevideo_common.tasks import running_task, task_group
from safevideo_testkit.virtual_time import in_virtual_time

FOREVER = 1e9


class Logger:
    def __init__(self) -> None:
        self.lines: list[dict[str, Any]] = []

    def error(self, _sentence: str, **fields: Any) -> None:
        self.lines.append(fields)


class Work:
    """Work that lives as long as each number says, and then ends as `end` does; in the end it goes on."""

    def __init__(self, *seconds: float, end: Callable[[], object] = lambda: None) -> None:
        self.seconds = list(seconds)
        self.end = end
        self.started_at: list[float] = []

    async def run(self) -> None:
        self.started_at.append(asyncio.get_running_loop().time())
        await asyncio.sleep(self.seconds.pop(0) if self.seconds else FOREVER)
        self.end()


class Supervised:
    """A supervisor with its log and metrics."""

    def __init__(self) -> None:
        self.logger = Logger()
        self.registry = CollectorRegistry()
        self.supervisor = Supervisor(self.logger, self.registry)  # type: ignore[arg-type]

    def value(self, name: str, task: str = "the-part") -> float | None:
        return self.registry.get_sample_value(f"safevideo_background_task_{name}", {"task": task})

    async def is_ready(self) -> bool:
        try:
            await self.supervisor.check()
        except ServiceUnavailable:
            return False
        return True


def explode() -> None:
    raise ZeroDivisionError("the body of a user")


def be_cancelled() -> None:
    raise asyncio.CancelledError


@pytest.mark.parametrize(
    ("end", "kind"), [(explode, "ZeroDivisionError"), (lambda: None, "early"), (be_cancelled, "CancelledError")]
)
def test_task_that_ends_is_logged_and_counted_and_started_again(end: Callable[[], object], kind: str) -> None:
    @in_virtual_time
    async def scenario() -> None:
        supervised, work = Supervised(), Work(10, end=end)
        async with running_task(supervised.supervisor.supervise("the-part", work.run), "the-part"):
            await asyncio.sleep(1)
            assert supervised.value("failures_total") == 0
            await asyncio.sleep(10)
            assert len(work.started_at) == 2
            assert await supervised.is_ready()
        assert 10 < work.started_at[1] <= 10 + RESTART.initial
        (line,) = supervised.logger.lines
        assert (line["code"], line["task"], line["error"], line["failures"]) == (
            "BACKGROUND_TASK_FAILED", "the-part", kind, 1,
        )  # fmt: skip
        assert "the body of a user" not in str(line)
        assert supervised.value("failures_total") == 1

    scenario()


@in_virtual_time
async def test_process_is_not_ready_while_a_task_keeps_failing_and_ready_once_it_runs_again() -> None:
    supervised, work = Supervised(), Work(*[0] * FAILING_AFTER, end=explode)
    async with running_task(supervised.supervisor.supervise("the-part", work.run), "the-part"):
        ready: list[bool] = []
        while len(work.started_at) <= FAILING_AFTER:
            await asyncio.sleep(RESTART.initial / 10)
            ready.append(await supervised.is_ready())
        assert ready[0]
        assert not ready[-1]
        assert supervised.value("failing") == 1
        await asyncio.sleep(STABLE_SECONDS / 2)
        assert not await supervised.is_ready()
        await asyncio.sleep(STABLE_SECONDS)
        assert await supervised.is_ready()
        assert supervised.value("failing") == 0
    assert await supervised.is_ready()


@in_virtual_time
async def test_delays_before_a_start_grow_to_a_limit_and_begin_anew_after_a_long_run() -> None:
    failing = MAX_FAILURES - 1
    supervised, work = Supervised(), Work(*[0] * (failing - 1), STABLE_SECONDS, end=explode)
    async with running_task(supervised.supervisor.supervise("the-part", work.run), "the-part"):
        while len(work.started_at) <= failing:
            await asyncio.sleep(1)
    starts = zip(work.started_at, work.started_at[1:], strict=False)
    *delays, last = [later - earlier for earlier, later in starts]
    assert delays[0] <= RESTART.initial
    assert all(RESTART.ceiling(n) / 2 <= delay <= RESTART.ceiling(n) for n, delay in enumerate(delays, 1))
    assert max(delays) <= RESTART.maximum
    assert last <= STABLE_SECONDS + RESTART.initial
    assert supervised.logger.lines[-1]["failures"] == 1


@in_virtual_time
async def test_supervisor_gives_up_where_restarts_do_not_help() -> None:
    supervised, work = Supervised(), Work(*[0] * MAX_FAILURES, end=explode)
    with pytest.raises(BackgroundTaskDied, match="the-part ended: ZeroDivisionError") as died:
        await supervised.supervisor.supervise("the-part", work.run)
    assert isinstance(died.value.__cause__, ZeroDivisionError)
    assert len(work.started_at) == MAX_FAILURES


def forgetful(error: Exception | None) -> Callable[[], Coroutine[object, object, None]]:
    async def work() -> None:
        try:
            await asyncio.sleep(FOREVER)
        except asyncio.CancelledError:
            if error is not None:
                raise error from None

    return work


@pytest.mark.parametrize("error", [None, OSError()])
def test_task_that_is_cancelled_is_not_started_again_though_it_forgets_that(error: Exception | None) -> None:
    @in_virtual_time
    async def scenario() -> None:
        supervised = Supervised()
        async with running_task(supervised.supervisor.supervise("the-part", forgetful(error)), "the-part") as task:
            await asyncio.sleep(1)
        assert task.cancelled()
        assert supervised.logger.lines == []

    scenario()


@in_virtual_time
async def test_task_whose_group_of_tasks_fails_is_started_again() -> None:
    supervised, work = Supervised(), Work(0, end=explode)

    async def in_group() -> None:
        async with task_group() as tasks:
            tasks.create_task(work.run())
            tasks.create_task(asyncio.sleep(FOREVER))

    async with running_task(supervised.supervisor.supervise("the-part", in_group), "the-part"):
        await asyncio.sleep(STABLE_SECONDS)
        assert len(work.started_at) == 2
    assert [line["error"] for line in supervised.logger.lines] == ["ZeroDivisionError"]
