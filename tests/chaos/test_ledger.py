"""Whatever befalls workers, database and broker, each event has one effect and one final word.

`CHAOS_EVENTS=100000 CHAOS_SECONDS=300` makes the stream and the chaos longer, `CHAOS_SEED` repeats both. Run with `-s`,
or type `make chaos`, to see what befell.
"""

import asyncio
import os
import random
import time
from pathlib import Path
from secrets import token_hex

import pytest
from chaos_faults import Chaos, plan
from chaos_fleet import running_fleet
from chaos_fold import Expected, fold
from chaos_groups import Tide
from chaos_publishing import ends_of, publish_all, records_since
from chaos_stream import write_stream
from chaos_verdict import (
    GROUPS,
    House,
    differences,
    events_in_inbox,
    insert_late_requests,
    insert_requests,
    wait_until_settled,
)
from whole_house import environment

from safevideo_common.database.engine import Database
from safevideo_common.messaging.port import EventLog
from safevideo_common.testing.backends import RunningServer
from safevideo_common.testing.stacks import REAL, StackUnderTest
from safevideo_common.testing.waiting import beside

EVENTS = int(os.environ.get("CHAOS_EVENTS", "10000"))
PERFORMERS = int(os.environ.get("CHAOS_PERFORMERS", str(max(100, EVENTS // 50))))
SECONDS = int(os.environ.get("CHAOS_SECONDS", "30"))
SEED = int(os.environ.get("CHAOS_SEED", "0")) or random.randrange(1, 10**6)
SETTLES_SECONDS = 120.0


@pytest.mark.parametrize("stack", [REAL], indirect=True)
async def test_whatever_befalls_it_each_event_has_one_effect_and_one_final_word(
    stack: StackUnderTest, event_log: EventLog, kafka_server: RunningServer, mysql_server: RunningServer, tmp_path: Path
) -> None:
    stream = write_stream(performers=PERFORMERS, events=EVENTS, seed=SEED, prefix=f"sg_{token_hex(4)}")
    begins, tide = await ends_of(event_log), Tide(stack.kafka_bootstrap_servers, *GROUPS)
    async with (
        Database.open(stack.database_url) as database,
        event_log.publisher("chaos") as publisher,
        beside(tide.watch()),
        running_fleet(environment(stack), tmp_path, each=2) as fleet,
    ):
        house = House(event_log, database, stack.kafka_bootstrap_servers)
        chaos = Chaos(fleet, kafka_server, mysql_server, stack.database_url, SEED)
        await insert_requests(database, stream.requested)
        async with beside(insert_late_requests(database, stream)):
            async with asyncio.TaskGroup() as under_way:
                under_way.create_task(publish_all(publisher, stream.messages, SECONDS))
                under_way.create_task(chaos.wreak(plan(SECONDS, SEED)))
            calm, done = time.monotonic(), await events_in_inbox(database)
            await wait_until_settled(house, SETTLES_SECONDS)
        settled_in = time.monotonic() - calm
        expected = fold(stream, await records_since(event_log, begins))
        wrong = await differences(database, expected)
    print("\n".join(chaos.told))
    _tell(expected, done, settled_in)
    assert [*wrong, *tide.ebbs, *fleet.fallen] == []


def _tell(expected: Expected, done: int, settled_in: float) -> None:
    again = sum(entry.repeats for entry in expected.inbox.values())
    print(
        f"CHAOS_SEED={SEED} CHAOS_EVENTS={EVENTS} CHAOS_SECONDS={SECONDS}: {len(expected.inbox)} events, {again} times"
        f" one again, {len(expected.dead)} dead; {done} done amid the faults, all {settled_in:.1f} s after the last"
    )
