"""Instances come and go every half a second under load; then it is calm, and no partition stays behind.

The recipe is Parallel Consumer's. `CHAOS_SEED` repeats who comes and goes. `make chaos` also asserts how long the
throughput is zero in the calm at most: `CHAOS_STANDSTILL_SECONDS`, which a busy machine would exceed.
"""

import asyncio
import os
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from secrets import token_hex

import pytest

import sync_worker.app
from safevideo_common.broker.port import Broker
from safevideo_common.database.engine import Database
from safevideo_common.events.topics import KYC
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_devstack.backends.lifecycle import RunningServer
from safevideo_testkit.all_services import served, settings_of
from safevideo_testkit.chaos.event_stream import write_stream
from safevideo_testkit.chaos.lag_probe import Tide, asking_groups
from safevideo_testkit.chaos.publishing import publish_all
from safevideo_testkit.chaos.system import open_house
from safevideo_testkit.eventually import eventually, running_task
from safevideo_testkit.oracle.state_checks import events_in_inbox, insert_requests
from safevideo_testkit.stacks import REAL, StackUnderTest
from sync_worker.settings import SyncWorkerSettings

SEED = int(os.environ.get("CHAOS_SEED", "0")) or random.randrange(1, 10**6)
SLOTS = 5
TOGGLES = 16
TOGGLE_SECONDS = 0.5
CALM_SECONDS = 8.0
EVENTS_A_SECOND = 300
STANDSTILL_SECONDS = float(os.environ.get("CHAOS_STANDSTILL_SECONDS", "inf"))
SETTLES_SECONDS = 300.0


@pytest.mark.usefixtures("quiet_kafka_client")
@pytest.mark.parametrize("stack", [REAL], indirect=True)
async def test_after_instances_have_come_and_gone_none_stays_in_the_group_work_goes_on_and_nothing_is_lost(
    stack: StackUnderTest,
    broker: Broker,
    log: FilteringBoundLogger,
    kafka_server: RunningServer,  # a stack of ours alone: elsewhere the group may have other members
) -> None:
    seconds = TOGGLES * TOGGLE_SECONDS + CALM_SECONDS
    stream = write_stream(performers=100, events=int(seconds * EVENTS_A_SECOND), seed=SEED, prefix=f"sg_{token_hex(4)}")
    messages = [message for message in stream.messages if message.topic != KYC]
    tide = Tide(stack.kafka_bootstrap_servers, sync_worker.app.SERVICE)
    async with (
        open_house(stack, broker) as house,
        broker.producer("rebalances") as publisher,
        running_task(tide.watch()),
        asking_groups(stack.kafka_bootstrap_servers) as groups,
        _instances(stack, broker, log) as instances,
    ):
        await insert_requests(house.database, stream.requested)
        async with asyncio.TaskGroup() as load:
            load.create_task(publish_all(publisher, messages, seconds))
            await instances.come_and_go(random.Random(SEED))
            assert await groups.members(sync_worker.app.SERVICE) <= len(instances.running)
            standstills = await _standstills(house.database, CALM_SECONDS)
        await house.wait_until_settled(SETTLES_SECONDS)
        verdict = await house.judge(stream)
    print(f"CHAOS_SEED={SEED}: {', '.join(instances.told)}; in the calm no event for {max(standstills):.1f} s at most")
    wrong = [*verdict.wrong, *tide.ebbs]
    assert not wrong, "\n".join(wrong)
    assert max(standstills) < STANDSTILL_SECONDS


@dataclass
class Instances:
    """Of `sync-worker`, in this process: another takes seconds to start. `told` is who came and went."""

    stack: StackUnderTest
    broker: Broker
    log: FilteringBoundLogger
    tasks: asyncio.TaskGroup
    running: dict[int, asyncio.Event] = field(default_factory=dict)
    ending: int = 0
    told: list[str] = field(default_factory=list)

    async def come_and_go(self, dice: random.Random) -> None:
        """One comes or goes every half a second. At the end two or more are there, and the others have ended."""
        for _ in range(TOGGLES):
            self._toggle(dice.randrange(SLOTS))
            await asyncio.sleep(TOGGLE_SECONDS)
        for slot in range(SLOTS):
            if len(self.running) < 2 and slot not in self.running:
                self._toggle(slot)
        await eventually(self._others_have_ended)

    async def _others_have_ended(self) -> bool:
        return not self.ending

    def stop(self) -> None:
        for slot in list(self.running):
            self._toggle(slot)

    def _toggle(self, slot: int) -> None:
        self.told.append(f"{'-' if slot in self.running else '+'}{slot}")
        if slot in self.running:
            self.running.pop(slot).set()
            self.ending += 1
        else:
            goes = self.running[slot] = asyncio.Event()
            self.tasks.create_task(self._run(goes), name=f"instance-{slot}")

    async def _run(self, goes: asyncio.Event) -> None:
        settings = SyncWorkerSettings.model_validate(settings_of(self.stack) | {"batch_records": 100})
        async with served(sync_worker.app.build_app(settings, self.broker, self.log), settings):
            await goes.wait()
        self.ending -= 1


@asynccontextmanager
async def _instances(stack: StackUnderTest, broker: Broker, log: FilteringBoundLogger) -> AsyncIterator[Instances]:
    async with asyncio.TaskGroup() as tasks:
        instances = Instances(stack, broker, log, tasks)
        try:
            yield instances
        finally:
            instances.stop()


async def _standstills(database: Database, seconds: float) -> list[float]:
    """How long it took each time until there were more events in the inbox; the last one may have been cut off."""
    began = last = time.monotonic()
    before, found = await events_in_inbox(database), []
    while time.monotonic() < began + seconds:
        await asyncio.sleep(0.05)
        now = await events_in_inbox(database)
        if now > before or time.monotonic() >= began + seconds:
            found.append(time.monotonic() - last)
            before, last = now, time.monotonic()
    return found
