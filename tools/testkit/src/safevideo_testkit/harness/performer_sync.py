"""Syncs of performers in a test: jobs in a database, and a simulator as the master."""

import asyncio
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import UTC, datetime

import msgspec
from prometheus_client import CollectorRegistry
from sqlalchemy import select

from safevideo_common.clock import utc_now
from safevideo_common.database import performers
from safevideo_common.database.engine import Database
from safevideo_common.database.performers import LockedPerformer
from safevideo_common.database.tables import outbox
from safevideo_common.database.tables import performers as performers_table
from safevideo_common.domain.ordering import WriteVersion
from safevideo_common.domain.performers import DEFAULTS, FIELDS, PUBLIC_NAMES, Performer
from safevideo_common.events.change_events import PerformerChange
from safevideo_common.jobs.handler import JobHandler
from safevideo_common.jobs.model import Job, JobStatus, NewJob
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_common.performer_sync.mirror import PerformerMirror
from safevideo_common.performer_sync.request import FETCH_JOB, SYNC_JOB
from safevideo_common.sharegram.client import SharegramClient
from safevideo_testkit.harness.jobs import JobHarness
from sharegram_simulator.client import SimulatorClient
from sync_worker.performers.deletions import Deletions
from sync_worker.performers.fetch_job import PerformerFetchJob
from sync_worker.performers.metrics import SyncMetrics
from sync_worker.performers.scan_job import PerformerSyncJob


@dataclass
class RecordingCache:
    """A cache that remembers what was invalidated."""

    ids: list[int] = field(default_factory=list)

    async def invalidate(self, performer_ids: Collection[int]) -> None:
        self.ids += performer_ids


def sync_handlers(
    database: Database, sharegram: SharegramClient, logger: FilteringBoundLogger, cache: RecordingCache | None = None,
    *, page_size: int, registry: CollectorRegistry | None = None,
) -> dict[str, JobHandler]:  # fmt: skip
    """Return the handlers of syncs, as sync-worker has them."""
    mirror = PerformerMirror(cache or RecordingCache(), utc_now)
    deletions = Deletions(database, sharegram, mirror, 0.05)
    metrics = SyncMetrics(registry or CollectorRegistry(), utc_now)
    scan = PerformerSyncJob(
        database, sharegram, mirror, deletions, utc_now, logger, asyncio.Event(), metrics, page_size
    )
    return {SYNC_JOB: scan, FETCH_JOB: PerformerFetchJob(database, sharegram, mirror)}


@dataclass
class Syncs:
    """Runs sync jobs, and shows what is here and at the master."""

    database: Database
    simulator: SimulatorClient
    sharegram: SharegramClient
    jobs: JobHarness
    logger: FilteringBoundLogger
    cache: RecordingCache = field(default_factory=RecordingCache)
    page_size: int = 7
    registry: CollectorRegistry | None = None

    def handlers(self) -> dict[str, JobHandler]:
        return sync_handlers(
            self.database, self.sharegram, self.logger, self.cache, page_size=self.page_size, registry=self.registry
        )

    async def run(
        self, job_type: str = SYNC_JOB, *, ends: JobStatus = JobStatus.COMPLETED, **parameters: object
    ) -> Job:
        """Run a job to its end."""
        job_id = await self.jobs.enqueue(NewJob(job_type, parameters))
        async with self.jobs.running(self.handlers()):
            return await self.jobs.wait_for_status(job_id, ends)

    async def full(self) -> dict[str, object]:
        """Run a full sync, and return its result."""
        job = await self.run(fullSync=True)
        assert job.result is not None
        return dict(job.result)

    async def at_master(self, performer_id: str, **order: object) -> None:
        """Create or change a performer at the master, without a webhook."""
        await self.simulator.post("/_sim/performers", {"performerId": performer_id, "silent": True, **order})

    async def invent(self, count: int) -> list[str]:
        """Create performers at the master, without webhooks."""
        made = await self.simulator.post("/_sim/performers", {"count": count, "silent": True})
        return [each["performerId"] for each in made["performers"]]

    async def store(self, *names: str, version: int = 1, **fields: object) -> None:
        """Store performers here, as webhooks have left them."""
        write_version = WriteVersion(version, 1_700_000_000_000_000, 5)
        whole = {**dict.fromkeys(FIELDS), **DEFAULTS, **fields}
        new = [Performer(name, whole, dict.fromkeys(FIELDS, write_version)) for name in names]
        async with self.database.transaction() as tx:
            await performers.insert_new(tx, new, datetime(2026, 11, 1, tzinfo=UTC))

    async def stored(self) -> dict[str, LockedPerformer]:
        """Return all performers here by Sharegram id."""
        async with self.database.read_connection() as connection:
            names = (await connection.scalars(select(performers_table.c.sharegram_id))).all()
            return dict(await performers.load(connection, names))

    async def differences(self) -> list[str]:
        """Return the performers that are not field by field as at the master."""
        here = {name: row.performer for name, row in (await self.stored()).items() if row.performer.deleted_at is None}
        master = {each["performerId"]: each for each in (await self.simulator.state())["performers"]}
        wire = {"display_name": "displayName", "profile_image": "profileImage"}
        expected = {
            name: {
                **{each: record["profile"].get(wire.get(each, each), DEFAULTS.get(each)) for each in FIELDS},
                "status": record["status"],
            }
            for name, record in master.items()
        }
        found = {name: dict(performer.fields) for name, performer in here.items()}
        return sorted(name for name in {*expected, *found} if expected.get(name) != found.get(name))

    async def followed(self) -> dict[str, dict[str, object]]:
        """Return the fields of each performer as a follower of the change events has them, who skips late repeats."""
        columns = {wire: name for name, wire in PUBLIC_NAMES.items()}
        last: dict[str, int] = {}
        fields: dict[str, dict[str, object]] = {}
        for _, body in await self.published():
            change = msgspec.convert(body, PerformerChange)
            if change.sequence > last.get(change.performer_id, 0):
                last[change.performer_id] = change.sequence
                current = fields.setdefault(change.performer_id, {**dict.fromkeys(FIELDS), **DEFAULTS})
                current |= {columns[name]: value for name, value in change.changes.items() if name in columns}
        return fields

    async def published(self) -> list[tuple[str, dict[str, object]]]:
        """Return id and body of the change events, in order."""
        query = select(outbox.c.headers, outbox.c.payload).where(outbox.c.topic == "integration.events.v1")
        async with self.database.read_connection() as connection:
            rows = (await connection.execute(query.order_by(outbox.c.id))).all()
        headers = msgspec.msgpack.Decoder(tuple[tuple[str, bytes], ...])
        return [(dict(headers.decode(row.headers))["ce_id"].decode(), msgspec.json.decode(row.payload)) for row in rows]
