"""A worker that was frozen until its session ended, and then continues, changes and commits nothing."""

import time
from collections.abc import Coroutine, Sequence
from functools import partial
from pathlib import Path
from secrets import token_hex

import pytest
from sqlalchemy import select, text

from safevideo_common.broker.port import Broker
from safevideo_common.database.engine import Database
from safevideo_common.database.tables import event_inbox, kyc_requests, performers
from safevideo_common.events.topics import CONSUMED
from safevideo_devstack.backends.lifecycle import RunningServer
from safevideo_testkit.all_services import environment
from safevideo_testkit.broker_helpers import publish_spread
from safevideo_testkit.chaos.lag_probe import Groups, Offsets, open_groups
from safevideo_testkit.chaos.workers import SERVICES, Fleet, running_fleet
from safevideo_testkit.eventually import eventually
from safevideo_testkit.oracle.checks import count_events, insert_requests
from safevideo_testkit.oracle.stream import ORPHAN_EVERY, refuse_poison, write_poisonous_stream
from safevideo_testkit.oracle.system import System, open_system
from safevideo_testkit.stacks import REAL, StackUnderTest

TAKEOVER_SECONDS = 300.0
PERFORMERS = ORPHAN_EVERY // 2
"""So few that each has a KYC request. Without one, its results would wait until their attempts are exhausted."""
EARLY_DEAD = {"RETRY_MAX_ATTEMPTS": "4"}
"""What the database refuses is dead after a second: the test waits for it three times."""
EFFECTS = (event_inbox, performers, kyc_requests)

Rows = Sequence[Sequence[object]]


@pytest.mark.usefixtures("quiet_kafka_client")
@pytest.mark.parametrize("stack", [REAL], indirect=True)
async def test_workers_change_and_commit_nothing_when_they_continue_after_their_session_ended(
    stack: StackUnderTest,
    broker: Broker,
    mysql_server: RunningServer,  # a stack of our own: elsewhere the groups may have other members
    tmp_path: Path,
) -> None:
    """Freeze one worker within a transaction that has locked rows, the other between its batches."""
    stream = write_poisonous_stream(performers=PERFORMERS, events=600, seed=11, prefix=f"sg_{token_hex(4)}")
    first, middle, last = stream.messages[:200], stream.messages[200:500], stream.messages[500:]
    async with (
        open_system(stack, broker) as system,
        broker.producer("fencing") as producer,
        running_fleet({**environment(stack), **EARLY_DEAD}, tmp_path, each=1) as fleet,
        open_groups(stack.kafka_bootstrap_servers) as groups,
    ):
        await refuse_poison(system.database)
        await insert_requests(system.database, [*stream.requested, *stream.late])
        await publish_spread(producer, first, 0)
        await system.wait_until_settled(TAKEOVER_SECONDS)
        await _freeze_during(publish_spread(producer, middle, 0), fleet, system.database)
        await _start_others(fleet, system)
        before = await _effects(system, groups)
        await _thaw(fleet, groups)
        assert await _effects(system, groups) == before
        await publish_spread(producer, last, 0)
        await system.wait_until_settled(TAKEOVER_SECONDS)
        comparison = await system.compare(stream)
    wrong = [*comparison.differences, *fleet.failures]
    assert not wrong, "\n".join(wrong)


async def _freeze_during(publishing: Coroutine[object, object, None], fleet: Fleet, database: Database) -> None:
    """Freeze workers while sync-worker waits for rows that are locked here. It gets the locks after it is frozen."""
    done = await count_events(database)
    async with database.transaction() as tx:
        await tx.execute(text("SET wait_timeout = 600"))  # the conditions below may take longer
        await tx.execute(select(performers.c.id).with_for_update())
        await publishing
        await eventually(lambda: _waits_for_performers(database))
        await eventually(lambda: _has_more_events(database, done))  # by the KYC worker
        for workers in fleet.members.values():
            await workers[0].freeze()


async def _start_others(fleet: Fleet, system: System) -> None:
    began = time.monotonic()
    for service in SERVICES:
        await fleet.start(service)
    await system.wait_until_settled(TAKEOVER_SECONDS)
    print(f"others had processed all {time.monotonic() - began:.1f} s after two workers froze")


async def _thaw(fleet: Fleet, groups: Groups) -> None:
    """Return when the frozen workers have joined their groups again."""
    fleet.thaw()
    for group in CONSUMED:
        await eventually(partial(_has_members, groups, group, 2), TAKEOVER_SECONDS)


async def _has_members(groups: Groups, group: str, members: int) -> bool:
    return await groups.settled_members(group) == members


async def _has_more_events(database: Database, than: int) -> bool:
    return await count_events(database) > than


async def _waits_for_performers(database: Database) -> bool:
    waiting = "SELECT COUNT(*) FROM information_schema.innodb_trx WHERE trx_state = 'LOCK WAIT'"
    async with database.read_connection() as connection:
        return bool(await connection.scalar(text(waiting)))


async def _effects(system: System, groups: Groups) -> tuple[Sequence[Rows], Sequence[Offsets]]:
    """Return all rows that events have written, and the committed offsets."""
    async with system.database.read_connection() as connection:
        rows = [(await connection.execute(select(table).order_by(table.c.id))).all() for table in EFFECTS]
    return rows, [await groups.committed(group) for group in CONSUMED]
