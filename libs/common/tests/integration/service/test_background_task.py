"""A part that dies is started again beside its app, and readiness shows it. One that stays dead ends the process."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path

import pytest
from aiohttp import ClientSession, web
from prometheus_client import CollectorRegistry

from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_common.service import background_task, log_failure, run_until_failure
from safevideo_common.settings import CommonSettings
from safevideo_common.supervisor import FAILING_AFTER, BackgroundTaskDied
from safevideo_common.web.app import SUPERVISOR, base_app
from safevideo_testkit.eventually import DEADLINE_SECONDS, eventually

SETTINGS = CommonSettings.model_validate({
    "host": "127.0.0.1",
    "port": 0,
    "database_url": "sqlite+aiosqlite://",
    "kafka_bootstrap_servers": "",
})  # fmt: skip

Work = Callable[[], Coroutine[object, object, None]]


def app_with(work: Work, log: FilteringBoundLogger, *, max_failures: int) -> web.Application:
    app = base_app(log, CollectorRegistry())
    app[SUPERVISOR].max_failures = max_failures

    async def part(app: web.Application) -> AsyncIterator[None]:
        async with background_task(app, "the-part", work):
            yield

    app.cleanup_ctx.append(part)
    return app


async def wait() -> None:
    await asyncio.Event().wait()


async def explode() -> None:
    raise ZeroDivisionError


async def end() -> None:
    return


async def test_background_task_that_keeps_failing_makes_the_process_unready_and_nothing_else(
    log: FilteringBoundLogger,
) -> None:
    app = app_with(explode, log, max_failures=100)
    async with run_until_failure(app, SETTINGS) as (port, failed), ClientSession(f"http://127.0.0.1:{port}") as client:

        async def status(path: str) -> int:
            async with client.get(path) as answer:
                return answer.status

        async def is_unready() -> bool:
            return await status("/readyz") == 503

        await eventually(is_unready)
        async with client.get("/readyz") as answer:
            assert (await answer.json())["failed"] == {"background tasks": "keeps failing: the-part"}
        assert await status("/healthz") == 200
        async with client.get("/metrics") as answer:
            text = await answer.text()
        assert 'safevideo_background_task_failing{task="the-part"} 1.0' in text
        counted = text.partition('safevideo_background_task_failures_total{task="the-part"} ')[2]
        assert float(counted.partition("\n")[0]) >= FAILING_AFTER
        assert not failed.done()


@pytest.mark.parametrize(("work", "cause"), [(explode, "ZeroDivisionError"), (end, "early")])
async def test_background_task_that_is_given_up_fails_its_app(
    work: Work, cause: str, log: FilteringBoundLogger
) -> None:
    async with run_until_failure(app_with(work, log, max_failures=1), SETTINGS) as (_, failed):
        async with asyncio.timeout(DEADLINE_SECONDS):
            with pytest.raises(BackgroundTaskDied, match=f"the-part ended: {cause}"):
                await failed


async def test_log_shows_where_a_background_task_failed_without_the_text_of_the_error(
    log: FilteringBoundLogger, logs: Path
) -> None:
    async def fail() -> None:
        raise ValueError("the body of a user")

    async with run_until_failure(app_with(fail, log, max_failures=1), SETTINGS) as (_, failed):
        await asyncio.wait([failed])
        log_failure(log, failed)
    written = (logs / "error.log").read_text()
    assert "BACKGROUND_TASK_FAILED" in written
    assert "the-part ended: ValueError" in written
    assert "test_background_task.py" in written
    assert "the body of a user" not in written


async def test_background_task_cancelled_with_its_app_is_no_failure(log: FilteringBoundLogger) -> None:
    async with run_until_failure(app_with(wait, log, max_failures=1), SETTINGS) as (_, failed):
        assert not failed.done()
    assert failed.cancelled()
