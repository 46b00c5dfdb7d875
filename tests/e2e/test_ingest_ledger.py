"""Under faults of webhook-ingest and Kafka, the topics have each webhook that was answered 2xx, in order.

The test injects each kind of fault, and asserts that it had its effect. `INGEST_LEDGER_WEBHOOKS=20000` makes a longer
stream with more faults, `INGEST_LEDGER_SEED` repeats a plan. Run with `-s` to see the faults.
`LEADERLESS_WEBHOOKS=100000` keeps a partition without a leader for five minutes.
"""

import asyncio
import math
import os
import random
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from secrets import token_hex

import pytest
from cryptography.fernet import Fernet

from safevideo_common.broker.open import open_broker
from safevideo_common.broker.partitioner import partition_of
from safevideo_common.broker.types import Message, TopicPartition
from safevideo_common.database.engine import Database
from safevideo_common.database.migrate import migrate
from safevideo_common.events.topics import CHANGES, PERFORMER, all_topics
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_devstack.backends import Options
from safevideo_devstack.backends.lifecycle import RunningBackends, RunningServer, running
from safevideo_devstack.backends.ports import free_port
from safevideo_testkit.broker_helpers import end_offsets, records_since
from safevideo_testkit.eventually import eventually
from safevideo_testkit.faults.ingest_faults import DISK_KINDS, IngestProcess, Kind, inject, plan, until_metric
from safevideo_testkit.faults.leaderless_partition import move_partition
from safevideo_testkit.faults.small_disk import CannotMount, SmallDisk, small_disk
from safevideo_testkit.harness.relay import RelayHarness
from safevideo_testkit.oracle.checks import ingest_differences, order_differences
from safevideo_testkit.oracle.stream import write_stream
from safevideo_testkit.oracle.system import WEBHOOK_TOPICS
from safevideo_testkit.service_process import ServiceProcess
from safevideo_testkit.simulator_control import REJECTED, Provider

SECRET = "rG7xq2LmV9cTb4YwKz81NfHd"
PERFORMERS = 200
PER_SECOND = 350.0
WEBHOOKS = int(os.environ.get("INGEST_LEDGER_WEBHOOKS", "1400"))
LEADERLESS_WEBHOOKS = int(os.environ.get("LEADERLESS_WEBHOOKS", "1600"))
LEADERLESS = 0
"""The partition, of each of two topics."""
CHANGED_PERFORMERS = 24
CHANGES_AT_ONCE = 240
DISK_SIZE = "48m"
SEED = int(os.environ.get("INGEST_LEDGER_SEED", "0")) or random.randrange(1, 10**6)


async def test_ingest_publishes_each_answered_webhook_in_order_and_no_forged_one_under_faults(
    kafka_server: RunningServer, kafka_bootstrap_servers: str, tmp_path: Path, fresh_sqlite_url: str
) -> None:
    with spool_disk(tmp_path) as (disk, reason):
        kinds = [kind for kind in Kind if disk or kind not in DISK_KINDS]
        faults = plan(WEBHOOKS, SEED, kinds)
        async with streaming(kafka_bootstrap_servers, fresh_sqlite_url, tmp_path, WEBHOOKS, disk) as (ingest, provider):
            had_effect = [fault.kind async for fault in inject(faults, ingest, kafka_server, provider)]
        assert {*had_effect} == {*kinds}
        assert "SPOOL_ADOPTED" in (tmp_path / "app.log").read_text()
        errors = {"ServerDisconnectedError", "ClientOSError", "ClientConnectorError"}
        assert {REJECTED, *errors} >= provider.failures.keys()
    if reason:
        pytest.skip(f"all but a full disk was tested: {reason}")


async def test_partition_without_a_leader_delays_its_own_webhooks_and_changes_only(
    backends: RunningBackends, tmp_path: Path, fresh_sqlite_url: str, log: FilteringBoundLogger
) -> None:
    """A broker hangs. Others lead its partitions then, but for one of twelve that has no other replica."""
    if backends.stack != "local":
        pytest.skip(f"starts a local stack of its own, and this run has the {backends.stack} stack")
    half = LEADERLESS_WEBHOOKS // 2
    with running("local", folder=tmp_path / "three", options=Options(brokers=3)) as three:
        servers = three.kafka_bootstrap_servers
        async with streaming(servers, fresh_sqlite_url, tmp_path, LEADERLESS_WEBHOOKS) as (ingest, provider):
            leaderless = Leaderless(ingest, provider, servers)
            await leaderless.move_to(broker=3)
            provider.allow(half)
            await provider.until_answered(half // 2)
            with three.server("kafka-3").paused():
                await provider.until_answered(half)
                await leaderless.until_only_its_webhooks_wait()
                others = ",".join(servers.split(",")[:2])
                async with open_relay(others, fresh_sqlite_url, log) as relay:
                    await leaderless.assert_published_directly(half)
                    await leaderless.assert_others_are_in_kafka(others)
                    await relay.record_and_wait()
                    await relay.record_and_wait()
            async with open_relay(servers, fresh_sqlite_url, log) as relay:
                await relay.assert_all_published_in_order(changes=2 * CHANGES_AT_ONCE)
        assert not provider.failures


class Leaderless:
    """The webhooks of the partition without a leader, and all others."""

    def __init__(self, ingest: IngestProcess, provider: Provider, kafka_servers: str) -> None:
        self._url = ingest.base_url
        self._provider = provider
        self._servers = kafka_servers

    async def move_to(self, broker: int) -> None:
        for topic in (PERFORMER, CHANGES):
            await move_partition(self._servers, TopicPartition(topic, LEADERLESS), broker)

    async def until_only_its_webhooks_wait(self) -> None:
        await until_metric(self._url, "safevideo_spool_kafka_unavailable", lambda value: not value)
        await until_metric(self._url, "safevideo_spool_unavailable_partitions", lambda value: value == 1)
        await until_metric(self._url, "safevideo_spool_events", lambda events: events <= len(self._waiting()))

    async def assert_published_directly(self, answered_before: int) -> None:
        """The others do not take the way over the spool. A few may: the machine may be busy."""
        before = await until_metric(self._url, "safevideo_spool_written_total", lambda _: True)
        waiting = len(self._waiting())
        self._provider.allow(math.inf)
        await self._provider.until_answered(LEADERLESS_WEBHOOKS)
        after = await until_metric(self._url, "safevideo_spool_written_total", lambda _: True)
        waiting = len(self._waiting()) - waiting
        others = LEADERLESS_WEBHOOKS - answered_before - waiting
        print(f"{waiting} of the leaderless partition and {after - before - waiting:.0f} of {others} others spooled")
        assert after - before >= waiting > 0
        assert after - before - waiting < others / 2
        await self.until_only_its_webhooks_wait()

    async def assert_others_are_in_kafka(self, kafka_servers: str) -> None:
        """Reads no partition without a leader: its end offset would be awaited for ever."""
        found: set[str] = set()
        async with open_broker(kafka_servers, None) as broker, broker.reader("test") as reader:
            for partition in (TopicPartition(topic, number) for topic in WEBHOOK_TOPICS for number in range(12)):
                if partition != (PERFORMER, LEADERLESS):
                    records = await reader.read(partition, 0, LEADERLESS_WEBHOOKS)
                    found |= {dict(record.headers)["ce_id"].decode() for record in records}
        assert found >= {*self._provider.answered} - self._waiting()

    def _waiting(self) -> set[str]:
        """Return the answered webhooks of the partition, which are spooled, or were published before."""
        events = self._provider.events
        return {each for each in self._provider.answered if _is_leaderless(events[each].message)}


def _is_leaderless(message: Message) -> bool:
    return message.topic in {PERFORMER, CHANGES} and partition_of(message.key, 12) == LEADERLESS


class RelayedChanges:
    """Changes of many performers in an outbox, and a relay that publishes them."""

    def __init__(self, harness: RelayHarness) -> None:
        self._harness = harness
        self._recorded = 0

    async def record_and_wait(self) -> None:
        """Record changes, and wait until the outbox has those of the leaderless partition only."""
        values = [str(number) for number in range(self._recorded, self._recorded + CHANGES_AT_ONCE)]
        self._recorded += CHANGES_AT_ONCE
        await self._harness.record(*values, keys=CHANGED_PERFORMERS)
        leaderless = [key for key in self._keys() if _is_leaderless(Message(CHANGES, key.encode(), b""))]
        waiting = len(leaderless) * self._recorded // CHANGED_PERFORMERS
        assert 0 < waiting < self._recorded

        async def only_those_wait() -> bool:
            return await self._harness.depth() == waiting

        await eventually(only_those_wait)

    async def assert_all_published_in_order(self, changes: int) -> None:
        await self._harness.until_empty()
        for first, key in enumerate(self._keys()):
            expected = [str(number) for number in range(first, changes, CHANGED_PERFORMERS)]
            assert await self._harness.first_published(key) == expected

    def _keys(self) -> list[str]:
        return [f"sg_{number}" for number in range(CHANGED_PERFORMERS)]


@asynccontextmanager
async def open_relay(kafka_servers: str, database_url: str, log: FilteringBoundLogger) -> AsyncIterator[RelayedChanges]:
    """Run an outbox relay during the block."""
    async with Database.open(database_url) as database, open_broker(kafka_servers, None) as broker:
        harness = RelayHarness(database, broker, CHANGES, log)
        async with harness.running():
            yield RelayedChanges(harness)


@contextmanager
def spool_disk(folder: Path) -> Iterator[tuple[SmallDisk | None, str]]:
    """Mount a disk for the spool that a test can fill, or yield the reason why there is none."""
    with ExitStack() as stack:
        try:
            disk, reason = stack.enter_context(small_disk(folder / "spool", DISK_SIZE)), ""
        except CannotMount as refusal:
            disk, reason = None, str(refusal)
        yield disk, reason


@asynccontextmanager
async def streaming(
    kafka_servers: str, database_url: str, folder: Path, webhooks: int, disk: SmallDisk | None = None
) -> AsyncIterator[tuple[IngestProcess, Provider]]:
    """Send a stream, of which the middle is in the block. Check the topics after the block."""
    stream = write_stream(performers=PERFORMERS, events=webhooks, seed=SEED, prefix=f"sg_{token_hex(4)}")
    await migrate(database_url)
    async with open_broker(kafka_servers, None) as broker:
        await broker.create_topics(all_topics())
        begins, began = await end_offsets(broker, WEBHOOK_TOPICS), time.monotonic()
        async with open_ingest(kafka_servers, database_url, folder, disk) as ingest:
            provider = Provider(f"{ingest.base_url}/webhooks/sharegram", SECRET, stream.stories, per_second=PER_SECOND)
            async with asyncio.TaskGroup() as group:
                sending = group.create_task(provider.send_all())
                yield ingest, provider
                print(f"at {len(provider.answered):6} of {webhooks} the last fault ended")
                await sending
            await ingest.until_spool(lambda events: events == 0)
        seconds = time.monotonic() - began
        records = await records_since(broker, begins)
    duplicates = len(records) - len({dict(record.headers)["ce_id"] for record in records})
    print(
        f"seed {SEED}: {len(provider.answered)} answered 2xx in {seconds:.1f} s,"
        f" slowest {provider.slowest_seconds:.2f} s; duplicates {duplicates};"
        f" failed attempts {dict(provider.failures)}; forged {dict(provider.forged)}"
    )
    assert sorted(provider.answered) == sorted(stream.by_id)
    wrong = [
        *ingest_differences(stream.by_id, provider.answered, records),
        *order_differences(stream.stories, records),
    ]
    assert not wrong, "\n".join(wrong)
    assert {"401", "429 Retry-After"} <= provider.forged.keys(), provider.forged
    assert not [each for each in provider.forged if each.startswith(("2", "5"))], provider.forged
    assert not [*(folder / "spool").rglob("*.spool"), *(folder / "spool").glob("corrupt/*")]


@asynccontextmanager
async def open_ingest(
    kafka_servers: str, database_url: str, folder: Path, disk: SmallDisk | None
) -> AsyncIterator[IngestProcess]:
    """Start webhook-ingest with all features, and wait until it is ready. It must exit with 0 after SIGTERM."""
    port = free_port()
    variables = {
        "HOST": "127.0.0.1",
        "PORT": str(port),
        "DATABASE_URL": database_url,
        "KAFKA_BOOTSTRAP_SERVERS": kafka_servers,
        "SHAREGRAM_WEBHOOK_SECRET": SECRET,
        "ENCRYPTION_KEY": Fernet.generate_key().decode(),
        "LOG_DIR": str(folder),
        "SPOOL_DIR": str(folder / "spool"),
        # A tenth of the webhooks are forged, and a busy machine sends few between two starts of the process.
        "FAILED_SIGNATURES_BURST": "5",
        "FAILED_SIGNATURES_PER_MINUTE": "6",
    }
    process = ServiceProcess("webhook_ingest", variables, folder / "ingest.out")
    ingest = IngestProcess(process, f"http://127.0.0.1:{port}", disk)
    await process.start()
    try:
        await ingest.until_ready()
        yield ingest
    finally:
        status = await process.stop()
    assert status == 0, (folder / "ingest.out").read_text()[-2000:]
