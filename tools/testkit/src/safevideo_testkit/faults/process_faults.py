"""What is done to workers, database and broker, one thing a second, as a seed decides."""

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

MOST_WORKERS = 3
"""Of one service. With as many, one is stopped instead of one more started."""
SESSION_SECONDS = 15.0
TURN_SECONDS = 30
PAUSE_SECONDS = 1.0


class Kind(StrEnum):
    KILL = "killed"
    FREEZE = "frozen"
    FREEZE_LONG = "frozen past its session"
    START = "one more started"
    STOP = "stopped"
    CUT = "database connections cut"
    RESTART_DATABASE = "database restarted"
    PAUSE_BROKER = "broker paused"
    RESTART_BROKER = "broker restarted"


STREAM_ROUND = (
    *(Kind.KILL, Kind.FREEZE, Kind.START, Kind.CUT) * 3,
    *(Kind.STOP, Kind.RESTART_DATABASE) * 2,
    *(Kind.FREEZE_LONG, Kind.PAUSE_BROKER, Kind.RESTART_BROKER),
)
"""Each kind before any comes again, and more often what costs little time."""
JOBS_ROUND = (
    *(Kind.START, Kind.FREEZE_LONG) * 4,
    *(Kind.KILL,) * 2,
    *(Kind.STOP, Kind.FREEZE, Kind.CUT, Kind.RESTART_DATABASE),
)
"""Of what jobs know: they need no broker."""


@dataclass(frozen=True, slots=True)
class Fault:
    """`service` is whose worker is meant, where one is; `seconds` is how long it lasts."""

    kind: Kind
    service: str
    seconds: float


def plan(
    faults: int,
    seed: int,
    *,
    services: Sequence[str] = SERVICES,
    kinds: Sequence[Kind] = STREAM_ROUND,
    long_seconds: float = SESSION_SECONDS,
) -> Sequence[Fault]:
    """One a second; what lasts is over when the last one is. `long_seconds` is after how long others take over.

    The first one is a freeze that is longer than that, so that it has the time.

    The workers of one service are troubled for half a minute, then those of the other: a group of which a member has
    died does nothing until its session is over, and would do nothing at all if it were troubled all the time.
    """
    dice = random.Random(seed)
    rounds = [dice.sample(kinds, len(kinds)) for _ in range(0, faults, len(kinds))]
    planned = [kind for each in rounds for kind in each]
    planned.insert(0, planned.pop(planned.index(Kind.FREEZE_LONG)))
    turns, turn = dice.sample(services, len(services)), min(TURN_SECONDS, -(-faults // len(services)))
    return [
        Fault(kind, turns[second // turn % len(turns)], min(_seconds(dice, kind, long_seconds), faults - second))
        for second, kind in enumerate(planned[:faults])
    ]


def _seconds(dice: random.Random, kind: Kind, long_seconds: float) -> float:
    match kind:
        case Kind.FREEZE_LONG:
            return long_seconds + dice.uniform(1, 4)
        case Kind.FREEZE | Kind.PAUSE_BROKER:
            return dice.uniform(0.3, 4)
        case _:
            return 0.0


@dataclass
class Chaos:
    """Does faults to a fleet and its backends.

    `told` is what was done, and when. `counts` is how often each kind had its effect: a worker that was to be killed
    may not have started.
    """

    fleet: Fleet
    kafka: RunningServer | None
    mysql: RunningServer
    database_url: str
    seed: int
    told: list[str] = field(default_factory=list)
    counts: Counter[Kind] = field(default_factory=Counter)
    _asleep: list[ServiceProcess] = field(default_factory=list)
    _broker: asyncio.Lock = field(default_factory=asyncio.Lock)
    _database: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def wreak(self, faults: Sequence[Fault]) -> None:
        """One a second, whether or not the last is over; then again what had no effect, until each kind had one.

        At the end all is healed, and each service has a worker.
        """
        self._began = time.monotonic()
        self._dice = random.Random(self.seed)
        async with asyncio.TaskGroup() as under_way:
            for number, fault in enumerate(faults):
                await asyncio.sleep(max(0.0, self._began + number - time.monotonic()))
                await self.fleet.tend()
                under_way.create_task(self._do(fault), name=fault.kind)
        async with asyncio.timeout(DEADLINE_SECONDS):
            for fault in {each.kind: each for each in reversed(faults)}.values():
                while fault.kind not in self.counts:
                    await self.fleet.tend()
                    await self._do(fault)
                    await asyncio.sleep(PAUSE_SECONDS)
        self.fleet.thaw()
        await self.fleet.tend()
        self._tell("calm")

    def _do(self, fault: Fault) -> Coroutine[object, object, None]:
        match fault.kind:
            case Kind.CUT:
                return self._cut_connections()
            case Kind.RESTART_DATABASE:
                return self._restart(self.mysql, self._database, fault)
            case Kind.RESTART_BROKER:
                return self._restart(self._kafka(), self._broker, fault)
            case Kind.PAUSE_BROKER:
                return self._pause_broker(self._kafka(), fault)
            case _:
                return self._trouble_a_worker(fault)

    async def _trouble_a_worker(self, fault: Fault) -> None:
        service, workers = fault.service, self.fleet.members[fault.service]
        kind = Kind.STOP if fault.kind is Kind.START and len(workers) >= MOST_WORKERS else fault.kind
        if kind is Kind.START or not workers:
            self._tell(f"{service} {Kind.START}", Kind.START)
            await self.fleet.start(service)
            return
        worker = self._dice.choice([each for each in workers if each not in self._asleep] or workers)
        self._tell(f"{service} {kind} {_for(fault)}of {len(workers)}")
        if worker.ended is not None:
            return  # it could not start; it is tended within a second
        if kind is Kind.KILL:
            await self.fleet.kill(service, worker)
        elif kind is Kind.STOP:
            await self.fleet.stop(service, worker)
        elif not await self._freeze(service, worker, fault.seconds):
            return
        self.counts[kind] += 1

    async def _freeze(self, service: str, worker: ServiceProcess, seconds: float) -> bool:
        """Whether it was still there when it went on."""
        self._asleep.append(worker)
        await worker.freeze()
        await asyncio.sleep(seconds)
        worker.thaw()
        self._asleep.remove(worker)
        return worker in self.fleet.members[service]

    async def _restart(self, server: RunningServer, turn: asyncio.Lock, fault: Fault) -> None:
        async with turn:
            self._tell(fault.kind)
            await asyncio.to_thread(server.restart)
            self._tell(f"{fault.kind}: is back", fault.kind)

    async def _pause_broker(self, kafka: RunningServer, fault: Fault) -> None:
        async with self._broker:
            self._tell(f"{fault.kind} {_for(fault)}", fault.kind)
            await asyncio.to_thread(kafka.pause)  # it returns when it is frozen
            await asyncio.sleep(fault.seconds)
            await asyncio.to_thread(kafka.resume)

    def _kafka(self) -> RunningServer:
        assert self.kafka is not None
        return self.kafka

    async def _cut_connections(self) -> None:
        cut = await asyncio.to_thread(_cut, self.database_url)
        self._tell(f"{Kind.CUT}: {cut}", Kind.CUT if cut else None)

    def _tell(self, what: str, kind: Kind | None = None) -> None:
        if kind:
            self.counts[kind] += 1
        self.told.append(f"{time.monotonic() - self._began:6.1f} s  {what}")


def _for(fault: Fault) -> str:
    return f"for {fault.seconds:.1f} s " if fault.seconds else ""


def _cut(url: str) -> int:
    """Kill all connections to this database, also those that are in a transaction; how many there were."""
    cut = 0
    with suppress(DBAPIError), mysql_connection(url) as connection:
        name = make_url(url).database
        others = "SELECT id FROM information_schema.processlist WHERE db = :name AND id <> CONNECTION_ID()"
        for each in connection.scalars(text(others), {"name": name}).all():
            with suppress(DBAPIError):  # gone meanwhile
                connection.execute(text(f"KILL {each}"))
                cut += 1
    return cut
