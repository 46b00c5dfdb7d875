"""A connection that is lost at its COMMIT: nobody knows what became of it, but for the inbox."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from sqlalchemy import text

from safevideo_common.database.engine import Database
from safevideo_common.errors import DatabaseUnavailable
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_testkit.eventually import DEADLINE_SECONDS, eventually
from safevideo_testkit.faults.commit_proxy import CommitFaultProxy, Cut, open_commit_fault_proxy
from safevideo_testkit.harness.consumer import run_sample_consumer, wait_for_words
from safevideo_testkit.harness.processor import ProcessorHarness, sample_event


@asynccontextmanager
async def through_a_cutter(url: str) -> AsyncIterator[tuple[Database, CommitFaultProxy]]:
    async with (
        open_commit_fault_proxy(url) as (cut_url, cutter),
        Database.open(cut_url, timeout=DEADLINE_SECONDS) as database,
    ):
        yield database, cutter


@pytest.mark.parametrize("cuts", [("before",), ("after",), ("after", "before", "after")])
async def test_lost_commit_applies_a_batch_once(
    cuts: tuple[Cut, ...], url: str, seen: ProcessorHarness, log: FilteringBoundLogger, tmp_path: Path
) -> None:
    async with (
        through_a_cutter(url) as (database, cutter),
        run_sample_consumer(database, tmp_path, log) as stream,
    ):
        await stream.publish("sg_1", "a")
        await wait_for_words(seen, {"sg_1": "a"})
        cutter.cut_next(*cuts)
        await stream.publish("sg_1", *"bcdefg")

        async def all_cuts_made() -> bool:
            return cutter.cuts_made == len(cuts)

        await eventually(all_cuts_made)  # the consumer repeats its batch until a commit is not cut
        await wait_for_words(seen, {"sg_1": "a b c d e f g"})


@pytest.mark.parametrize("cut", ["before", "after"])
async def test_lost_commit_applies_retried_events_once_and_runs_after_commit(
    cut: Cut, url: str, seen: ProcessorHarness, log: FilteringBoundLogger
) -> None:
    async with through_a_cutter(url) as (database, cutter):
        harness = ProcessorHarness(database, log)
        harness.handler.is_open = False
        await harness.process(sample_event("sg_1", "a"), sample_event("sg_1", "wait"), sample_event("sg_1", "b"))
        harness.handler.is_open = True
        harness.handler.committed.clear()
        cutter.cut_next(cut)
        with pytest.raises(DatabaseUnavailable):
            await harness.scan_after(1)
        await harness.scan_after(0)
    await wait_for_words(seen, {"sg_1": "a wait b"})
    assert "sg_1" in harness.handler.committed


async def test_cancelled_task_with_a_lost_connection_ends_as_cancelled(database: Database) -> None:
    """The rollback fails there. A consumer that took that for an outage would go on, and its process never stop."""
    is_lost = asyncio.Event()

    async def work() -> None:
        async with database.transaction() as tx:
            own_id = await tx.scalar(text("SELECT CONNECTION_ID()"))
            async with database.transaction() as other:
                await other.execute(text(f"KILL CONNECTION {own_id}"))
            is_lost.set()
            await asyncio.Event().wait()

    working = asyncio.create_task(work())
    await is_lost.wait()
    working.cancel()
    await asyncio.wait([working])
    assert working.cancelled()
