"""Under faults of workers, database and broker, each event has one effect and one final outcome.

The plan has each kind of fault, and the test asserts that each had its effect. `make chaos` has a longer stream and
more faults; `CHAOS_EVENTS=100000 CHAOS_SECONDS=300` more still. `CHAOS_SEED` repeats both. Run with `-s` to see
the faults.
"""

import asyncio
import os
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from secrets import token_hex

import pytest

from safevideo_common.broker.port import Broker
from safevideo_common.events.topics import CONSUMED
from safevideo_devstack.backends.lifecycle import RunningServer
from safevideo_testkit.all_services import environment
from safevideo_testkit.broker_helpers import publish_spread
from safevideo_testkit.chaos.lag_probe import OffsetMonitor
from safevideo_testkit.chaos.operator import ChaosOperator
from safevideo_testkit.chaos.workers import running_fleet
from safevideo_testkit.eventually import eventually, running_task
from safevideo_testkit.faults.process_faults import STREAM_FAULTS, Chaos, plan
from safevideo_testkit.oracle.checks import count_deliveries, count_events, count_repeated_changes, insert_requests
from safevideo_testkit.oracle.stream import Stream, refuse_poison, write_poisonous_stream
from safevideo_testkit.oracle.system import Comparison, System, open_system, retry_while_unavailable
from safevideo_testkit.stacks import REAL, StackUnderTest

EVENTS = int(os.environ.get("CHAOS_EVENTS", "4000"))
PERFORMERS = int(os.environ.get("CHAOS_PERFORMERS", str(max(100, EVENTS // 50))))
SECONDS = int(os.environ.get("CHAOS_SECONDS", "20"))
SEED = int(os.environ.get("CHAOS_SEED", "0")) or random.randrange(1, 10**6)
REPLAYED_PART = 5
SETTLE_SECONDS = 300.0 + EVENTS / 100
START_SECONDS = 180.0


@pytest.mark.usefixtures("quiet_kafka_client")
@pytest.mark.parametrize("stack", [REAL], indirect=True)
async def test_workers_give_each_event_one_effect_and_one_outcome_under_faults(
    stack: StackUnderTest, broker: Broker, kafka_server: RunningServer, mysql_server: RunningServer, tmp_path: Path
) -> None:
    stream = write_poisonous_stream(performers=PERFORMERS, events=EVENTS, seed=SEED, prefix=f"sg_{token_hex(4)}")
    offsets = OffsetMonitor(stack.kafka_bootstrap_servers, *CONSUMED)
    async with (
        open_system(stack, broker) as system,
        running_task(offsets.watch()),
        running_fleet(environment(stack), tmp_path, each=2) as fleet,
    ):
        chaos = Chaos(fleet, kafka_server, mysql_server, stack.database_url, SEED)
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
    assert chaos.counts.keys() == {*STREAM_FAULTS}
    assert offsets.increases
    assert operator.counts.keys() >= {"replays", "forced replays"}
    wrong = [*unsettled, *comparison.differences, *offsets.decreases, *fleet.failures]
    assert not wrong, "\n".join(wrong)


async def _publish_under_faults(chaos: Chaos, system: System, stream: Stream) -> ChaosOperator:
    """Publish a part that the operator replays, then the rest under faults."""
    first, rest = stream.messages[: EVENTS // REPLAYED_PART], stream.messages[EVENTS // REPLAYED_PART :]

    async def is_first_consumed() -> bool:
        return await count_deliveries(system.database) >= len(first)

    async with system.broker.producer("chaos") as producer:
        await publish_spread(producer, first, 0)
        operator = ChaosOperator(system.database, datetime.now(UTC))
        await eventually(is_first_consumed, START_SECONDS)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(publish_spread(producer, rest, SECONDS))
            async with running_task(operator.run()):
                await chaos.inject(plan(SECONDS, SEED))
    return operator


@contextmanager
def _printing(chaos: Chaos) -> Iterator[None]:
    """Print the faults, also when the test fails."""
    try:
        yield
    finally:
        print("\n".join([f"CHAOS_SEED={SEED} CHAOS_EVENTS={EVENTS} CHAOS_SECONDS={SECONDS}", *chaos.history]))
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
