"""Whatever befalls the door and its Kafka: what was answered 2xx is in the log, in order, and nothing that was forged.

Each kind of fault befalls the stream, and the test asserts that each had its effect. `DOOR_LEDGER_WEBHOOKS=20000` makes
the stream longer and the faults more, `DOOR_LEDGER_SEED` repeats one. Run with `-s` to see what befell.
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
from safevideo_testkit.faults.ingest_faults import DISK_KINDS, Door, Kind, befall, plan
from safevideo_testkit.faults.small_disk import CannotMount, SmallDisk, small_disk
from safevideo_testkit.oracle.ingest_oracle import (
    Stories,
    Verdict,
    ends_of,
    judge,
    records_since,
    write_stories,
)
from safevideo_testkit.service_process import ServiceProcess
from safevideo_testkit.simulator_control import REFUSED, Provider

SECRET = "c2hhcmVkLXdpdGgtc2hhcmVncmFt"
PERFORMERS = 200
PER_SECOND = 350.0
WEBHOOKS = int(os.environ.get("DOOR_LEDGER_WEBHOOKS", "2100"))
WEBHOOKS_OF_THREE_BROKERS = 1200
DISK_SIZE = "48m"
SEED = int(os.environ.get("DOOR_LEDGER_SEED", "0")) or random.randrange(1, 10**6)


async def test_whatever_dies_or_hangs_each_answered_webhook_is_in_the_log_in_order_and_no_forged_one(
    kafka_server: RunningServer, kafka_bootstrap_servers: str, tmp_path: Path, fresh_sqlite_url: str
) -> None:
    with spool_disk(tmp_path) as (disk, why_none):
        kinds = [kind for kind in Kind if disk or kind not in DISK_KINDS]
        faults = plan(WEBHOOKS, SEED, kinds)
        async with streaming(kafka_bootstrap_servers, fresh_sqlite_url, tmp_path, WEBHOOKS, disk) as (door, provider):
            had_effect = [fault.kind async for fault in befall(faults, door, kafka_server, provider)]
        assert {*had_effect} == {*kinds}
        assert "SPOOL_ADOPTED" in (tmp_path / "app.log").read_text()
        assert {REFUSED, "ServerDisconnectedError", "ClientOSError", "ClientConnectorError"} >= provider.untaken.keys()
    if why_none:
        pytest.skip(f"all held but for a full disk, which was not tried: {why_none}")


async def test_while_a_partition_has_lost_its_leader_answers_go_on_and_nothing_is_lost(
    backends: RunningBackends, tmp_path: Path, fresh_sqlite_url: str
) -> None:
    if backends.stack != "local":
        pytest.skip(f"starts a local stack of its own, and this run has the {backends.stack} stack")
    with running("local", folder=tmp_path / "three", options=Options(brokers=3)) as three:
        servers, webhooks = three.kafka_bootstrap_servers, WEBHOOKS_OF_THREE_BROKERS
        async with streaming(servers, fresh_sqlite_url, tmp_path, webhooks) as (door, provider):
            await provider.until_answered(random.Random(SEED).randrange(webhooks // 4))
            leader = three.server(f"kafka-{await _leader(servers, partition=0)}")
            print(f"at {len(provider.answered):6} {leader.name} killed")
            await asyncio.to_thread(leader.kill)
            await door.until_spool(lambda events: events > 0)
        assert not leader.alive()
        assert not provider.untaken


@contextmanager
def spool_disk(folder: Path) -> Iterator[tuple[SmallDisk | None, str]]:
    """A disk for the spool that can be filled; or why there is none."""
    with ExitStack() as stack:
        try:
            disk, why_none = stack.enter_context(small_disk(folder / "spool", DISK_SIZE)), ""
        except CannotMount as refusal:
            disk, why_none = None, str(refusal)
        yield disk, why_none


@asynccontextmanager
async def streaming(
    kafka_servers: str, database_url: str, folder: Path, webhooks: int, disk: SmallDisk | None = None
) -> AsyncIterator[tuple[Door, Provider]]:
    """In the middle of the stream in the block. After it the stream goes on to its end, and the log is judged."""
    stories = write_stories(performers=PERFORMERS, webhooks=webhooks, seed=SEED, prefix=f"sg_{token_hex(4)}")
    await migrate(database_url)
    async with open_broker(kafka_servers, None) as broker:
        await broker.create_topics(all_topics())
        begins, began = await ends_of(broker), time.monotonic()
        async with open_door(kafka_servers, database_url, folder, disk) as door:
            provider = Provider(f"{door.base_url}/webhooks/sharegram", SECRET, stories, per_second=PER_SECOND)
            async with asyncio.TaskGroup() as group:
                sending = group.create_task(provider.send_all())
                yield door, provider
                print(f"at {len(provider.answered):6} of {webhooks} all was done")
                await sending
            await door.until_spool(lambda events: events == 0)
        seconds = time.monotonic() - began
        verdict = judge(stories, provider.answered, await records_since(broker, begins))
    _report(seconds, provider, verdict)
    _check(stories, provider, verdict)
    assert not [*(folder / "spool").rglob("*.spool"), *(folder / "spool").glob("corrupt/*")]


@asynccontextmanager
async def open_door(kafka_servers: str, database_url: str, folder: Path, disk: SmallDisk | None) -> AsyncIterator[Door]:
    """The door with everything on, ready. It must end well when it is told to."""
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
    door = Door(ServiceProcess("webhook_ingest", variables, folder / "door.out"), f"http://127.0.0.1:{port}", disk)
    await door.process.start()
    try:
        await door.until_ready()
        yield door
    finally:
        status = await door.process.stop()
    assert status == 0, (folder / "door.out").read_text()[-2000:]


def _report(seconds: float, provider: Provider, verdict: Verdict) -> None:
    print(
        f"seed {SEED}: {len(provider.answered)} answered 2xx in {seconds:.1f} s,"
        f" slowest {provider.slowest_seconds:.2f} s; lost {len(verdict.lost)}, duplicates {verdict.duplicates};"
        f" untaken tries {dict(provider.untaken)}; forged {dict(provider.forged)}"
    )


def _check(stories: Stories, provider: Provider, verdict: Verdict) -> None:
    assert sorted(provider.answered) == sorted(webhook.id for story in stories for webhook in story)
    assert verdict == Verdict([], [], [], [], verdict.duplicates)
    assert {"401", "429 Retry-After"} <= provider.forged.keys(), provider.forged
    assert not [each for each in provider.forged if each.startswith(("2", "5"))], provider.forged


async def _leader(kafka_servers: str, partition: int) -> int:
    """The number of the broker that leads it."""
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka_servers)
    await admin.start()
    try:
        (topic,) = await admin.describe_topics([PERFORMER])
        return next(int(each["leader"]) for each in topic["partitions"] if each["partition"] == partition)
    finally:
        await admin.close()
