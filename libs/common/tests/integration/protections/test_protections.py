"""What operators decide by hand, on both databases and a real Redis: in force everywhere, kept, audited, ended."""

import asyncio
import os
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta

import pytest
from redis.asyncio import Redis
from sqlalchemy import delete, insert, select, update

from safevideo_common.audit import store as audit_store
from safevideo_common.audit.store import AuditFilter, Caller
from safevideo_common.cache.redis import open_redis
from safevideo_common.clock import utc_now
from safevideo_common.database import integrations
from safevideo_common.database.engine import Database
from safevideo_common.database.tables import batch_jobs, overrides
from safevideo_common.encryption import EncryptionKeys, Purpose
from safevideo_common.errors import CircuitBreakerOpen
from safevideo_common.jobs.handler import JobContext
from safevideo_common.jobs.model import NewJob
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_common.protections.gate import SharegramGate
from safevideo_common.protections.integration import SharegramIntegration, encrypt_credentials
from safevideo_common.protections.service import BreakerNotFound, ProtectionService
from safevideo_common.protections.watcher import FallbackMode, OverrideWatcher
from safevideo_common.resilience.breaker.breaker import BreakerState, CircuitBreaker
from safevideo_common.resilience.breaker.state import BreakerPolicy, SharedBreakerState
from safevideo_common.resilience.fail_fast_redis import FailFastRedis
from safevideo_common.sharegram.http import SharegramCredentials
from safevideo_testkit.eventually import DEADLINE_SECONDS, eventually, running_task
from safevideo_testkit.harness.jobs import QUICK, FunctionHandler, JobHarness

KEY = "breaker:{sharegram}"
CIPHER = EncryptionKeys([bytes(32)]).cipher(Purpose.SHAREGRAM_CREDENTIALS)
OPERATOR = Caller("operations", "admin", "192.0.2.10", "request-1")


class Process:
    """The protections of one process. Its clock stands still, until a test moves it."""

    def __init__(self, database: Database, redis: Redis, log: FilteringBoundLogger) -> None:
        self.now = 1000.0
        policy = BreakerPolicy()
        fail_fast = FailFastRedis(redis, seconds=DEADLINE_SECONDS)
        self.shared = SharedBreakerState(fail_fast, "sharegram", policy)
        self.breaker = CircuitBreaker("sharegram", self.shared, log, policy, clock=self.clock)
        self.fallback = FallbackMode("sharegram", clock=self.clock)
        keys = SharegramCredentials("key of the environment", "secret of the environment")
        self.integration = SharegramIntegration(keys, "safevideo", CIPHER, log, has_address=True)
        self.watcher = OverrideWatcher(database, self.breaker, self.fallback, self.integration, utc_now, log)

    def clock(self) -> float:
        return self.now

    async def started(self) -> "Process":
        await self.watcher.load()
        await self.breaker.poll()
        return self

    async def signalled(self) -> None:
        await self.breaker.poll()
        assert self.breaker.signalled.is_set()
        await self.watcher.load()

    async def is_rejecting(self) -> bool:
        try:
            (await self.breaker.acquire(30)).release()
        except CircuitBreakerOpen:
            return True
        return False


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    async with open_redis(redis_url, 3, seconds=DEADLINE_SECONDS) as redis:
        yield redis


@pytest.fixture
async def process(database: Database, redis: Redis, log: FilteringBoundLogger) -> Process:
    return await Process(database, redis, log).started()


@pytest.fixture
def operators(database: Database, process: Process) -> ProtectionService:
    return ProtectionService(database, {"sharegram": process.shared}, utc_now)


async def audited(database: Database) -> list[str]:
    async with database.read_connection() as connection:
        records, _ = await audit_store.find(connection, AuditFilter(), page=1, limit=20, order="asc")
    return [record.entry.action for record in records]


async def test_breaker_that_an_operator_opened_survives_a_flush_and_a_start_without_redis(
    operators: ProtectionService, process: Process, database: Database, redis: Redis, log: FilteringBoundLogger
) -> None:
    await operators.open("sharegram", 3600, "maintenance", OPERATOR)
    await process.signalled()
    assert await process.is_rejecting()
    await redis.flushdb()
    await process.signalled()
    assert await process.is_rejecting()
    await redis.set(KEY, "of another type")  # every command fails from now on
    assert await (await Process(database, redis, log).started()).is_rejecting()


async def test_close_and_reset_make_it_automatic_again(
    operators: ProtectionService, process: Process, database: Database
) -> None:
    await operators.open("sharegram", 3600, "maintenance", OPERATOR)
    await process.signalled()
    await operators.close("sharegram", "over", OPERATOR)
    await process.signalled()
    assert not await process.is_rejecting()
    await operators.reset("sharegram", "counts of the maintenance", OPERATOR)
    assert await audited(database) == ["breaker.opened", "breaker.closed", "breaker.reset"]
    assert (await operators.decisions())["breaker:sharegram"].reason == "counts of the maintenance"


async def test_close_reaches_a_process_without_redis(
    operators: ProtectionService, process: Process, redis: Redis
) -> None:
    await redis.set(KEY, "of another type")
    await process.breaker.poll()
    for _ in range(5):
        (await process.breaker.acquire(30)).fail()
    assert await process.is_rejecting()
    await operators.close("sharegram", "it is back", OPERATOR)
    async with running_task(process.watcher.run()):

        async def is_closed() -> bool:
            return not await process.is_rejecting()

        await eventually(is_closed)


async def test_fallback_mode_is_switched_extended_and_ends_by_itself(
    operators: ProtectionService, process: Process, database: Database
) -> None:
    first = await operators.switch_fallback("sharegram", enable=True, seconds=60, reason="down", caller=OPERATOR)
    await process.signalled()
    assert first.ends_at is not None
    assert process.fallback.until() == first.ends_at
    longer = await operators.switch_fallback("sharegram", enable=True, seconds=600, reason="down", caller=OPERATOR)
    assert longer.started_at == first.started_at
    process.breaker.signalled.clear()
    await process.signalled()
    assert process.fallback.until() == longer.ends_at
    process.now += 601
    assert process.fallback.until() is None
    async with database.transaction() as tx:
        await tx.execute(update(overrides).values(ends_at=first.ends_at - timedelta(hours=1)))
    async with running_task(process.watcher.run()):

        async def is_audited() -> bool:
            return "fallback.ended" in await audited(database)

        await eventually(is_audited)
    assert await audited(database) == ["fallback.switched_on", "fallback.extended", "fallback.ended"]


async def test_gate_is_closed_in_fallback_mode_and_ramps_up_after_it(
    operators: ProtectionService, process: Process
) -> None:
    gate = SharegramGate(process.breaker, process.fallback, process.integration, clock=process.clock)
    changes: list[int | None] = []
    gate.changed.append(lambda: changes.append(gate.capacity()))
    assert gate.capacity() is None
    await operators.switch_fallback("sharegram", enable=True, seconds=60, reason="down", caller=OPERATOR)
    await process.signalled()
    await operators.switch_fallback("sharegram", enable=False, seconds=0, reason="up", caller=OPERATOR)
    process.breaker.signalled.clear()
    await process.signalled()
    assert changes == [0, 2]
    process.now += 2
    assert gate.capacity() == 8
    process.now += 10
    assert gate.capacity() is None


async def test_gate_is_closed_while_the_breaker_is_open(process: Process) -> None:
    gate = SharegramGate(process.breaker, process.fallback, process.integration, clock=process.clock)
    process.breaker.force_open(10)
    assert gate.capacity() == 0
    process.now += 11
    assert process.breaker.state is BreakerState.CLOSED
    assert gate.capacity() == 2


async def test_unknown_breaker_is_an_error(operators: ProtectionService) -> None:
    with pytest.raises(BreakerNotFound):
        await operators.open("payments", 60, "because", OPERATOR)


async def configure(database: Database, *, is_enabled: bool, **values: object) -> None:
    async with database.transaction() as tx:
        integration_id = await integrations.ensure(tx, "sharegram", utc_now())
        await integrations.configure(tx, integration_id, is_enabled=is_enabled, values=values)


async def test_environment_decides_until_the_integration_is_configured(process: Process, database: Database) -> None:
    async with database.transaction() as tx:
        await integrations.ensure(tx, "sharegram", utc_now())  # as the owner of webhook secrets
    await process.watcher.load()
    found = process.integration.credentials()
    assert found is not None
    assert found.api_key == "key of the environment"
    assert (process.integration.is_enabled, process.integration.is_sso_enabled) == (True, True)
    assert process.integration.sync_interval(timedelta(hours=1)) == timedelta(hours=1)


async def test_stored_keys_replace_those_of_the_environment(process: Process, database: Database) -> None:
    stored = encrypt_credentials(CIPHER, "stored key", "stored secret")
    await configure(database, is_enabled=True, credentials=stored, sync_interval_seconds=60, is_kyc_enabled=False)
    await process.watcher.load()
    assert process.integration.credentials() == SharegramCredentials("stored key", "stored secret")
    assert process.integration.sync_interval(timedelta(hours=1)) == timedelta(minutes=1)
    assert (process.integration.is_kyc_enabled, process.integration.is_sso_enabled) == (False, True)


async def test_stored_keys_that_cannot_be_decrypted_are_none(process: Process, database: Database) -> None:
    other = EncryptionKeys([bytes(31) + b"1"]).cipher(Purpose.SHAREGRAM_CREDENTIALS)
    await configure(database, is_enabled=True, credentials=encrypt_credentials(other, "key", "secret"))
    await process.watcher.load()
    assert process.integration.credentials() is None
    assert not process.integration.is_enabled


async def test_gate_is_closed_while_the_integration_is_disabled(process: Process, database: Database) -> None:
    gate = SharegramGate(process.breaker, process.fallback, process.integration, clock=process.clock)
    await configure(database, is_enabled=False)
    await process.watcher.load()
    assert (gate.capacity(), process.integration.credentials()) == (0, None)
    await configure(database, is_enabled=True)
    await process.watcher.load()
    assert gate.capacity() == 2


async def enqueue_many(database: Database, harness: JobHarness, number: int) -> None:
    """Enqueue one job, and copy its row until there are so many."""
    await harness.enqueue(NewJob("kyc_verification"))
    columns = [each for each in batch_jobs.columns if each.name != "id"]
    names, have = [each.name for each in columns], 1
    async with database.transaction() as tx:
        while have < number:
            more = min(have, number - have)
            await tx.execute(insert(batch_jobs).from_select(names, select(*columns).limit(more)))
            have += more


async def digest_of_jobs(database: Database) -> int:
    async with database.read_connection() as reading:
        rows = (await reading.execute(select(batch_jobs).order_by(batch_jobs.c.id))).all()
    return hash(tuple(map(str, rows)))


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_jobs_wait_for_an_hour_untouched_and_then_run_once(
    operators: ProtectionService, process: Process, database: Database, log: FilteringBoundLogger
) -> None:
    jobs, runs = int(os.environ.get("WAITING_JOBS", "1000")), Counter[int]()  # `make chaos` has ten thousand
    gate = SharegramGate(process.breaker, process.fallback, process.integration, clock=process.clock)
    harness = JobHarness(database, log)
    await enqueue_many(database, harness, jobs)
    await operators.switch_fallback("sharegram", enable=True, seconds=3600, reason="down", caller=OPERATOR)
    await process.signalled()
    before = await digest_of_jobs(database)

    async def run_once(job: JobContext) -> None:
        assert gate.capacity() != 0
        runs[job.job_id] += 1

    limits = replace(QUICK, slots=200, gates={"kyc_verification": gate})
    async with harness.running({"kyc_verification": FunctionHandler(run_once)}, limits) as worker:
        free = await harness.enqueue(NewJob("free"))  # the worker polls, and has nothing that it may run
        for minute in range(60):
            process.now = 1000.0 + 60 * minute
            worker.wakeup.set()
            await asyncio.sleep(0)
        async with database.transaction() as tx:
            await tx.execute(delete(batch_jobs).where(batch_jobs.c.id == free))
        assert (await digest_of_jobs(database), sum(runs.values())) == (before, 0)
        process.now += 61  # the hour is over

        async def are_done() -> bool:
            process.now += 1
            return len(runs) == jobs

        await eventually(are_done, poll_seconds=0.1)
    assert set(runs.values()) == {1}
