"""A worker that is killed during a replay, has many replays, and keeps the offsets of its group."""

import os
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest
from aiokafka.structs import TopicPartition as KafkaPartition

from safevideo_common.broker.kafka.admin import open_admin
from safevideo_common.broker.port import Broker
from safevideo_common.events.topics import CONSUMED, SYNC_WORKER
from safevideo_common.jobs.model import FINISHED, JobStatus
from safevideo_common.replay.job import MAX_CONCURRENT_REPLAYS
from safevideo_testkit.consumer_groups import seek_groups_to_end
from safevideo_testkit.eventually import eventually
from safevideo_testkit.harness.replay import (
    PERFORMERS,
    ReplayHarness,
    Sent,
    expected_rows,
    history,
    result_of,
)
from safevideo_testkit.service_process import ServiceProcess
from safevideo_testkit.stacks import REAL, StackUnderTest

EVENTS = int(os.environ.get("REPLAY_EVENTS", "2000"))
KILLS = 10 if EVENTS > 10_000 else 2
PATIENCE_SECONDS = 120 + EVENTS / 100

only_real = pytest.mark.parametrize("stack", [REAL], indirect=True)


@pytest.fixture
async def worker(stack: StackUnderTest, broker: Broker, tmp_path: Path) -> AsyncIterator[ServiceProcess]:
    await seek_groups_to_end(stack.kafka_bootstrap_servers, broker, {SYNC_WORKER: CONSUMED[SYNC_WORKER]})
    environment = {
        "SAFEVIDEO_ENV": "development",
        "HOST": "127.0.0.1",
        "PORT": "0",
        "DATABASE_URL": stack.database_url,
        "REDIS_URL": stack.redis_url,
        "KAFKA_BOOTSTRAP_SERVERS": stack.kafka_bootstrap_servers,
        "JOB_LEASE_SECONDS": "4",
        "JOB_POLL_SECONDS": "0.1",
        "JOB_RETRY_INITIAL_SECONDS": "0.1",
    }
    process = ServiceProcess("sync_worker", environment, tmp_path / "sync-worker.out")
    await process.start()
    yield process
    await process.stop()


async def has_decided(harness: ReplayHarness, events: list[Sent]) -> None:
    event_ids = {each.event_id for each in events}

    async def is_so() -> bool:
        return event_ids <= {event_id for event_id, *_ in await harness.inbox()}

    await eventually(is_so, PATIENCE_SECONDS)


async def offsets_of_group(servers: str) -> Mapping[KafkaPartition, int]:
    async with open_admin(servers, "test", 5_000) as admin:
        found = await admin.list_consumer_group_offsets(SYNC_WORKER)
    return {partition: each.offset for partition, each in found.items()}


@only_real
async def test_replay_survives_repeated_kills_of_the_worker(harness: ReplayHarness, worker: ServiceProcess) -> None:
    old, new = history(harness, EVENTS), history(harness, EVENTS // 4, EVENTS)
    await harness.publish(*old)
    await has_decided(harness, old)
    await harness.delete_inbox_rows(*old[: EVENTS // 10])
    for number in range(PERFORMERS):
        if number % 3:
            await harness.damage(str(number), username="damaged", bio=None)
        else:
            await harness.delete_performer(str(number))
    job_id = await harness.jobs.enqueue(harness.new_job(force=True, eventsPerSecond=EVENTS // 5))
    for kill in range(KILLS):
        reached = (await harness.jobs.job(job_id)).processed_items

        async def goes_on(reached: int = reached) -> bool:
            return (await harness.jobs.job(job_id)).processed_items > reached

        await harness.publish(*new[kill * len(new) // KILLS : (kill + 1) * len(new) // KILLS])
        await eventually(goes_on, PATIENCE_SECONDS)
        assert (await harness.jobs.job(job_id)).status not in FINISHED
        await worker.kill()
        await worker.start()
    job = await harness.wait_until_completed(job_id, PATIENCE_SECONDS)
    await has_decided(harness, new)
    assert await harness.rows() == expected_rows([*old, *new])
    rows = await harness.inbox()
    assert sorted(event_id for event_id, *_ in rows) == sorted(each.event_id for each in (*old, *new))
    assert {duplicates for *_, duplicates in rows} == {0}
    assert [outcome for _, outcome in await harness.jobs.attempts(job_id)] == ["lease_lost"] * KILLS + ["completed"]
    assert sum(result_of(job)["byOutcome"].values()) == result_of(job)["events"] >= len(old)


@only_real
async def test_replay_does_not_change_the_offsets_of_the_group(
    harness: ReplayHarness, worker: ServiceProcess, stack: StackUnderTest
) -> None:
    events = history(harness, 200)
    await harness.publish(*events)
    await has_decided(harness, events)

    async def are_committed() -> bool:
        async with harness.broker.reader("test") as reader:
            ends = await reader.end_offsets("sharegram.performer.v1")
        committed = await offsets_of_group(stack.kafka_bootstrap_servers)
        return all(committed.get(KafkaPartition(*each), 0) == end for each, end in ends.items() if end)

    await eventually(are_committed, PATIENCE_SECONDS)
    before = await offsets_of_group(stack.kafka_bootstrap_servers)
    job_id = await harness.jobs.enqueue(harness.new_job(force=True))
    await harness.wait_until_completed(job_id)
    assert await offsets_of_group(stack.kafka_bootstrap_servers) == before
    assert worker.ended is None


@only_real
async def test_replay_over_the_limit_waits_in_the_queue(harness: ReplayHarness, worker: ServiceProcess) -> None:
    events = history(harness, 100)
    await harness.publish(*events)
    first, *others, last = [
        await harness.jobs.enqueue(harness.new_job(force=True, eventsPerSecond=1))
        for _ in range(MAX_CONCURRENT_REPLAYS + 1)
    ]
    for job_id in (first, *others):
        await harness.jobs.wait_for_status(job_id, JobStatus.PROCESSING)
    waiting = await harness.jobs.job(last)
    assert (waiting.status, waiting.lease_until) == (JobStatus.QUEUED, None)
    await harness.cancel(first)
    await harness.jobs.wait_for_status(last, JobStatus.PROCESSING)
    for job_id in (*others, last):
        await harness.cancel(job_id)
        await harness.jobs.wait_for_status(job_id, JobStatus.CANCELLED)
    assert worker.ended is None
