"""A harness for replays: performer events in a broker, a consumer without its subscription, and a job worker."""

import secrets
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import orjson
from prometheus_client import CollectorRegistry
from sqlalchemy import select, update

from safevideo_common.broker.port import BatchProducer, Broker
from safevideo_common.broker.types import Message, TopicPartition
from safevideo_common.clock import rfc3339, utc_now
from safevideo_common.database import performers
from safevideo_common.database.engine import Database
from safevideo_common.database.tables import event_inbox
from safevideo_common.database.tables import performers as table
from safevideo_common.domain.performers import FIELDS, Performer, PerformerPatch, decide
from safevideo_common.events.envelope import Envelope, write_version_of
from safevideo_common.events.topics import PERFORMER, SYNC_WORKER
from safevideo_common.inbox.dead_letters import DlqLimit
from safevideo_common.inbox.group_member import LagTrend
from safevideo_common.inbox.handler import delivery_of
from safevideo_common.inbox.metrics import ConsumerMetrics
from safevideo_common.inbox.processor import BatchProcessor, ConsumerContext, LivePolicy
from safevideo_common.jobs.handler import JobHandler
from safevideo_common.jobs.model import FINISHED, Job, JobStatus, NewJob
from safevideo_common.jobs.store import admin as job_admin
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_common.outbox import store as outbox_store
from safevideo_common.replay.job import ReplayJob
from safevideo_common.replay.metrics import ReplayMetrics
from safevideo_common.replay.request import JOB_TYPE, MAX_EVENTS_PER_SECOND
from safevideo_common.resilience.backoff import Backoff
from safevideo_testkit.eventually import eventually
from safevideo_testkit.harness.jobs import JobHarness
from sync_worker.performers.handler import PerformerEvent, PerformerHandler, PerformerStates

PERFORMERS = 100
"""In a history."""
AT = datetime(2026, 11, 24, 12, tzinfo=UTC)


class RecordingInvalidator:
    """A cache invalidator that records the ids."""

    def __init__(self) -> None:
        self.ids: list[int] = []

    async def invalidate(self, performer_ids: Collection[int]) -> None:
        self.ids += performer_ids


@dataclass(frozen=True)
class Sent:
    """A change of one performer, with its version."""

    performer_id: str
    version: int
    changes: Mapping[str, Any]
    event_id: str = field(default_factory=lambda: f"evt-{secrets.token_hex(8)}")

    def message(self) -> Message:
        envelope = Envelope(
            self.event_id, "performer.profile.updated", AT + timedelta(seconds=self.version), self.performer_id
        )
        data = {"performerId": self.performer_id, "changes": dict(self.changes), "version": self.version}
        return Message(PERFORMER, self.performer_id.encode(), orjson.dumps({"data": data}), envelope.headers())


def expected_rows(events: Sequence[Sent]) -> dict[str, dict[str, object]]:
    """Return the fields of each performer after all events, by the rules of the domain."""
    found: dict[str, Performer] = {}
    for arrival, event in enumerate(events):
        write_version = write_version_of(event.version, AT, arrival)
        before = found.get(event.performer_id) or Performer(event.performer_id)
        changes = {"display_name" if name == "displayName" else name: each for name, each in event.changes.items()}
        found[event.performer_id], _ = decide(before, PerformerPatch(changes, write_version))
    return {name: {each: row.fields.get(each) for each in FIELDS} for name, row in found.items()}


def history(harness: "ReplayHarness", number: int, first: int = 0) -> list[Sent]:
    """Return patches of different fields, with versions slightly out of order."""
    random = Random(first)
    fields = ("username", "bio", "displayName", "email")
    events = []
    for index in range(first, first + number):
        changes: dict[str, Any] = {each: f"{each} {index}" for each in random.sample(fields, random.randint(1, 3))}
        events.append(harness.event(str(random.randrange(PERFORMERS)), index + random.randrange(50), **changes))
    return events


def result_of(job: Job) -> dict[str, Any]:
    """Return the result of a job."""
    assert job.result is not None
    return dict(job.result)


@dataclass
class ReplayHarness:
    """A broker, a database and a replay job. A prefix keeps its performers apart from those of other tests."""

    database: Database
    broker: Broker
    publisher: BatchProducer
    jobs: JobHarness
    logger: FilteringBoundLogger
    starts: dict[TopicPartition, int]
    started_at: datetime
    names: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.invalidator = RecordingInvalidator()
        self.lag = LagTrend()
        self.prefix = f"sg_{secrets.token_hex(4)}"
        self.handler = PerformerHandler(utc_now, self.invalidator)
        self.consumer: ConsumerContext[PerformerEvent, PerformerStates] = ConsumerContext(
            SYNC_WORKER, self.handler, self.database, Backoff(1, 8), utc_now, self.logger,
            ConsumerMetrics(CollectorRegistry()), DlqLimit(0.5, 1000, 100),
        )  # fmt: skip
        self.registry = CollectorRegistry()
        self.replay_job = ReplayJob(
            self.broker, self.consumer, self.handler, self.lag, lambda: DlqLimit(0.5, 1000, 100),
            ReplayMetrics(self.registry),
        )  # fmt: skip

    def event(self, name: str, version: int, **changes: Any) -> Sent:
        return Sent(f"{self.prefix}_{name}", version, changes)

    async def publish(self, *events: Sent) -> None:
        self.names |= {each.performer_id for each in events}
        for start in range(0, len(events), 500):
            await self.publisher.publish_batch([each.message() for each in events[start : start + 500]])

    async def consume(self, batch: int = 100) -> None:
        """Process all events that were published since the last time, like the worker."""
        processor = BatchProcessor(self.consumer, LivePolicy(self.consumer))
        async with self.broker.reader("live") as reader:
            for partition, end in (await reader.end_offsets(PERFORMER)).items():
                while (offset := self.starts[partition]) < end:
                    records = await reader.read(partition, offset, batch)
                    ours = [each for each in map(delivery_of, records) if each.envelope.subject in self.names]
                    await processor.process(ours)
                    self.starts[partition] = records[-1].offset + 1

    def new_job(self, **parameters: Any) -> NewJob:
        defaults = {
            "topic": PERFORMER, "target": SYNC_WORKER, "from": rfc3339(self.started_at), "dryRun": False,
            "performerIds": sorted(self.names), "eventsPerSecond": MAX_EVENTS_PER_SECOND,
        }  # fmt: skip
        return NewJob(JOB_TYPE, defaults | parameters, runner=SYNC_WORKER)

    async def replay(self, handler: JobHandler | None = None, **parameters: Any) -> Job:
        """Run a replay to its end."""
        async with self.jobs.running({JOB_TYPE: handler or self.replay_job}, service=SYNC_WORKER):
            return await self.wait_until_completed(await self.jobs.enqueue(self.new_job(**parameters)))

    async def wait_until_completed(self, job_id: int, seconds: float = 60) -> Job:
        """Wait until the job has ended, and check that it is completed."""

        async def has_ended() -> bool:
            return (await self.jobs.job(job_id)).status in FINISHED

        await eventually(has_ended, seconds)
        job = await self.jobs.job(job_id)
        assert (job.status, job.error) == (JobStatus.COMPLETED, None)
        return job

    async def rows(self) -> dict[str, dict[str, object]]:
        """Return the stored fields of each performer."""
        async with self.database.read_connection() as reading:
            found = await performers.load(reading, self.names)
        return {name: dict(row.performer.fields) for name, row in found.items()}

    async def performers(self) -> dict[str, object]:
        """Return the stored performers with their write versions."""
        async with self.database.read_connection() as reading:
            found = await performers.load(reading, self.names)
        return {name: row.performer for name, row in found.items()}

    async def damage(self, name: str, **values: object) -> None:
        """Change a row, as an operator or a bug may do."""
        async with self.database.transaction() as tx:
            await tx.execute(update(table).where(table.c.sharegram_id == f"{self.prefix}_{name}").values(**values))

    async def inbox(self) -> list[tuple[str, str, int]]:
        """Return event, status and duplicates of each row, in the order of arrival."""
        columns = event_inbox.c.event_id, event_inbox.c.status, event_inbox.c.duplicates
        async with self.database.read_connection() as reading:
            return [
                (row[0], row[1], row[2]) for row in await reading.execute(select(*columns).order_by(event_inbox.c.id))
            ]

    async def outcomes(self) -> list[tuple[str, str | None]]:
        """Return status and reason of each row, in the order of arrival."""
        columns = event_inbox.c.status, event_inbox.c.reason
        async with self.database.read_connection() as reading:
            return [(row[0], row[1]) for row in await reading.execute(select(*columns).order_by(event_inbox.c.id))]

    async def set_status(self, event: Sent, status: str) -> None:
        """Give an event another status, as another release would have decided it."""
        async with self.database.transaction() as tx:
            await tx.execute(update(event_inbox).where(event_inbox.c.event_id == event.event_id).values(status=status))

    async def delete_inbox_rows(self, *events: Sent) -> None:
        """Delete the inbox rows of events, as after the restore of an old backup."""
        async with self.database.transaction() as tx:
            await tx.execute(event_inbox.delete().where(event_inbox.c.event_id.in_([each.event_id for each in events])))

    async def published_changes(self) -> list[Message]:
        """Return the change messages in the outbox."""
        async with self.database.read_connection() as reading:
            messages = [each.message for each in (await outbox_store.fetch_pending(reading, 100_000, 1 << 30)).messages]
        return [each for each in messages if each.topic == "integration.events.v1"]

    async def delete_performer(self, name: str) -> None:
        """Delete a performer's row."""
        async with self.database.transaction() as tx:
            await tx.execute(table.delete().where(table.c.sharegram_id == f"{self.prefix}_{name}"))

    async def cancel(self, job_id: int) -> None:
        async with self.database.transaction() as tx:
            await job_admin.cancel(tx, job_id, "enough")

    async def skip(self) -> None:
        """Let the consumer skip all published events."""
        async with self.broker.reader("live") as reader:
            self.starts = dict(await reader.end_offsets(PERFORMER))
