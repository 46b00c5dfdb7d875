"""A worker that was frozen past its session and then goes on: it changes nothing, and commits nothing."""

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
from safevideo_devstack.backends.lifecycle import RunningServer
from safevideo_testkit.all_services import environment
from safevideo_testkit.chaos.event_stream import ORPHAN_EVERY, write_stream
from safevideo_testkit.chaos.lag_probe import Groups, Offsets, asking_groups
from safevideo_testkit.chaos.publishing import publish_all
from safevideo_testkit.chaos.system import GROUPS, House, open_house
from safevideo_testkit.chaos.workers import SERVICES, Fleet, running_fleet
from safevideo_testkit.eventually import eventually
from safevideo_testkit.oracle.state_checks import events_in_inbox, insert_requests
from safevideo_testkit.stacks import REAL, StackUnderTest

TAKEOVER_SECONDS = 300.0
PERFORMERS = ORPHAN_EVERY // 2
"""Few enough that none is without a KYC request: its verdicts would be waited for until their tries are used up."""
EFFECTS = (event_inbox, performers, kyc_requests)

Rows = Sequence[Sequence[object]]


@pytest.mark.usefixtures("quiet_kafka_client")
@pytest.mark.parametrize("stack", [REAL], indirect=True)
async def test_workers_frozen_past_their_session_change_and_commit_nothing_when_they_go_on(
    stack: StackUnderTest,
    broker: Broker,
    mysql_server: RunningServer,  # a stack of ours alone: elsewhere the groups may have other members
    tmp_path: Path,
) -> None:
    """One is frozen in the middle of its transaction, with its rows locked; the other in the middle of its batches."""
    stream = write_stream(performers=PERFORMERS, events=1200, seed=11, prefix=f"sg_{token_hex(4)}")
    first, middle, last = stream.messages[:400], stream.messages[400:1000], stream.messages[1000:]
    async with (
        open_house(stack, broker) as house,
        broker.producer("zombies") as publisher,
        running_fleet(environment(stack), tmp_path, each=1) as fleet,
        asking_groups(stack.kafka_bootstrap_servers) as groups,
    ):
        await insert_requests(house.database, [*stream.requested, *stream.late])
        await publish_all(publisher, first, 0)
        await house.wait_until_settled(TAKEOVER_SECONDS)
        await _freeze_amid(publish_all(publisher, middle, 0), fleet, house.database)
        await _let_others_take_over(fleet, house)
        before = await _everything(house, groups)
        await _thaw(fleet, groups)
        assert await _everything(house, groups) == before
        await publish_all(publisher, last, 0)
        await house.wait_until_settled(TAKEOVER_SECONDS)
        verdict = await house.judge(stream)
    wrong = [*verdict.wrong, *fleet.fallen]
    assert not wrong, "\n".join(wrong)


async def _freeze_amid(publishing: Coroutine[object, object, None], fleet: Fleet, database: Database) -> None:
    """The sync worker has asked for rows that are locked here; it gets them when it is frozen, and keeps them."""
    done = await events_in_inbox(database)
    async with database.transaction() as tx:
        await tx.execute(text("SET wait_timeout = 600"))  # what is waited for may take longer
        await tx.execute(select(performers.c.id).with_for_update())
        await publishing
        await eventually(lambda: _waits_for_performers(database))
        await eventually(lambda: _has_more_events(database, done))  # by the KYC worker
        for workers in fleet.members.values():
            await workers[0].freeze()


async def _let_others_take_over(fleet: Fleet, house: House) -> None:
    began = time.monotonic()
    for service in SERVICES:
        await fleet.start(service)
    await house.wait_until_settled(TAKEOVER_SECONDS)
    print(f"others had done all {time.monotonic() - began:.1f} s after two workers froze")


async def _thaw(fleet: Fleet, groups: Groups) -> None:
    """Return when the zombies have found out, and joined their groups again."""
    fleet.thaw()
    for group in GROUPS:
        await eventually(partial(_has_members, groups, group, 2), TAKEOVER_SECONDS)


async def _has_members(groups: Groups, group: str, members: int) -> bool:
    return await groups.settled_members(group) == members


async def _has_more_events(database: Database, than: int) -> bool:
    return await events_in_inbox(database) > than


async def _waits_for_performers(database: Database) -> bool:
    waiting = "SELECT COUNT(*) FROM information_schema.innodb_trx WHERE trx_state = 'LOCK WAIT'"
    async with database.read_connection() as connection:
        return bool(await connection.scalar(text(waiting)))


async def _everything(house: House, groups: Groups) -> tuple[Sequence[Rows], Sequence[Offsets]]:
    """All rows that events have written, and what is committed."""
    async with house.database.read_connection() as connection:
        rows = [(await connection.execute(select(table).order_by(table.c.id))).all() for table in EFFECTS]
    return rows, [await groups.committed(group) for group in GROUPS]
