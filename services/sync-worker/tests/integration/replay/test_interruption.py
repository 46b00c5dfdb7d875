"""A replay that is interrupted repeatedly while live events flow: the rows end as without it."""

import asyncio
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from random import Random
from typing import Any

from safevideo_common.broker.port import Broker, Reader
from safevideo_common.broker.types import Record, TopicPartition
from safevideo_common.jobs.handler import JobContext, JobHandler, RetryableJobError
from safevideo_common.jobs.model import DEFAULT_MAX_ATTEMPTS, Job
from safevideo_common.replay.job import CONCURRENT_PARTITIONS
from safevideo_common.replay.reader import CHUNK_RECORDS
from safevideo_common.replay.request import JOB_TYPE
from safevideo_common.tasks import cancel_and_wait
from safevideo_testkit.eventually import eventually
from safevideo_testkit.harness.replay import (
    PERFORMERS,
    ReplayHarness,
    Sent,
    expected_rows,
    history,
    result_of,
)

EVENTS = int(os.environ.get("REPLAY_EVENTS", "2000"))
"""By hand 50,000: `REPLAY_EVENTS=50000 pytest -k interrupted`."""
CUTS = 10
"""Twice as many as a job has attempts at one place."""
DRY_CUTS = DEFAULT_MAX_ATTEMPTS - 1
"""A dry run has a checkpoint only where a partition ends."""
SECONDS = max(3.0, EVENTS / 4000)
"""Each run is interrupted within a seventh of it."""
SLOWLY = int(EVENTS / SECONDS / 8)
"""Events per second. Each run begins with a second's worth, and ten runs must not reach the end."""


class CountingReader:
    """Counts what is read."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self.records = 0

    async def offsets_for_time(self, topic: str, timestamp_ms: int) -> Mapping[TopicPartition, int]:
        return await self._reader.offsets_for_time(topic, timestamp_ms)

    async def start_offsets(self, topic: str) -> Mapping[TopicPartition, int]:
        return await self._reader.start_offsets(topic)

    async def end_offsets(self, topic: str) -> Mapping[TopicPartition, int]:
        return await self._reader.end_offsets(topic)

    async def read(self, partition: TopicPartition, offset: int, max_records: int) -> Sequence[Record]:
        records = await self._reader.read(partition, offset, max_records)
        self.records += len(records)
        return records


class CountingBroker:
    """A broker whose readers count."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self.readers: list[CountingReader] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._broker, name)

    @asynccontextmanager
    async def reader(self, client_id: str) -> AsyncIterator[CountingReader]:
        async with self._broker.reader(client_id) as reader:
            self.readers.append(CountingReader(reader))
            yield self.readers[-1]


@dataclass
class InterruptedJob:
    """A job handler that is cancelled at a random await, like by a kill, once it has moved the cursor."""

    handler: JobHandler
    harness: ReplayHarness
    random: Random
    max_cuts: int
    waits_for_progress: bool
    cuts: int = 0

    async def run(self, job: JobContext) -> Mapping[str, object] | None:
        if self.cuts == self.max_cuts:
            return await self.handler.run(job)
        start = job.cursor

        async def has_moved() -> bool:
            return work.done() or (await self.harness.jobs.job(job.job_id)).cursor != start

        work = asyncio.ensure_future(self.handler.run(job))
        try:
            if self.waits_for_progress:
                await eventually(has_moved)
            await asyncio.wait([work], timeout=self.random.uniform(0.03, 0.15) * SECONDS)
            if work.done():
                return work.result()
        finally:
            await cancel_and_wait(work)
        self.cuts += 1
        raise RetryableJobError("CUT_OFF", "by the test")


async def interrupt_while_live_events_flow(
    harness: ReplayHarness, new: Sequence[Sent], cuts: int = CUTS, **parameters: bool
) -> tuple[Job, int]:
    """Return the completed job, and how many records were read for it."""
    counting: Any = CountingBroker(harness.broker)
    handler = InterruptedJob(replace(harness.replay_job, broker=counting), harness, Random(5), cuts, cuts == CUTS)
    async with harness.jobs.running({JOB_TYPE: handler}, service="sync-worker"):
        job_id = await harness.jobs.enqueue(harness.new_job(**parameters, eventsPerSecond=SLOWLY))
        batch = max(1, len(new) // 20)
        for start in range(0, len(new), batch):
            await harness.publish(*new[start : start + batch])
            await harness.consume(500)
        job = await harness.wait_until_completed(job_id, 60 + 20 * SECONDS)
    assert (handler.cuts, job.attempts) == (cuts, cuts + 1)
    return job, sum(each.records for each in counting.readers)


def check_counts(job: Job, records: int) -> None:
    result = result_of(job)
    assert job.processed_items == job.total_items
    assert sum(result["byOutcome"].values()) == sum(result["byType"].values()) == result["events"]
    assert job.total_items is not None
    # Of each lane one chunk is in work and one is read ahead.
    assert job.total_items <= records <= job.total_items + CUTS * CONCURRENT_PARTITIONS * 2 * CHUNK_RECORDS


async def test_interrupted_forced_replay_restores_all_and_overwrites_nothing_newer(harness: ReplayHarness) -> None:
    old, new = history(harness, EVENTS), history(harness, EVENTS // 4, EVENTS)
    await harness.publish(*old)
    await harness.consume(500)
    await harness.delete_inbox_rows(*old[: EVENTS // 10])
    for number in range(PERFORMERS):
        if number % 3:
            await harness.damage(str(number), username="damaged", bio=None)
        else:
            await harness.delete_performer(str(number))
    job, records = await interrupt_while_live_events_flow(harness, new, force=True)
    assert await harness.rows() == expected_rows([*old, *new])
    rows = await harness.inbox()
    assert sorted(event_id for event_id, *_ in rows) == sorted(each.event_id for each in (*old, *new))
    assert {duplicates for *_, duplicates in rows} == {0}
    assert result_of(job)["events"] >= len(old)
    check_counts(job, records)


async def test_interrupted_replay_applies_missing_events_once(harness: ReplayHarness) -> None:
    old, new = history(harness, EVENTS), history(harness, EVENTS // 4, EVENTS)
    await harness.publish(*old[: EVENTS // 10])
    await harness.consume(500)
    await harness.publish(*old[EVENTS // 10 :])
    await harness.skip()
    job, records = await interrupt_while_live_events_flow(harness, new, force=False)
    assert await harness.rows() == expected_rows([*old, *new])
    rows = await harness.inbox()
    assert sorted(event_id for event_id, *_ in rows) == sorted(each.event_id for each in (*old, *new))
    assert {duplicates for *_, duplicates in rows} == {0}
    assert result_of(job)["byOutcome"]["known"] >= EVENTS // 10
    check_counts(job, records)


async def test_interrupted_dry_run_has_the_result_of_a_complete_one(harness: ReplayHarness) -> None:
    old = history(harness, EVENTS // 2)
    await harness.publish(*old[: EVENTS // 4])
    await harness.consume(500)
    await harness.publish(*old[EVENTS // 4 :])
    await harness.skip()
    before = await harness.performers(), await harness.inbox(), await harness.published_changes()
    job, _ = await interrupt_while_live_events_flow(harness, (), DRY_CUTS, dryRun=True)
    assert job.processed_items == job.total_items
    assert in_order(result_of(job)) == in_order(result_of(await harness.replay(dryRun=True)))
    assert (await harness.performers(), await harness.inbox(), await harness.published_changes()) == before


def in_order(result: dict[str, Any]) -> dict[str, Any]:
    """Sort the performers: two partitions run concurrently, so their order varies."""
    return result | {"performers": sorted(result["performers"], key=lambda each: str(each["performerId"]))}
