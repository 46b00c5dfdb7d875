"""What befalls a door and its Kafka in the middle of a stream, at points that a seed decides."""

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

import aiohttp
from door_provider import PATIENCE_SECONDS, Provider
from prometheus_client.parser import text_string_to_metric_families

from safevideo_common.testing.backends import RunningServer
from safevideo_common.testing.service_process import ServiceProcess
from safevideo_common.testing.waiting import until

WEBHOOKS_A_FAULT = 1200
ASK_SECONDS = 5.0


class Kind(StrEnum):
    KAFKA_KILLED = "Kafka killed, started again"
    KAFKA_PAUSED = "Kafka paused, resumed"
    DOOR_KILLED = "door killed, started again"
    BOTH_KILLED = "Kafka killed, then the door; both started again"
    DOOR_KILLED_IN_PAUSE = "Kafka paused, then the door killed"


@dataclass(frozen=True, slots=True)
class Fault:
    """`begins` and `ends` when so many webhooks are answered."""

    kind: Kind
    begins: int
    ends: int

    def __str__(self) -> str:
        return f"{self.begins:6} to {self.ends:6}: {self.kind}"


def plan(webhooks: int, seed: int) -> Sequence[Fault]:
    """One fault after the other, all over a stream of so many; each kind once, before any comes again."""
    dice = random.Random(seed)
    count = max(len(Kind), webhooks // WEBHOOKS_A_FAULT)
    kinds = [kind for _ in range(0, count, len(Kind)) for kind in dice.sample(list(Kind), len(Kind))]
    stretch = webhooks // (count + 1)
    return [_fault(dice, kind, number * stretch, stretch) for number, kind in enumerate(kinds[:count])]


def _fault(dice: random.Random, kind: Kind, start: int, stretch: int) -> Fault:
    begins = start + dice.randrange(stretch // 2)
    return Fault(kind, begins, begins + dice.randrange(1, stretch // 2))


@dataclass(frozen=True, slots=True)
class Door:
    """`webhook-ingest` as a process of its own, at `base_url`."""

    process: ServiceProcess
    base_url: str

    async def kill(self) -> None:
        """`kill -9`, and start it again; it may not be ready for a while."""
        await self.process.kill()
        await self.process.start()

    async def until_ready(self) -> None:
        """Return once it takes webhooks."""

        async def is_ready() -> bool:
            return await self._get("/readyz") is not None

        await until(is_ready, PATIENCE_SECONDS)

    async def until_spool(self, is_so: Callable[[float], bool]) -> None:
        """Return once the number of events in its spool is so. Raises `TimeoutError` after three minutes."""

        async def spool_is_so() -> bool:
            metrics = await self._get("/metrics")
            return metrics is not None and is_so(_gauge(metrics, "safevideo_spool_events"))

        await until(spool_is_so, PATIENCE_SECONDS)

    async def _get(self, path: str) -> str | None:
        timeout = aiohttp.ClientTimeout(total=ASK_SECONDS)
        try:
            async with aiohttp.ClientSession(self.base_url, timeout=timeout) as session, session.get(path) as answer:
                return await answer.text() if answer.status == 200 else None
        except (aiohttp.ClientError, TimeoutError):
            return None


async def befall(faults: Sequence[Fault], door: Door, kafka: RunningServer, provider: Provider) -> None:
    """Do all of `faults`, and end with Kafka and the door there."""
    for fault in faults:
        await provider.until_answered(fault.begins)
        print(f"at {len(provider.answered):6} {fault}")
        match fault.kind:
            case Kind.DOOR_KILLED:
                await door.kill()
            case Kind.KAFKA_KILLED | Kind.BOTH_KILLED:
                await asyncio.to_thread(kafka.kill)
                await _during(fault, door, provider)
                await asyncio.to_thread(kafka.start)
            case Kind.KAFKA_PAUSED | Kind.DOOR_KILLED_IN_PAUSE:
                await asyncio.to_thread(kafka.pause)
                await _during(fault, door, provider)
                await asyncio.to_thread(kafka.resume)


async def _during(fault: Fault, door: Door, provider: Provider) -> None:
    if fault.kind in (Kind.BOTH_KILLED, Kind.DOOR_KILLED_IN_PAUSE):
        await door.until_spool(lambda events: events > 0)  # so that there is something to adopt
        await door.kill()
    await provider.until_answered(fault.ends)


def _gauge(metrics: str, name: str) -> float:
    families = text_string_to_metric_families(metrics)
    return next(sample.value for family in families for sample in family.samples if sample.name == name)
