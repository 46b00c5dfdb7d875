"""A consumer under measurement: events into the topic, and how fast it takes them into a database."""

import asyncio
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from measured import program
from payloads import Keys, messages
from sqlalchemy import func, select

from safevideo_common.broker.open import open_broker
from safevideo_common.broker.port import Producer
from safevideo_common.broker.types import Message
from safevideo_common.database.engine import Database
from safevideo_common.database.tables import event_inbox

HERE = Path(__file__).parent
PUBLISHED_AT_ONCE = 500
ASK_SECONDS = 0.05
GIVE_UP_SECONDS = 120.0
STARTING_SHARE = 0.1
"""The first tenth is not timed: it holds the start of the process and its joining of the group."""


@dataclass(frozen=True)
class Figures:
    """Of one consumer; CPU time in microseconds an event."""

    per_second: float
    cpu_micros: float

    @classmethod
    def medians(cls, rounds: Sequence["Figures"]) -> "Figures":
        """Each figure's own median."""
        return cls(median(each.per_second for each in rounds), median(each.cpu_micros for each in rounds))


async def publish_events(bootstrap_servers: str, numbers: range, keys: Keys) -> None:
    """Publish these events, as the door would."""
    async with open_broker(bootstrap_servers, None) as broker, broker.producer("bench") as publisher:
        all_ = list(messages(numbers, keys))
        for start in range(0, len(all_), PUBLISHED_AT_ONCE):
            await _publish(publisher, all_[start : start + PUBLISHED_AT_ONCE])


async def measure_consumer(
    arguments: Sequence[str], environment: Mapping[str, str], folder: Path, events: int
) -> Figures:
    """Run `python <arguments>` until it has taken `events` more events into the database of `environment`.

    Raises `RuntimeError` when what is in the inbox then is not one row an event.
    """
    variables = {**environment, "HOST": "127.0.0.1", "PORT": "0", "PYTHONPATH": str(HERE)}
    async with Database.open(environment["DATABASE_URL"]) as database:
        before = await _last_id(database)
        with program((sys.executable, *arguments), variables, folder / "consumer.out") as consumer:
            first = await _rows_beyond(database, before, int(events * STARTING_SHARE))
            began, cpu = time.perf_counter(), consumer.cpu_seconds()
            last = await _rows_beyond(database, before, events - 1)
            seconds, cpu = time.perf_counter() - began, consumer.cpu_seconds() - cpu
        await _check(database, before, last)
    return Figures((last - first) / seconds, cpu / (last - first) * 1e6)


async def _rows_beyond(database: Database, before: int, rows: int) -> int:
    async with asyncio.timeout(GIVE_UP_SECONDS):
        while (found := await _last_id(database) - before) <= rows:
            await asyncio.sleep(ASK_SECONDS)
    return found


async def _last_id(database: Database) -> int:
    async with database.read_connection() as connection:
        return int(await connection.scalar(select(func.max(event_inbox.c.id))) or 0)


async def _check(database: Database, before: int, rows: int) -> None:
    """The ids were counted, which is cheap. Now the rows are."""
    async with database.read_connection() as connection:
        counted = select(func.count()).where(event_inbox.c.id > before, event_inbox.c.status == "applied")
        found = int(await connection.scalar(counted) or 0)
    if found < rows:
        raise RuntimeError(f"{rows} ids were given out and {found} events are applied")


async def _publish(publisher: Producer, some: Sequence[Message]) -> None:
    await asyncio.gather(*(publisher.publish(message) for message in some))
