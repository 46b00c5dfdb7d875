"""Faults of workers, database and broker, one a second, as a seed decides."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum

from sqlalchemy import text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError

from safevideo_devstack.backends.lifecycle import RunningServer
from safevideo_devstack.backends.probes import mysql_connection
from safevideo_testkit.chaos.workers import SERVICES, Fleet
from safevideo_testkit.eventually import DEADLINE_SECONDS
from safevideo_testkit.service_process import ServiceProcess

MAX_WORKERS = 3
"""Of one service. At this number a worker is stopped where the plan says to start one."""
SESSION_SECONDS = 15.0
PERIOD_SECONDS = 30
PAUSE_SECONDS = 1.0


class Kind(StrEnum):
    KILL = "killed"
    FREEZE = "frozen"
    FREEZE_LONG = "frozen past its session"
    START = "started"
    STOP = "stopped"
    CUT = "database connections cut"
    RESTART_DATABASE = "database restarted"
    PAUSE_BROKER = "broker paused"
    RESTART_BROKER = "broker restarted"
    LEADERLESS = "partitions without a leader"


STREAM_FAULTS = (
    *(Kind.KILL, Kind.FREEZE, Kind.START, Kind.CUT) * 3,
    *(Kind.STOP, Kind.RESTART_DATABASE) * 2,
    *(Kind.FREEZE_LONG, Kind.PAUSE_BROKER, Kind.RESTART_BROKER),
)
"""The kinds, as often as one plan has each before it repeats. Short faults are more frequent."""
CLUSTER_FAULTS = (*STREAM_FAULTS, Kind.LEADERLESS)
"""Likewise for several brokers, of which the last one alone has some partitions."""
JOB_FAULTS = (
    *(Kind.START, Kind.FREEZE_LONG) * 4,
    *(Kind.KILL,) * 2,
    *(Kind.STOP, Kind.FREEZE, Kind.CUT, Kind.RESTART_DATABASE),
)
"""Likewise for jobs, which need no broker."""


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault of a worker of `service`, or of a backend, and its duration."""

    kind: Kind
    service: str
    seconds: float


def plan(
    faults: int,
    seed: int,
    *,
    services: Sequence[str] = SERVICES,
    kinds: Sequence[Kind] = STREAM_FAULTS,
    long_seconds: float = SESSION_SECONDS,
) -> Sequence[Fault]:
    """Return one fault a second, all of which end within `faults` seconds.

    Each kind comes once before any comes twice, so that a short plan has all of them. The first fault is a freeze
    longer than `long_seconds`, after which other workers take over.

    The faults are those of one service for half a minute, then those of the other. A group with a dead member pauses
    until the session of that member ends, and would never work under continuous faults.
    """
    dice = random.Random(seed)
    each_once = dict.fromkeys([Kind.FREEZE_LONG, *dice.sample(kinds, len(kinds))])
    repeated = [*(Counter(kinds) - Counter([*each_once])).elements()]
    planned = [*each_once, *dice.sample(repeated, len(repeated))]
    planned += [kind for _ in range(len(kinds), faults, len(kinds)) for kind in dice.sample(kinds, len(kinds))]
    order, period = dice.sample(services, len(services)), min(PERIOD_SECONDS, -(-faults // len(services)))
    return [
        Fault(kind, order[second // period % len(order)], min(_seconds(dice, kind, long_seconds), faults - second))
        for second, kind in enumerate(planned[:faults])
    ]


def _seconds(dice: random.Random, kind: Kind, long_seconds: float) -> float:
    match kind:
        case Kind.FREEZE_LONG | Kind.LEADERLESS:  # longer than the session of a worker, or of a broker (9 s)
            return long_seconds + dice.uniform(1, 4)
        case Kind.FREEZE | Kind.PAUSE_BROKER:
            return dice.uniform(0.3, 4)
        case _:
            return 0.0


@dataclass
class Chaos:
    """An injector of faults into a fleet and its backends.

    `history` lists the faults with their times. `counts` is how often each kind had its effect: a worker to kill may
    not have started yet.
    """

    fleet: Fleet
    brokers: Sequence[RunningServer]
    """Of these one at a time is killed or frozen. A fleet without Kafka has none."""
    mysql: RunningServer
    database_url: str
    seed: int
    history: list[str] = field(default_factory=list)
    counts: Counter[Kind] = field(default_factory=Counter)
    _frozen: list[ServiceProcess] = field(default_factory=list)
    _broker: asyncio.Lock = field(default_factory=asyncio.Lock)
    _database: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def inject(self, faults: Sequence[Fault]) -> None:
        """Begin one fault a second, then repeat those that had no effect, until each kind had one.

        At the end all backends run, and each service has a worker.
        """
        self._began = time.monotonic()
        self._dice = random.Random(self.seed)
        async with asyncio.TaskGroup() as under_way:
            for number, fault in enumerate(faults):
                await asyncio.sleep(max(0.0, self._began + number - time.monotonic()))
                await self.fleet.restart_ended()
                under_way.create_task(self._do(fault), name=fault.kind)
        async with asyncio.timeout(DEADLINE_SECONDS):
            for fault in {each.kind: each for each in reversed(faults)}.values():
                while fault.kind not in self.counts:
                    await self.fleet.restart_ended()
                    await self._do(fault)
                    await asyncio.sleep(PAUSE_SECONDS)
        self.fleet.thaw()
        await self.fleet.restart_ended()
        self._record("end of the faults")

    def _do(self, fault: Fault) -> Coroutine[object, object, None]:
        match fault.kind:
            case Kind.CUT:
                return self._cut_connections()
            case Kind.RESTART_DATABASE:
                return self._restart(self.mysql, self._database, fault)
            case Kind.RESTART_BROKER:
                # Kafka trusts no replica that was killed: the partitions of the last broker alone would get no leader.
                return self._restart(self._dice.choice(self.brokers[:-1] or self.brokers), self._broker, fault)
            case Kind.PAUSE_BROKER:
                return self._pause_broker(self._dice.choice(self.brokers), fault)
            case Kind.LEADERLESS:
                return self._pause_broker(self.brokers[-1], fault)
            case _:
                return self._disturb_worker(fault)

    async def _disturb_worker(self, fault: Fault) -> None:
        service, workers = fault.service, self.fleet.members[fault.service]
        kind = Kind.STOP if fault.kind is Kind.START and len(workers) >= MAX_WORKERS else fault.kind
        if kind is Kind.START or not workers:
            self._record(f"{service} {Kind.START}", Kind.START)
            await self.fleet.start(service)
            return
        worker = self._dice.choice([each for each in workers if each not in self._frozen] or workers)
        self._record(f"{service} {kind} {_for(fault)}of {len(workers)}")
        if worker.ended is not None:
            return  # it failed to start; `restart_ended` starts another one
        if kind is Kind.KILL:
            await self.fleet.kill(service, worker)
        elif kind is Kind.STOP:
            await self.fleet.stop(service, worker)
        elif not await self._freeze(service, worker, fault.seconds):
            return
        self.counts[kind] += 1

    async def _freeze(self, service: str, worker: ServiceProcess, seconds: float) -> bool:
        """Return whether the worker still existed after it was thawed."""
        self._frozen.append(worker)
        await worker.freeze()
        await asyncio.sleep(seconds)
        worker.thaw()
        self._frozen.remove(worker)
        return worker in self.fleet.members[service]

    async def _restart(self, server: RunningServer, lock: asyncio.Lock, fault: Fault) -> None:
        async with lock:
            self._record(f"{fault.kind}: {server.name}")
            await asyncio.to_thread(server.restart)
            self._record(f"{fault.kind}: {server.name} is available", fault.kind)

    async def _pause_broker(self, kafka: RunningServer, fault: Fault) -> None:
        async with self._broker:
            self._record(f"{fault.kind} {_for(fault)}: {kafka.name}", fault.kind)
            await asyncio.to_thread(kafka.pause)  # returns when it is frozen
            await asyncio.sleep(fault.seconds)
            await asyncio.to_thread(kafka.resume)

    async def _cut_connections(self) -> None:
        cut = await asyncio.to_thread(_cut, self.database_url)
        self._record(f"{Kind.CUT}: {cut}", Kind.CUT if cut else None)

    def _record(self, what: str, kind: Kind | None = None) -> None:
        if kind:
            self.counts[kind] += 1
        self.history.append(f"{time.monotonic() - self._began:6.1f} s  {what}")


def _for(fault: Fault) -> str:
    return f"for {fault.seconds:.1f} s " if fault.seconds else ""


def _cut(url: str) -> int:
    """Kill all connections to this database, also in transactions, and return their number."""
    cut = 0
    with suppress(DBAPIError), mysql_connection(url) as connection:
        name = make_url(url).database
        others = "SELECT id FROM information_schema.processlist WHERE db = :name AND id <> CONNECTION_ID()"
        for each in connection.scalars(text(others), {"name": name}).all():
            try:
                connection.execute(text(f"KILL {each}"))
            except DBAPIError as error:  # already closed
                if error.connection_invalidated:  # ours: the server is being restarted
                    break
            else:
                cut += 1
    return cut
