"""What befalls a door and its Kafka in the middle of a stream, at points that a seed decides."""

import asyncio
import math
import random
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from safevideo_devstack.backends.lifecycle import RunningServer
from safevideo_testkit.eventually import eventually
from safevideo_testkit.faults.small_disk import SmallDisk
from safevideo_testkit.service_process import ServiceProcess
from safevideo_testkit.simulator_control import PATIENCE_SECONDS, Provider

WEBHOOKS_A_FAULT = 1200
"""In a long stream. Each kind of fault befalls a stream of any length once."""
ASK_SECONDS = 30.0
REFUSALS_OF_A_FULL_DISK = 100


class Kind(StrEnum):
    KAFKA_KILLED = "Kafka killed, started again"
    KAFKA_PAUSED = "Kafka paused, resumed"
    DOOR_KILLED = "door killed, started again"
    BOTH_KILLED = "Kafka killed, then the door; both started again"
    DOOR_KILLED_IN_PAUSE = "Kafka paused, then the door killed"
    DISK_FILLED = "Kafka paused, then the disk of the spool filled; freed before Kafka resumed"
    DOOR_KILLED_ON_FULL_DISK = "Kafka paused, the disk of the spool filled, then the door killed"


DISK_KINDS = frozenset({Kind.DISK_FILLED, Kind.DOOR_KILLED_ON_FULL_DISK})


@dataclass(frozen=True, slots=True)
class Fault:
    """`begins` and `ends` when so many webhooks are answered."""

    kind: Kind
    begins: int
    ends: int

    def __str__(self) -> str:
        return f"{self.begins:6} to {self.ends:6}: {self.kind}"


def plan(webhooks: int, seed: int, kinds: Sequence[Kind]) -> Sequence[Fault]:
    """One fault after the other, all over a stream of so many; each kind once, before any comes again."""
    dice = random.Random(seed)
    count = max(len(kinds), webhooks // WEBHOOKS_A_FAULT)
    chosen = [kind for _ in range(0, count, len(kinds)) for kind in dice.sample(kinds, len(kinds))]
    stretch = webhooks // (count + 1)
    return [_fault(dice, kind, number * stretch, stretch) for number, kind in enumerate(chosen[:count])]


def _fault(dice: random.Random, kind: Kind, start: int, stretch: int) -> Fault:
    begins = start + dice.randrange(stretch // 2)
    return Fault(kind, begins, begins + dice.randrange(1, stretch // 2))


@dataclass(frozen=True, slots=True)
class Door:
    """`webhook-ingest` as a process of its own, at `base_url`; its spool on `disk` where one could be mounted."""

    process: ServiceProcess
    base_url: str
    disk: SmallDisk | None

    async def kill(self) -> None:
        """`kill -9`, and start it again; it may not be ready for a while."""
        await self.process.kill()
        await self.process.start()

    async def until_ready(self) -> None:
        """Return once it takes webhooks."""

        async def is_ready() -> bool:
            return await self._get("/readyz") is not None

        await eventually(is_ready, PATIENCE_SECONDS)

    async def until_spool(self, is_so: Callable[[float], bool]) -> None:
        """Return once the number of events in its spool is so. Raises `TimeoutError` when that takes too long."""

        async def spool_is_so() -> bool:
            metrics = await self._get("/metrics")
            return metrics is not None and is_so(_gauge(metrics, "safevideo_spool_events"))

        await eventually(spool_is_so, PATIENCE_SECONDS)

    async def _get(self, path: str) -> str | None:
        timeout = aiohttp.ClientTimeout(total=ASK_SECONDS)
        try:
            async with aiohttp.ClientSession(self.base_url, timeout=timeout) as session, session.get(path) as answer:
                return await answer.text() if answer.status == 200 else None
        except (aiohttp.ClientError, TimeoutError):
            return None


async def befall(faults: Sequence[Fault], door: Door, kafka: RunningServer, provider: Provider) -> AsyncIterator[Fault]:
    """Do all of `faults`, and give each once it had its effect. At the end Kafka and the door are there.

    Of a Kafka that is away the effect is that events go into the spool, of a full disk that the door refuses them.
    A door that is killed must not have ended by itself.
    """
    provider.allow(faults[0].begins)
    for fault, following in zip(faults, [*(each.begins for each in faults[1:]), math.inf], strict=True):
        await provider.until_answered(fault.begins)
        provider.allow(following)
        print(f"at {len(provider.answered):6} {fault}")
        match fault.kind:
            case Kind.DOOR_KILLED:
                await door.kill()
            case Kind.KAFKA_KILLED | Kind.BOTH_KILLED:
                await asyncio.to_thread(kafka.kill)
                await _during(fault, door, provider)
                await asyncio.to_thread(kafka.start)
            case _:
                await asyncio.to_thread(kafka.pause)
                await _during(fault, door, provider)
                await asyncio.to_thread(kafka.resume)
        yield fault


async def _during(fault: Fault, door: Door, provider: Provider) -> None:
    await door.until_spool(lambda events: events > 0)  # so that there is something to adopt, or to keep
    if fault.kind in DISK_KINDS:
        await _with_full_disk(fault, door, provider)
    elif fault.kind in (Kind.BOTH_KILLED, Kind.DOOR_KILLED_IN_PAUSE):
        await door.kill()
    await provider.until_answered(fault.ends)


async def _with_full_disk(fault: Fault, door: Door, provider: Provider) -> None:
    assert door.disk is not None
    door.disk.fill()
    await provider.until_refused(REFUSALS_OF_A_FULL_DISK)
    if fault.kind is Kind.DOOR_KILLED_ON_FULL_DISK:
        await door.kill()
        await provider.until_refused(REFUSALS_OF_A_FULL_DISK)  # also by one that starts like this
    door.disk.free()


def _gauge(metrics: str, name: str) -> float:
    families = text_string_to_metric_families(metrics)
    return next(sample.value for family in families for sample in family.samples if sample.name == name)
