"""Whatever befalls workers, database and broker, each event has one effect and one final word.

The plan has each kind of fault, and the test asserts that each had its effect. `make chaos` has a longer stream and
more faults; `CHAOS_EVENTS=100000 CHAOS_SECONDS=300` more still. `CHAOS_SEED` repeats both. Run with `-s` to see what
befell.
"""

import asyncio
import os
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from secrets import token_hex

import pytest

from safevideo_common.broker.port import Broker
from safevideo_common.database.engine import Database
from safevideo_devstack.backends.lifecycle import RunningServer
from safevideo_testkit.all_services import environment
from safevideo_testkit.chaos.event_stream import Stream, write_stream
from safevideo_testkit.chaos.lag_probe import Tide
from safevideo_testkit.chaos.publishing import publish_all
from safevideo_testkit.chaos.system import GROUPS, House, Verdict, open_house, patiently
from safevideo_testkit.chaos.workers import running_fleet
from safevideo_testkit.eventually import eventually, running_task
from safevideo_testkit.faults.process_faults import STREAM_ROUND, Chaos, plan
from safevideo_testkit.oracle.published import repeats_told
from safevideo_testkit.oracle.state_checks import (
    events_in_inbox,
    insert_late_requests,
    insert_requests,
)
from safevideo_testkit.stacks import REAL, StackUnderTest

EVENTS = int(os.environ.get("CHAOS_EVENTS", "4000"))
PERFORMERS = int(os.environ.get("CHAOS_PERFORMERS", str(max(100, EVENTS // 50))))
SECONDS = int(os.environ.get("CHAOS_SECONDS", "20"))
SEED = int(os.environ.get("CHAOS_SEED", "0")) or random.randrange(1, 10**6)
SETTLES_SECONDS = 300.0 + EVENTS / 100
STARTS_SECONDS = 180.0


@pytest.mark.usefixtures("quiet_kafka_client")
@pytest.mark.parametrize("stack", [REAL], indirect=True)
async def test_whatever_befalls_it_each_event_has_one_effect_and_one_final_word(
    stack: StackUnderTest, broker: Broker, kafka_server: RunningServer, mysql_server: RunningServer, tmp_path: Path
) -> None:
    stream = write_stream(performers=PERFORMERS, events=EVENTS, seed=SEED, prefix=f"sg_{token_hex(4)}")
    tide = Tide(stack.kafka_bootstrap_servers, *GROUPS)
    async with (
        open_house(stack, broker) as house,
        running_task(tide.watch()),
        running_fleet(environment(stack), tmp_path, each=2) as fleet,
    ):
        chaos = Chaos(fleet, kafka_server, mysql_server, stack.database_url, SEED)
        with _telling(chaos):
            await insert_requests(house.database, stream.requested)
            async with running_task(insert_late_requests(house.database, stream)):
                await _publish_amid(chaos, house, stream)
                done, calm = await patiently(lambda: events_in_inbox(house.database)), time.monotonic()
                unsettled = await _unsettled(house)
            settled_in = time.monotonic() - calm
            verdict = await house.judge(stream)
            _print(verdict, done, settled_in)
    assert chaos.counts.keys() == {*STREAM_ROUND}
    wrong = [*unsettled, *verdict.wrong, *tide.ebbs, *fleet.fallen]
    assert not wrong, "\n".join(wrong)


async def _publish_amid(chaos: Chaos, house: House, stream: Stream) -> None:
    async with house.broker.producer("chaos") as publisher, asyncio.TaskGroup() as under_way:
        under_way.create_task(publish_all(publisher, stream.messages, SECONDS))
        await eventually(lambda: _has_begun(house.database), STARTS_SECONDS)
        await chaos.wreak(plan(SECONDS, SEED))


async def _has_begun(database: Database) -> bool:
    """Of both services: otherwise the first faults would befall processes that have not started yet."""
    return all([await events_in_inbox(database, group=group) for group in GROUPS])


@contextmanager
def _telling(chaos: Chaos) -> Iterator[None]:
    """Print what was done, whatever comes of it."""
    try:
        yield
    finally:
        print("\n".join([f"CHAOS_SEED={SEED} CHAOS_EVENTS={EVENTS} CHAOS_SECONDS={SECONDS}", *chaos.told]))
        print(", ".join(f"{kind}: {times}" for kind, times in sorted(chaos.counts.items())))


async def _unsettled(house: House) -> list[str]:
    try:
        await house.wait_until_settled(SETTLES_SECONDS)
    except TimeoutError:
        return [f"not settled {SETTLES_SECONDS:.0f} s after the last fault"]
    return []


def _print(verdict: Verdict, done: int, settled_in: float) -> None:
    inbox, dead = verdict.expected.inbox, verdict.expected.dead
    again, told_again = sum(entry.repeats for entry in inbox.values()), repeats_told(verdict.told)
    print(
        f"{len(inbox)} events, {again} times one again, {len(dead)} dead; {told_again} changes told again;"
        f" {done} events done amid the faults, all {settled_in:.1f} s later"
    )
