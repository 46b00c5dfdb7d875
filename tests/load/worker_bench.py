"""Events a second from Kafka into MariaDB: the limit, the ways in which most people write it, and `sync-worker`."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from consumption import Figures, measure_consumer, publish_events
from payloads import Keys
from rich.table import Table

from safevideo_common.database.migrate import migrate
from safevideo_testkit.databases import created, dropped


@dataclass(frozen=True)
class Contestant:
    """How one of them is started: the arguments of Python. `share` is how much of the events it is given to read."""

    arguments: tuple[str, ...]
    share: float = 1.0


LIMIT = "the limit"
ROW_BY_ROW = "row by row"
CONTESTANTS: Mapping[str, Contestant] = {
    LIMIT: Contestant(("-m", "servers.limit", "{events}", "{keys}", "{spread}")),
    ROW_BY_ROW: Contestant(("-m", "servers.row_by_row"), 0.04),
    "FastStream, row by row": Contestant(("-m", "servers.faststream_rows"), 0.04),
    "sync-worker": Contestant(("-m", "sync_worker")),
}


def worker_table(environment: Mapping[str, str], folder: Path, keys: Keys, events: int, rounds: int) -> Table:
    """Each one's figures, and their ratio to the limit and to the row-by-row way."""
    figures = asyncio.run(measure_worker(environment, folder, keys, events, rounds))
    limit, plain = figures[LIMIT].per_second, figures[ROW_BY_ROW].per_second
    title = f"worker, {keys.count} keys{', one of them hot' if keys.hot else ''}"
    table = Table("consumer", "events/s", "CPU µs/event", "to the limit", "to row by row", title=title)
    for name, each in figures.items():
        ratios = (f"{each.per_second / limit:.2f}", f"{each.per_second / plain:.1f}")
        table.add_row(name, f"{each.per_second:,.0f}", f"{each.cpu_micros:.0f}", *ratios)
    return table


async def measure_worker(
    environment: Mapping[str, str], folder: Path, keys: Keys, events: int, rounds: int
) -> dict[str, Figures]:
    """The median of `rounds` rounds, in each of which every contestant runs once, each on an empty database.

    The group of `sync-worker` goes on where it was, so each round publishes the events for it anew.
    """
    measured: dict[str, list[Figures]] = {name: [] for name in CONTESTANTS}
    for _ in range(rounds):
        await publish_events(environment["KAFKA_BOOTSTRAP_SERVERS"], range(events), keys)
        for name, contestant in CONTESTANTS.items():
            measured[name].append(await _measure_one(contestant, environment, folder, keys, events))
    return {name: Figures.medians(figures) for name, figures in measured.items()}


async def _measure_one(
    contestant: Contestant, environment: Mapping[str, str], folder: Path, keys: Keys, events: int
) -> Figures:
    spread = "hot" if keys.hot else "even"
    arguments = [each.format(events=events, keys=keys.count, spread=spread) for each in contestant.arguments]
    url = created(environment["DATABASE_URL"])
    try:
        await migrate(url)
        variables = {**environment, "DATABASE_URL": url}
        return await measure_consumer(arguments, variables, folder, int(events * contestant.share))
    finally:
        dropped(url)
