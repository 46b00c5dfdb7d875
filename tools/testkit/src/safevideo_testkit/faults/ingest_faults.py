"""Faults of webhook-ingest and its Kafka in the middle of a stream, at points that a seed decides."""

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

WEBHOOKS_PER_FAULT = 1200
"""In a long stream. A stream of any length has each kind of fault once."""
ANSWER_SECONDS = 30.0
REJECTIONS_OF_A_FULL_DISK = 100
WEBHOOKS_ON_FULL_DISK = 20


class Kind(StrEnum):
    KAFKA_KILLED = "Kafka killed, started again"
    KAFKA_PAUSED = "Kafka paused, resumed"
    INGEST_KILLED = "ingest killed, started again"
    BOTH_KILLED = "Kafka killed, then ingest; both started again"
    INGEST_KILLED_IN_PAUSE = "Kafka paused, then ingest killed"
    DISK_FILLED = "Kafka paused, then the disk of the spool filled; freed before Kafka resumed"
    INGEST_KILLED_ON_FULL_DISK = "Kafka paused, the disk of the spool filled, then ingest killed"


DISK_KINDS = frozenset({Kind.DISK_FILLED, Kind.INGEST_KILLED_ON_FULL_DISK})


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault that begins and ends when so many webhooks are answered."""

    kind: Kind
    begins: int
    ends: int

    def __str__(self) -> str:
        return f"{self.begins:6} to {self.ends:6}: {self.kind}"


def plan(webhooks: int, seed: int, kinds: Sequence[Kind]) -> Sequence[Fault]:
    """Return faults for a stream of so many webhooks, one after the other. No kind repeats before all have occurred."""
    dice = random.Random(seed)
    count = max(len(kinds), webhooks // WEBHOOKS_PER_FAULT)
    chosen = [kind for _ in range(0, count, len(kinds)) for kind in dice.sample(kinds, len(kinds))]
    stretch = webhooks // (count + 1)
    return [_fault(dice, kind, number * stretch, stretch) for number, kind in enumerate(chosen[:count])]


def _fault(dice: random.Random, kind: Kind, start: int, stretch: int) -> Fault:
    begins = start + dice.randrange(stretch // 2)
    return Fault(kind, begins, begins + dice.randrange(1, stretch // 2))


@dataclass(frozen=True, slots=True)
class IngestProcess:
    """The process of webhook-ingest. Its spool is on `disk`, if a file system could be mounted."""

    process: ServiceProcess
    base_url: str
    disk: SmallDisk | None

    async def kill(self) -> None:
        """Send SIGKILL and start it again, without waiting until it is ready."""
        await self.process.kill()
        await self.process.start()

    async def until_ready(self) -> None:
        """Return when it accepts webhooks."""

        async def is_ready() -> bool:
            return await _get(f"{self.base_url}/readyz") is not None

        await eventually(is_ready, PATIENCE_SECONDS)

    async def until_spool(self, condition: Callable[[float], bool]) -> None:
        """Return when the number of spooled events satisfies the condition. Raises `TimeoutError`."""
        await until_spool(self.base_url, condition)


async def until_spool(base_url: str, condition: Callable[[float], bool]) -> None:
    """Return when the number of spooled events satisfies the condition. Raises `TimeoutError`."""
    await until_metric(base_url, "safevideo_spool_events", condition)


async def until_metric(base_url: str, name: str, condition: Callable[[float], bool]) -> float:
    """Return the value of a metric without labels once it satisfies the condition. Raises `TimeoutError`."""
    found = [0.0]

    async def is_satisfied() -> bool:
        metrics = await _get(f"{base_url}/metrics")
        if metrics is None:
            return False
        found[0] = _value(metrics, name)
        return condition(found[0])

    await eventually(is_satisfied, PATIENCE_SECONDS)
    return found[0]


async def _get(url: str) -> str | None:
    timeout = aiohttp.ClientTimeout(total=ANSWER_SECONDS)
    try:
        async with aiohttp.ClientSession(timeout=timeout) as session, session.get(url) as answer:
            return await answer.text() if answer.status == 200 else None
    except (aiohttp.ClientError, TimeoutError):
        return None


async def inject(
    faults: Sequence[Fault], ingest: IngestProcess, kafka: RunningServer, provider: Provider
) -> AsyncIterator[Fault]:
    """Inject the faults and yield each after its effect. At the end Kafka and webhook-ingest run.

    The effect of an unavailable Kafka is that events enter the spool; of a full disk, that webhooks are rejected.
    """
    provider.allow(faults[0].begins)
    for fault, following in zip(faults, [*(each.begins for each in faults[1:]), math.inf], strict=True):
        await provider.until_answered(fault.begins)
        provider.allow(following)
        print(f"at {len(provider.answered):6} {fault}")
        match fault.kind:
            case Kind.INGEST_KILLED:
                await ingest.kill()
            case Kind.KAFKA_KILLED | Kind.BOTH_KILLED:
                await asyncio.to_thread(kafka.kill)
                await _during(fault, ingest, provider)
                await asyncio.to_thread(kafka.start)
            case _:
                await asyncio.to_thread(kafka.pause)
                await _during(fault, ingest, provider)
                await asyncio.to_thread(kafka.resume)
        yield fault


async def _during(fault: Fault, ingest: IngestProcess, provider: Provider) -> None:
    await ingest.until_spool(lambda events: events > 0)  # so that there are events to adopt
    if fault.kind in DISK_KINDS:
        await _with_full_disk(fault, ingest, provider)
    elif fault.kind in (Kind.BOTH_KILLED, Kind.INGEST_KILLED_IN_PAUSE):
        await ingest.kill()
    await provider.until_answered(fault.ends)


async def _with_full_disk(fault: Fault, ingest: IngestProcess, provider: Provider) -> None:
    assert ingest.disk is not None
    ingest.disk.fill()
    provider.allow_more(WEBHOOKS_ON_FULL_DISK)  # all allowed before may have been accepted while the disk was filled
    await provider.until_rejected(REJECTIONS_OF_A_FULL_DISK)
    if fault.kind is Kind.INGEST_KILLED_ON_FULL_DISK:
        await ingest.kill()
        await provider.until_rejected(REJECTIONS_OF_A_FULL_DISK)  # also by a process that starts with a full disk
    ingest.disk.free()


def _value(metrics: str, name: str) -> float:
    families = text_string_to_metric_families(metrics)
    return next(sample.value for family in families for sample in family.samples if sample.name == name)
