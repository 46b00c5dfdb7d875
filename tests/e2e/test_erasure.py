"""A person is erased through all services, and nothing brings the person back: no replay, redrive, sync or webhook."""

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from typing import Any

import aiohttp
from pydantic import SecretStr
from redis.asyncio import Redis
from sqlalchemy import select

import gateway.app
import kyc_worker.app
import sync_worker.app
import webhook_ingest.app
from gateway.settings import GatewaySettings
from kyc_worker.settings import KycWorkerSettings
from safevideo_common.audit.store import Caller
from safevideo_common.auth import api_keys
from safevideo_common.auth.api_keys import Role
from safevideo_common.broker.kafka import KafkaBroker
from safevideo_common.broker.port import Broker
from safevideo_common.cache.redis import open_redis
from safevideo_common.clock import utc_now
from safevideo_common.database.engine import Database
from safevideo_common.database.tables import batch_jobs, event_inbox, metadata, performers
from safevideo_common.events.topics import CHANGES, DEAD_LETTERS
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_common.privacy.erasure import Erasures
from safevideo_testkit.all_services import SECRET, ingest_only, serving, settings_of
from safevideo_testkit.broker_helpers import end_offsets, records_since
from safevideo_testkit.eventually import eventually
from safevideo_testkit.http import Api
from safevideo_testkit.kyc import KycClient, kyc_settings, sign_in
from safevideo_testkit.log_lines import app_lines, without_context
from safevideo_testkit.stacks import StackUnderTest
from sharegram_simulator.client import SimulatorClient
from sharegram_simulator.settings import SimulatorSettings
from sharegram_simulator.testing import running_simulator
from sync_worker.settings import SyncWorkerSettings
from webhook_ingest.api import PATH
from webhook_ingest.settings import IngestSettings

PLANTED = "Zebedee-Planted"
API_KEY, SECRET_KEY = "the-api-key-of-this-run", "the-secret-key-of-this-run"


@dataclass(slots=True)
class Site:
    """All services, the simulator, and a performer who is signed in."""

    database: Database
    broker: Broker
    redis: Redis
    simulator: SimulatorClient
    performer: KycClient
    admin: KycClient
    name: str
    webhook_url: str
    logs: Path

    async def profile(self, version: int) -> None:
        """Let the master have the name, and report it."""
        profile = {"username": PLANTED, "displayName": PLANTED, "email": f"{PLANTED}@example.com"}
        await self.simulator.post(
            "/_sim/performers", {"performerId": self.name, "profile": profile, "status": "active", "version": version}
        )

    async def broken_event(self, event_id: str) -> None:
        """Send an event with the name that no worker can apply: it is dead, with its body."""
        data = {"performerId": self.name, "changes": {"displayName": PLANTED, "username": 7}}
        body = {"event": "performer.profile.updated", "data": data, "id": event_id}
        await self.simulator.post("/_sim/webhooks", body)

    async def status_of(self, where: Any) -> list[str]:
        async with self.database.read_connection() as reading:
            return list(await reading.scalars(select(event_inbox.c.status).where(where)))

    async def wait_for(self, condition: Callable[[list[str]], bool]) -> None:
        """Wait for the statuses of the person's events."""

        async def is_so() -> bool:
            return condition(await self.status_of(event_inbox.c.performer_id == self.name))

        await eventually(is_so)

    async def wait_for_event(self, event_id: str, status: str) -> None:
        async def has_it() -> bool:
            return await self.status_of(event_inbox.c.event_id == event_id) == [status]

        await eventually(has_it)

    async def post(self, path: str, body: object) -> dict[str, Any]:
        url = f"{self.admin.site.base_url}/api/v1/{path}"
        async with self.admin.site.session.post(url, headers=self.admin.headers, json=body) as answer:
            document: dict[str, Any] = await answer.json()
            assert answer.status < 300, document
            return document

    async def job_ends(self, job_id: int) -> None:
        async def has_ended() -> bool:
            async with self.database.read_connection() as reading:
                status = await reading.scalar(select(batch_jobs.c.status).where(batch_jobs.c.id == job_id))
            assert status != "failed"
            return status == "completed"

        await eventually(has_ended)

    async def places(self) -> set[str]:
        """The tables and keys that have the name."""
        found = set()
        async with self.database.read_connection() as reading:
            for name, table in metadata.tables.items():
                if any(PLANTED in str(row) for row in await reading.execute(select(table))):
                    found.add(name)
        async for key in self.redis.scan_iter("*"):
            if await self.redis.type(key) == b"string" and PLANTED.encode() in (await self.redis.get(key) or b""):
                found.add(key.decode())
        return found


@asynccontextmanager
async def running_site(
    stack: StackUnderTest, broker: Broker, log: FilteringBoundLogger, logs: Path, tmp_path: Path
) -> AsyncIterator[Site]:
    async with AsyncExitStack() as opened:
        name = f"sg_{token_hex(4)}"
        database = await opened.enter_async_context(Database.open(stack.database_url))
        hook = await opened.enter_async_context(ingest_only(stack, broker, log))
        simulator = await opened.enter_async_context(
            running_simulator(
                SimulatorSettings(
                    port=0, webhook_url=hook, webhook_secret=SecretStr(SECRET), api_key=SecretStr(API_KEY),
                    secret_key=SecretStr(SECRET_KEY), retry_factor=0.01,
                )
            )
        )  # fmt: skip
        values = settings_of(stack) | kyc_settings(tmp_path / "documents")
        values |= {"sharegram_api_url": f"{simulator.base_url}/v1", "sharegram_api_key": API_KEY}
        values |= {"sharegram_secret_key": SECRET_KEY, "retry_initial_seconds": 0.05, "retry_max_seconds": 0.2}
        settings = GatewaySettings.model_validate(values)
        port = await opened.enter_async_context(serving(gateway.app.build_app(settings, broker, log), settings))
        kyc, sync = KycWorkerSettings.model_validate(values), SyncWorkerSettings.model_validate(values)
        await opened.enter_async_context(serving(kyc_worker.app.build_app(kyc, broker, log), kyc))
        await opened.enter_async_context(serving(sync_worker.app.build_app(sync, broker, log), sync))
        session = await opened.enter_async_context(aiohttp.ClientSession())
        site = Api(f"http://127.0.0.1:{port}", session)
        performer = await sign_in(site, database, stack.redis_url, name)
        async with database.transaction() as tx:
            key = await api_keys.create(tx, "an-admin", Role.ADMIN, utc_now())
        admin = KycClient(site, {"X-API-Client": "an-admin", "X-API-Key": key})
        redis = await opened.enter_async_context(open_redis(stack.redis_url, 0, seconds=5))
        yield Site(database, broker, redis, simulator, performer, admin, name, hook, logs)


@asynccontextmanager
async def ingest_with_spool(
    stack: StackUnderTest, broker: Broker, log: FilteringBoundLogger, spool: Path
) -> AsyncIterator[str]:
    """Run a further webhook-ingest; yield the URL of its webhooks."""
    values = settings_of(stack) | {"sharegram_webhook_secret": SECRET, "spool_dir": str(spool)}
    settings = IngestSettings.model_validate(values)
    async with serving(webhook_ingest.app.build_app(settings, broker, log), settings) as port:
        yield f"http://127.0.0.1:{port}{PATH}"


async def test_nothing_brings_an_erased_person_back(
    stack: StackUnderTest, broker: Broker, log: FilteringBoundLogger, logs: Path, tmp_path: Path
) -> None:
    async with running_site(stack, broker, log, logs, tmp_path) as site:
        await site.profile(version=1)
        await site.broken_event("evt_broken")
        await site.wait_for(lambda statuses: {"applied", "dead"} <= set(statuses))
        request_id = await site.performer.submitted()
        await site.performer.upload_all(request_id)
        async with site.database.read_connection() as reading:
            row_id = await reading.scalar(select(performers.c.id).where(performers.c.sharegram_id == site.name))
        await site.redis.set(f"performer:{row_id}", PLANTED)  # reads cache nothing shortly after a write
        assert {"performers", "event_inbox", f"performer:{row_id}"} <= await site.places()

        spool, no_kafka = tmp_path / "spool", KafkaBroker("127.0.0.1:1")
        async with ingest_with_spool(stack, no_kafka, log, spool) as url:
            await site.simulator.put("/_sim/webhook-url", {"url": url})
            changes = {"performerId": site.name, "changes": {"displayName": PLANTED}, "version": 5}
            event = {"event": "performer.profile.updated", "data": changes, "id": "evt_spooled"}
            (answer,) = (await site.simulator.post("/_sim/webhooks", event))["answers"]
            assert answer["status"] == 200
            await site.simulator.put("/_sim/webhook-url", {"url": site.webhook_url})
        assert any(PLANTED.encode() in each.read_bytes() for each in spool.rglob("*") if each.is_file())

        caller = Caller("privacy-officer", "admin", None, "r1")
        plan = await Erasures(site.database, utc_now).order(site.name, "request 7", caller)
        assert plan.job_id is not None
        await site.job_ends(plan.job_id)
        begins = await end_offsets(broker, [CHANGES, *DEAD_LETTERS])
        assert await site.places() == set()
        assert [each for each in (tmp_path / "documents").rglob("*/*") if each.is_file()] == []

        async with ingest_with_spool(stack, broker, log, spool):  # Kafka is available again
            await site.wait_for_event("evt_spooled", "ignored")
        await site.profile(version=2)  # the master still has the person
        await site.broken_event("evt_broken_again")
        await site.wait_for(lambda statuses: statuses.count("ignored") >= 4)
        replay = {"topic": "sharegram.performer.v1", "target": "sync-worker", "performerIds": [site.name]}
        for options in ({"dryRun": True, "force": True}, {"dryRun": False}, {"dryRun": False, "force": True}):
            started = await site.post("admin/replays", replay | options)
            await site.job_ends(started["data"]["jobId"])
        scan = await site.post("performers/sync", {"fullSync": True})
        await site.job_ends(scan["data"]["jobId"])
        await site.post(f"performers/{site.name}/sync", {"force": True})
        redrive = {"filter": {"performerId": site.name, "status": "dead"}, "dryRun": False}
        assert (await site.post("admin/events/redrive", redrive))["data"]["redriven"] == 0
        resync = await site.post("admin/kyc/resync", {"requestIds": [request_id]})
        await site.job_ends(resync["data"]["jobId"])
        assert (await site.performer.submit()).status == 401

        assert await site.places() == set()
        published = await records_since(broker, begins)
        assert not any(PLANTED.encode() in each.value for each in published)
        assert set(await site.status_of(event_inbox.c.performer_id == site.name)) <= {"applied", "ignored", "stale"}
        lines = app_lines(log, logs)
        assert any("Event dead-lettered" in line for line in lines)
        assert without_context(lines) == []
        assert PLANTED not in "".join(each.read_text() for each in logs.glob("*.log"))  # noqa: ASYNC240
