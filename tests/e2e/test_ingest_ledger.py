"""Under faults of webhook-ingest and Kafka, the topics have each webhook that was answered 2xx, in order.

The test injects each kind of fault, and asserts that it had its effect. `INGEST_LEDGER_WEBHOOKS=20000` makes a longer
stream with more faults, `INGEST_LEDGER_SEED` repeats a plan. Run with `-s` to see the faults.
"""

import asyncio
import os
import random
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from secrets import token_hex

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from cryptography.fernet import Fernet

from safevideo_common.broker.open import open_broker
from safevideo_common.database.migrate import migrate
from safevideo_common.events.topics import PERFORMER, all_topics
from safevideo_devstack.backends import Options
from safevideo_devstack.backends.lifecycle import RunningBackends, RunningServer, running
from safevideo_devstack.backends.ports import free_port
from safevideo_testkit.broker_helpers import end_offsets, records_since
from safevideo_testkit.faults.ingest_faults import DISK_KINDS, IngestProcess, Kind, inject, plan
from safevideo_testkit.faults.small_disk import CannotMount, SmallDisk, small_disk
from safevideo_testkit.oracle.checks import ingest_differences, order_differences
from safevideo_testkit.oracle.stream import write_stream
from safevideo_testkit.oracle.system import WEBHOOK_TOPICS
from safevideo_testkit.service_process import ServiceProcess
from safevideo_testkit.simulator_control import REJECTED, Provider

SECRET = "rG7xq2LmV9cTb4YwKz81NfHd"
PERFORMERS = 200
PER_SECOND = 350.0
WEBHOOKS = int(os.environ.get("INGEST_LEDGER_WEBHOOKS", "2100"))
WEBHOOKS_OF_THREE_BROKERS = 1200
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


async def test_ingest_answers_and_loses_nothing_while_a_partition_has_no_leader(
    backends: RunningBackends, tmp_path: Path, fresh_sqlite_url: str
) -> None:
    if backends.stack != "local":
        pytest.skip(f"starts a local stack of its own, and this run has the {backends.stack} stack")
    with running("local", folder=tmp_path / "three", options=Options(brokers=3)) as three:
        servers, webhooks = three.kafka_bootstrap_servers, WEBHOOKS_OF_THREE_BROKERS
        async with streaming(servers, fresh_sqlite_url, tmp_path, webhooks) as (ingest, provider):
            await provider.until_answered(random.Random(SEED).randrange(webhooks // 4))
            leader = three.server(f"kafka-{await _leader(servers, partition=0)}")
            print(f"at {len(provider.answered):6} {leader.name} killed")
            await asyncio.to_thread(leader.kill)
            await ingest.until_spool(lambda events: events > 0)
        assert not leader.alive()
        assert not provider.failures


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


async def _leader(kafka_servers: str, partition: int) -> int:
    """Return the number of the broker that leads a partition of the performer topic."""
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka_servers)
    await admin.start()
    try:
        (topic,) = await admin.describe_topics([PERFORMER])
        return next(int(each["leader"]) for each in topic["partitions"] if each["partition"] == partition)
    finally:
        await admin.close()
