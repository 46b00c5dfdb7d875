"""Events a second from Kafka into MariaDB: `sync-worker`, and a loop of the same bulk statements without any logic."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from measured import program
from payloads import bodies
from sqlalchemy import func, select

from safevideo_common.clock import utc_now
from safevideo_common.database.engine import Database
from safevideo_common.database.migrate import migrate
from safevideo_common.database.tables import event_inbox
from safevideo_common.events.envelope import Envelope
from safevideo_common.events.topics import PERFORMER
from safevideo_common.messaging.factory import open_log
from safevideo_common.messaging.port import Message, Publisher
from safevideo_common.testing.databases import created, dropped

HERE = Path(__file__).parent
PUBLISHED_AT_ONCE = 2000
ASK_SECONDS = 0.05
GIVE_UP_SECONDS = 300.0
STARTING_SHARE = 0.1
"""The first tenth is not timed: it holds the start of the process and its joining of the group."""


@dataclass(frozen=True)
class Figures:
    """Of one consumer; CPU time in microseconds an event."""

    per_second: float
    cpu_micros: float


async def measure_worker(environment: Mapping[str, str], folder: Path, events: int, rounds: int) -> dict[str, Figures]:
    """The median of `rounds` rounds, in each of which both run once, each on an empty database.

    The group of `sync-worker` goes on where it was, so each round publishes the events for it anew.
    """
    consumers = {"the limit": [str(HERE / "servers" / "limit.py"), str(events)], "sync-worker": ["-m", "sync_worker"]}
    measured: dict[str, list[Figures]] = {name: [] for name in consumers}
    for _ in range(rounds):
        await _fill_topic(environment["KAFKA_BOOTSTRAP_SERVERS"], events)
        for name, arguments in consumers.items():
            variables = {**environment, "HOST": "127.0.0.1", "PORT": "0"}
            measured[name].append(await _measure_one(arguments, variables, folder, events))
    return {
        name: Figures(median(each.per_second for each in all_), median(each.cpu_micros for each in all_))
        for name, all_ in measured.items()
    }


async def _fill_topic(bootstrap_servers: str, events: int) -> None:
    """Publish the events."""
    async with open_log(bootstrap_servers, None) as log, log.publisher("bench") as publisher:
        messages = [_message(number, key, body) for number, (key, body) in enumerate(bodies(events))]
        for start in range(0, events, PUBLISHED_AT_ONCE):
            await _publish(publisher, messages[start : start + PUBLISHED_AT_ONCE])


async def _measure_one(arguments: Sequence[str], environment: Mapping[str, str], folder: Path, events: int) -> Figures:
    url = created(environment["DATABASE_URL"])
    try:
        await migrate(url)
        async with Database.open(url) as database:
            with program(arguments, {**environment, "DATABASE_URL": url}, folder / "consumer.out") as consumer:
                first = await _rows_beyond(database, int(events * STARTING_SHARE))
                began, cpu = time.perf_counter(), consumer.cpu_seconds()
                last = await _rows_beyond(database, events - 1)
                seconds, cpu = time.perf_counter() - began, consumer.cpu_seconds() - cpu
        return Figures((last - first) / seconds, cpu / (last - first) * 1e6)
    finally:
        dropped(url)


async def _rows_beyond(database: Database, rows: int) -> int:
    async with asyncio.timeout(GIVE_UP_SECONDS):
        while (found := await _rows(database)) <= rows:
            await asyncio.sleep(ASK_SECONDS)
    return found


async def _rows(database: Database) -> int:
    async with database.reading() as connection:
        return int(await connection.scalar(select(func.max(event_inbox.c.id))) or 0)


def _message(number: int, performer_id: str, body: bytes) -> Message:
    envelope = Envelope(f"evt-{number}", "performer.profile.updated", utc_now(), performer_id, f"request-{number}")
    return Message(PERFORMER, performer_id.encode(), body, envelope.headers())


async def _publish(publisher: Publisher, messages: Sequence[Message]) -> None:
    await asyncio.gather(*(publisher.publish(message) for message in messages))
