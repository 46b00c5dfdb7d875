"""A task that was cancelled stops, even where what it runs forgets that it was."""

import asyncio
from contextlib import suppress

import pytest

from safevideo_common.tasks import cancel_and_wait, preserve_cancellation, task_group, wait_event


async def forget(error: Exception | None = None) -> None:
    """As `asyncio.wait_for` does before Python 3.12."""
    with suppress(asyncio.CancelledError):
        await asyncio.Event().wait()
    if error:
        raise error


async def outcome_when_cancelled(error: Exception | None = None) -> str:
    async def work() -> None:
        with preserve_cancellation():
            await forget(error)

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    return "cancelled" if task.cancelled() else "went on"


async def test_preserve_cancellation_raises_a_forgotten_cancellation() -> None:
    assert await outcome_when_cancelled() == "cancelled"


async def test_preserve_cancellation_replaces_another_error() -> None:
    assert await outcome_when_cancelled(OSError()) == "cancelled"


async def test_preserve_cancellation_changes_nothing_without_a_cancellation() -> None:
    with preserve_cancellation():
        pass
    with pytest.raises(OSError, match="as it was"), preserve_cancellation():
        raise OSError("as it was")


async def test_preserve_cancellation_keeps_an_outer_timeout() -> None:
    async def work() -> None:
        async with asyncio.timeout(0):
            with preserve_cancellation():
                await forget()

    with pytest.raises(TimeoutError):
        await work()


async def test_cancel_and_wait_cancels_again_if_the_task_forgets() -> None:
    async def work() -> None:
        await forget()
        await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    await cancel_and_wait(task, again_seconds=0.01)
    assert task.cancelled()


async def test_cancel_and_wait_returns_for_a_finished_task() -> None:
    failed, done = asyncio.create_task(forget(OSError())), asyncio.create_task(asyncio.sleep(0))
    await asyncio.sleep(0)
    await cancel_and_wait(failed)
    await cancel_and_wait(done)
    await cancel_and_wait(done)
    assert isinstance(failed.exception(), OSError)


async def test_task_group_raises_the_error_of_a_task_and_not_a_group_of_errors() -> None:
    async def fail() -> None:
        raise LookupError

    started = []
    with pytest.raises(LookupError):
        async with task_group() as tasks:
            started = [tasks.create_task(fail()), tasks.create_task(asyncio.sleep(3600))]
    assert started[1].cancelled()


async def test_task_group_raises_the_error_of_its_block() -> None:
    async def fail_in_block() -> None:
        async with task_group() as tasks:
            tasks.create_task(asyncio.sleep(3600), name="the-other")
            await asyncio.sleep(0)
            raise LookupError

    with pytest.raises(LookupError):
        await fail_in_block()
    assert "the-other" not in {task.get_name() for task in asyncio.all_tasks()}


async def test_wait_event_returns_true_when_the_event_is_set() -> None:
    event = asyncio.Event()
    asyncio.get_running_loop().call_soon(event.set)
    assert await wait_event(event, timeout=None)
    assert await wait_event(event, timeout=0)


async def test_wait_event_returns_false_when_the_time_is_over() -> None:
    assert not await wait_event(asyncio.Event(), timeout=0)


async def test_wait_event_raises_when_its_task_is_cancelled() -> None:
    task = asyncio.create_task(wait_event(asyncio.Event(), timeout=60))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
