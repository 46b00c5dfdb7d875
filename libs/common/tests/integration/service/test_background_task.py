"""A part that dies takes its process with it, and says which one it was."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path

import pytest
from aiohttp import web

from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_common.service import BackgroundTaskDied, background_task, log_failure, run_until_failure
from safevideo_common.settings import CommonSettings
from safevideo_testkit.eventually import DEADLINE_SECONDS

SETTINGS = CommonSettings.model_validate({
    "host": "127.0.0.1",
    "database_url": "sqlite+aiosqlite://",
    "kafka_bootstrap_servers": "",
})  # fmt: skip


def app_with(work: Coroutine[object, object, None]) -> web.Application:
    app = web.Application()

    async def part(app: web.Application) -> AsyncIterator[None]:
        async with background_task(app, "the-part", work):
            yield

    app.cleanup_ctx.append(part)
    return app


Work = Callable[[], Coroutine[object, object, None]]


async def wait() -> None:
    await asyncio.Event().wait()


async def explode() -> None:
    raise ZeroDivisionError


async def end() -> None:
    return


@pytest.mark.parametrize(("work", "cause"), [(explode, "ZeroDivisionError"), (end, "early")])
async def test_background_task_that_ends_fails_its_app(work: Work, cause: str) -> None:
    async with run_until_failure(app_with(work()), SETTINGS) as (_, failed):
        async with asyncio.timeout(DEADLINE_SECONDS):
            with pytest.raises(BackgroundTaskDied, match=f"the-part ended: {cause}"):
                await failed


async def test_log_shows_where_a_background_task_failed_without_the_text_of_the_error(
    log: FilteringBoundLogger, logs: Path
) -> None:
    async def fail() -> None:
        raise ValueError("the body of a user")

    async with run_until_failure(app_with(fail()), SETTINGS) as (_, failed):
        await asyncio.wait([failed])
        log_failure(log, failed)
    written = (logs / "error.log").read_text()
    assert "the-part ended: ValueError" in written
    assert "test_background_task.py" in written
    assert "the body of a user" not in written


async def test_background_task_cancelled_with_its_app_is_no_failure() -> None:
    async with run_until_failure(app_with(wait()), SETTINGS) as (_, failed):
        assert not failed.done()
    assert failed.cancelled()
