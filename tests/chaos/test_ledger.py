"""Under faults of workers, database and broker, each event has one effect and one final outcome.

The plan has each kind of fault, and the test asserts that each had its effect. `make chaos` has a longer stream and
more faults; `CHAOS_EVENTS=100000 CHAOS_SECONDS=300` more still. `CHAOS_SEED` repeats both. With `CHAOS_BROKERS=3` there
are three brokers, and a partition of each topic is on the last one alone: it has no leader while that broker is frozen.
Run with `-s` to see the faults.
"""

import asyncio
import os
import random
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from secrets import token_hex
from typing import Literal, NamedTuple

import pytest

from safevideo_common.broker.port import Broker
from safevideo_common.broker.types import TopicPartition
from safevideo_common.events.topics import CHANGES, CONSUMED, KYC, OTHER, PERFORMER
from safevideo_devstack.backends import Options
from safevideo_devstack.backends.lifecycle import RunningBackends, RunningServer, running
from safevideo_testkit.all_services import environment
from safevideo_testkit.broker_helpers import publish_spread
from safevideo_testkit.chaos.lag_probe import OffsetCommits
from safevideo_testkit.chaos.operator import ChaosOperator
from safevideo_testkit.chaos.workers import running_fleet
from safevideo_testkit.eventually import eventually, running_task
from safevideo_testkit.faults.leaderless_partition import move_partition
from safevideo_testkit.faults.process_faults import CLUSTER_FAULTS, STREAM_FAULTS, Chaos, plan
from safevideo_testkit.oracle.checks import count_deliveries, count_events, count_repeated_changes, insert_requests
from safevideo_testkit.oracle.stream import Stream, refuse_poison, write_poisonous_stream
from safevideo_testkit.oracle.system import Comparison, System, open_system, retry_while_unavailable
from safevideo_testkit.stacks import StackUnderTest

EVENTS = int(os.environ.get("CHAOS_EVENTS", "2000"))
PERFORMERS = int(os.environ.get("CHAOS_PERFORMERS", str(max(100, EVENTS // 50))))
SECONDS = int(os.environ.get("CHAOS_SECONDS", "17"))
SEED = int(os.environ.get("CHAOS_SEED", "0")) or random.randrange(1, 10**6)
BROKERS: Literal[1, 3] = 3 if os.environ.get("CHAOS_BROKERS") == "3" else 1
FAULTS = CLUSTER_FAULTS if BROKERS > 1 else STREAM_FAULTS
LEADERLESS = [TopicPartition(topic, 0) for topic in (PERFORMER, KYC, OTHER, CHANGES)]
REPLAYED_PART = 5
SETTLE_SECONDS = 300.0 + EVENTS / 100
START_SECONDS = 180.0


class Cluster(NamedTuple):
    """The brokers that the test breaks, and their addresses."""

    brokers: Sequence[RunningServer]
    bootstrap_servers: str


@pytest.fixture
def cluster(
    backends: RunningBackends, kafka_server: RunningServer, kafka_bootstrap_servers: str, tmp_path: Path
) -> Iterator[Cluster]:
    """Return the broker of this run, or three of the test's own."""
    if BROKERS == 1:
        yield Cluster([kafka_server], kafka_bootstrap_servers)
    elif backends.stack != "local":
        pytest.skip(f"starts brokers of its own, and this run has the {backends.stack} stack")
    else:
        with running("local", folder=tmp_path / "three", options=Options(brokers=BROKERS)) as three:
            brokers = [three.server(f"kafka-{number}") for number in range(1, BROKERS + 1)]
            yield Cluster(brokers, three.kafka_bootstrap_servers)


@pytest.fixture
def stack(cluster: Cluster, migrated_mysql_database: str, redis_url: str, tmp_path: Path) -> StackUnderTest:
    return StackUnderTest(migrated_mysql_database, redis_url, cluster.bootstrap_servers, tmp_path / "log")


@pytest.mark.usefixtures("quiet_kafka_client")
async def test_workers_give_each_event_one_effect_and_one_outcome_under_faults(
    stack: StackUnderTest, broker: Broker, cluster: Cluster, mysql_server: RunningServer, tmp_path: Path
) -> None:
    if BROKERS > 1:
        for partition in LEADERLESS:
            await move_partition(stack.kafka_bootstrap_servers, partition, BROKERS)
    stream = write_poisonous_stream(performers=PERFORMERS, events=EVENTS, seed=SEED, prefix=f"sg_{token_hex(4)}")
    commits = await OffsetCommits.since_now(broker)
    async with (
        open_system(stack, broker) as system,
        running_fleet(environment(stack), tmp_path, each=2) as fleet,
    ):
        chaos = Chaos(fleet, cluster.brokers, mysql_server, stack.database_url, SEED)
        with _printing(chaos):
            await refuse_poison(system.database)
            await insert_requests(system.database, stream.requested)
            async with running_task(system.insert_late_requests(stream)):
                operator = await _publish_under_faults(chaos, system, stream)
                done, ended = await retry_while_unavailable(lambda: count_events(system.database)), time.monotonic()
                unsettled = [*await operator.wait_for_replays(SETTLE_SECONDS), *await _unsettled(system)]
            settled_in = time.monotonic() - ended
            print(", ".join(f"{times} {what}" for what, times in sorted(operator.counts.items())))
            unsettled += await fleet.unhealthy()
            comparison = await system.compare(stream)
            _print(comparison, done, settled_in)
    assert chaos.counts.keys() == {*FAULTS}
    await commits.read(CONSUMED)
    assert commits.count
    assert operator.counts.keys() >= {"replays", "forced replays"}
    wrong = [*unsettled, *comparison.differences, *commits.decreases, *fleet.failures]
    assert not wrong, "\n".join(wrong)


async def _publish_under_faults(chaos: Chaos, system: System, stream: Stream) -> ChaosOperator:
    """Publish a part that the operator replays, then the rest under faults."""
    first, rest = stream.messages[: EVENTS // REPLAYED_PART], stream.messages[EVENTS // REPLAYED_PART :]

    async def is_first_consumed() -> bool:
        return await count_deliveries(system.database) >= len(first)

    async with system.broker.producer("chaos") as producer:
        since = datetime.now(UTC)
        await publish_spread(producer, first, 0)
        operator = ChaosOperator(system.database, since, datetime.now(UTC))
        await eventually(is_first_consumed, START_SECONDS)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(publish_spread(producer, rest, SECONDS))
            async with running_task(operator.run()):
                await chaos.inject(plan(SECONDS, SEED, kinds=FAULTS))
    return operator


@contextmanager
def _printing(chaos: Chaos) -> Iterator[None]:
    """Print the faults, also when the test fails."""
    try:
        yield
    finally:
        command = f"CHAOS_SEED={SEED} CHAOS_EVENTS={EVENTS} CHAOS_SECONDS={SECONDS} CHAOS_BROKERS={BROKERS}"
        print("\n".join([command, *chaos.history]))
        print(", ".join(f"{kind}: {times}" for kind, times in sorted(chaos.counts.items())))


async def _unsettled(system: System) -> list[str]:
    try:
        await system.wait_until_settled(SETTLE_SECONDS)
    except TimeoutError:
        return [f"not settled {SETTLE_SECONDS:.0f} s after the last fault"]
    return []


def _print(comparison: Comparison, done: int, settled_in: float) -> None:
    inbox, dead = comparison.expected.inbox, comparison.expected.dead
    repeats = sum(entry.repeats for entry in inbox.values())
    print(
        f"{len(inbox)} events, {repeats} repeats, {len(dead)} dead;"
        f" {count_repeated_changes(comparison.published)} changes published again;"
        f" {done} events done under faults, all {settled_in:.1f} s later"
    )
