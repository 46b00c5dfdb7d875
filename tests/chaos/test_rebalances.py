"""Instances start and stop every half a second under load; afterwards no partition stays behind.

The recipe is that of Confluent's Parallel Consumer. `CHAOS_SEED` repeats the starts and stops. `make chaos` also bounds
the longest time without progress afterwards by `CHAOS_STANDSTILL_SECONDS`, which a busy machine would exceed.
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
from safevideo_testkit.all_services import serving, settings_of
from safevideo_testkit.broker_helpers import publish_spread
from safevideo_testkit.chaos.lag_probe import OffsetCommits, open_groups
from safevideo_testkit.eventually import eventually
from safevideo_testkit.oracle.checks import count_events, insert_requests
from safevideo_testkit.oracle.stream import refuse_poison, write_poisonous_stream
from safevideo_testkit.oracle.system import open_system
from safevideo_testkit.stacks import REAL, StackUnderTest
from sync_worker.settings import SyncWorkerSettings

SEED = int(os.environ.get("CHAOS_SEED", "0")) or random.randrange(1, 10**6)
SLOTS = 5
TOGGLES = 16
TOGGLE_SECONDS = 0.5
QUIET_SECONDS = float(os.environ.get("CHAOS_QUIET_SECONDS", "3"))
EVENTS_PER_SECOND = int(os.environ.get("CHAOS_EVENTS_PER_SECOND", "150"))
STANDSTILL_SECONDS = float(os.environ.get("CHAOS_STANDSTILL_SECONDS", "inf"))
SETTLE_SECONDS = 300.0


@pytest.mark.usefixtures("quiet_kafka_client")
@pytest.mark.parametrize("stack", [REAL], indirect=True)
async def test_workers_make_progress_and_lose_nothing_after_instances_started_and_stopped(
    stack: StackUnderTest,
    broker: Broker,
    log: FilteringBoundLogger,
    kafka_server: RunningServer,  # a stack of our own: elsewhere others may join the group
) -> None:
    seconds = TOGGLES * TOGGLE_SECONDS + QUIET_SECONDS
    events = int(seconds * EVENTS_PER_SECOND)
    stream = write_poisonous_stream(performers=100, events=events, seed=SEED, prefix=f"sg_{token_hex(4)}")
    messages = [message for message in stream.messages if message.topic != KYC]
    commits = await OffsetCommits.since_now(broker)
    async with (
        open_system(stack, broker) as system,
        broker.producer("rebalances") as producer,
        open_groups(stack.kafka_bootstrap_servers) as groups,
        _instances(stack, broker, log) as instances,
    ):

        async def only_ours_are_members() -> bool:  # a worker that was killed, or had no time to leave, is one for 15 s
            return await groups.members(sync_worker.app.SERVICE) <= len(instances.running)

        await eventually(only_ours_are_members)
        await refuse_poison(system.database)
        await insert_requests(system.database, stream.requested)
        async with asyncio.TaskGroup() as load:
            load.create_task(publish_spread(producer, messages, seconds))
            await instances.start_and_stop(random.Random(SEED))
            await eventually(only_ours_are_members, 10.0)  # sooner than a session ends
            standstills = await _standstills(system.database, QUIET_SECONDS)
        await system.wait_until_settled(SETTLE_SECONDS)
        comparison = await system.compare(stream)
    print(f"CHAOS_SEED={SEED}: {', '.join(instances.history)}; then no event for {max(standstills):.1f} s at most")
    await commits.read({sync_worker.app.SERVICE})
    assert commits.count
    wrong = [*comparison.differences, *commits.decreases]
    assert not wrong, "\n".join(wrong)
    assert max(standstills) < STANDSTILL_SECONDS


@dataclass
class Instances:
    """Instances of `sync-worker` in this process, where they start fast. `history` lists the starts and stops."""

    stack: StackUnderTest
    broker: Broker
    log: FilteringBoundLogger
    tasks: asyncio.TaskGroup
    running: dict[int, asyncio.Event] = field(default_factory=dict)
    ending: int = 0
    history: list[str] = field(default_factory=list)

    async def start_and_stop(self, dice: random.Random) -> None:
        """Start or stop one every half a second. At the end two or more run, and the others have ended."""
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
        self.history.append(f"{'-' if slot in self.running else '+'}{slot}")
        if slot in self.running:
            self.running.pop(slot).set()
            self.ending += 1
        else:
            stop = self.running[slot] = asyncio.Event()
            self.tasks.create_task(self._run(stop), name=f"instance-{slot}")

    async def _run(self, stop: asyncio.Event) -> None:
        settings = SyncWorkerSettings.model_validate(settings_of(self.stack) | {"batch_records": 100})
        async with serving(sync_worker.app.build_app(settings, self.broker, self.log), settings):
            await stop.wait()
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
    """Return the times between two increases of the inbox. The end of the period cuts off the last one."""
    began = last = time.monotonic()
    before, found = await count_events(database), []
    while time.monotonic() < began + seconds:
        await asyncio.sleep(0.05)
        now = await count_events(database)
        if now > before or time.monotonic() >= began + seconds:
            found.append(time.monotonic() - last)
            before, last = now, time.monotonic()
    return found
