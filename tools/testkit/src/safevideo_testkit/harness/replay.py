"""Performer events in a log, a worker's consumer of them without its subscription, and the engine that replays them."""

import secrets
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import orjson
from prometheus_client import CollectorRegistry
from sqlalchemy import select, update

from safevideo_common.broker.port import BatchProducer, Broker, NullClaim
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
from safevideo_common.inbox.handler import delivery_of
from safevideo_common.inbox.metrics import ConsumerMetrics
from safevideo_common.inbox.processor import BatchProcessor, ConsumerContext
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
from sync_worker.performers.handler import PerformerHandler, PerformerStates
from sync_worker.performers.parsing import PerformerEvent

PERFORMERS = 100
"""Of a history."""
AT = datetime(2026, 11, 24, 12, tzinfo=UTC)


class Dropped:
    """A cache that remembers what was dropped."""

    def __init__(self) -> None:
        self.ids: list[int] = []

    async def drop(self, performer_ids: Collection[int]) -> None:
        self.ids += performer_ids


@dataclass(frozen=True)
class Sent:
    """A change of one performer, with its place in the provider's order."""

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


def folded(events: Sequence[Sent]) -> dict[str, dict[str, object]]:
    """The fields of each performer after all events, by the domain's rules alone."""
    found: dict[str, Performer] = {}
    for place, event in enumerate(events):
        write_version = write_version_of(event.version, AT, place)
        before = found.get(event.performer_id) or Performer(event.performer_id)
        changes = {"display_name" if name == "displayName" else name: each for name, each in event.changes.items()}
        found[event.performer_id], _ = decide(before, PerformerPatch(changes, write_version))
    return {name: {each: row.fields.get(each) for each in FIELDS} for name, row in found.items()}


def history(bench: "ReplayHarness", number: int, first: int = 0) -> list[Sent]:
    """Patches of different fields, their versions in some disorder."""
    random = Random(first)
    fields = ("username", "bio", "displayName", "email")
    events = []
    for place in range(first, first + number):
        changes: dict[str, Any] = {each: f"{each} {place}" for each in random.sample(fields, random.randint(1, 3))}
        events.append(bench.event(str(random.randrange(PERFORMERS)), place + random.randrange(50), **changes))
    return events


def result_of(job: Job) -> dict[str, Any]:
    """What the job has found."""
    assert job.result is not None
    return dict(job.result)


@dataclass
class ReplayHarness:
    """What was published since it was made is its own, told apart from others' by the performers' names."""

    database: Database
    broker: Broker
    publisher: BatchProducer
    jobs: JobHarness
    log: FilteringBoundLogger
    starts: dict[TopicPartition, int]
    began: datetime
    names: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.drops = Dropped()
        self.prefix = f"sg_{secrets.token_hex(4)}"
        self.handler = PerformerHandler(utc_now, self.drops)
        self.consumer: ConsumerContext[PerformerEvent, PerformerStates] = ConsumerContext(
            SYNC_WORKER, self.handler, self.database, Backoff(1, 8), utc_now, self.log,
            ConsumerMetrics(CollectorRegistry()), DlqLimit(0.5, 1000, 100),
        )  # fmt: skip
        self.registry = CollectorRegistry()
        self.replays = ReplayJob(
            self.broker, self.consumer, self.handler, lambda: DlqLimit(0.5, 1000, 100), ReplayMetrics(self.registry)
        )

    def event(self, name: str, version: int, **changes: Any) -> Sent:
        return Sent(f"{self.prefix}_{name}", version, changes)

    async def publish(self, *events: Sent) -> None:
        self.names |= {each.performer_id for each in events}
        for start in range(0, len(events), 500):
            await self.publisher.publish_batch([each.message() for each in events[start : start + 500]])

    async def live(self, batch: int = 100) -> None:
        """Apply all that was published since the last time, as the worker does."""
        async with self.broker.reader("live") as reader:
            for partition, end in (await reader.end_offsets(PERFORMER)).items():
                while (offset := self.starts[partition]) < end:
                    records = await reader.read(partition, offset, batch)
                    ours = [each for each in map(delivery_of, records) if each.envelope.subject in self.names]
                    await BatchProcessor(self.consumer).apply(ours, NullClaim())
                    self.starts[partition] = records[-1].offset + 1

    def asked(self, **parameters: Any) -> NewJob:
        known = {
            "topic": PERFORMER, "target": SYNC_WORKER, "from": rfc3339(self.began), "dryRun": False,
            "performerIds": sorted(self.names), "eventsPerSecond": MAX_EVENTS_PER_SECOND,
        }  # fmt: skip
        return NewJob(JOB_TYPE, known | parameters, runner=SYNC_WORKER, max_attempts=100)

    async def replay(self, handler: JobHandler | None = None, **parameters: Any) -> Job:
        """Run one to its end."""
        async with self.jobs.running({JOB_TYPE: handler or self.replays}, service=SYNC_WORKER):
            return await self.ended(await self.jobs.enqueue(self.asked(**parameters)))

    async def ended(self, job_id: int, seconds: float = 60) -> Job:
        """Once it is completed; fails when it ends in another way."""

        async def has_ended() -> bool:
            return (await self.jobs.job(job_id)).status in FINISHED

        await eventually(has_ended, seconds)
        job = await self.jobs.job(job_id)
        assert (job.status, job.error) == (JobStatus.COMPLETED, None)
        return job

    async def rows(self) -> dict[str, dict[str, object]]:
        """The fields of each performer as they are stored."""
        async with self.database.read_connection() as reading:
            found = await performers.load(reading, self.names)
        return {name: dict(row.performer.fields) for name, row in found.items()}

    async def stamped(self) -> dict[str, object]:
        """Return the performers with their write versions."""
        async with self.database.read_connection() as reading:
            found = await performers.load(reading, self.names)
        return {name: row.performer for name, row in found.items()}

    async def damage(self, name: str, **values: object) -> None:
        """What an operator does by hand, or a bug."""
        async with self.database.transaction() as tx:
            await tx.execute(update(table).where(table.c.sharegram_id == f"{self.prefix}_{name}").values(**values))

    async def inbox(self) -> list[tuple[str, str, int]]:
        """Event, status and duplicates of each row, in the order of arrival."""
        columns = event_inbox.c.event_id, event_inbox.c.status, event_inbox.c.duplicates
        async with self.database.read_connection() as reading:
            return [
                (row[0], row[1], row[2]) for row in await reading.execute(select(*columns).order_by(event_inbox.c.id))
            ]

    async def forget(self, *events: Sent) -> None:
        """As if these had never come here: a backup that was too old, or a bug."""
        async with self.database.transaction() as tx:
            await tx.execute(event_inbox.delete().where(event_inbox.c.event_id.in_([each.event_id for each in events])))

    async def told(self) -> list[Message]:
        """What waits in the outbox, but for what wakes workers."""
        async with self.database.read_connection() as reading:
            messages = [each.message for each in await outbox_store.fetch_pending(reading, 100_000, 1 << 30)]
        return [each for each in messages if each.topic == "integration.events.v1"]

    async def delete(self, name: str) -> None:
        """A performer's row is gone."""
        async with self.database.transaction() as tx:
            await tx.execute(table.delete().where(table.c.sharegram_id == f"{self.prefix}_{name}"))

    async def cancel(self, job_id: int) -> None:
        async with self.database.transaction() as tx:
            await job_admin.cancel(tx, job_id, "enough")

    async def skip(self) -> None:
        """The live flow never sees what was published since: its range is lost."""
        async with self.broker.reader("live") as reader:
            self.starts = dict(await reader.end_offsets(PERFORMER))
