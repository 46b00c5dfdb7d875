"""Two replicas over one database, Redis and folder of documents, a third one that judges, and what is stored at all.

A world can be saved and put back, so that thousands of runs begin in the same situation.
"""

import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from redis.asyncio import Redis
from sqlalchemy import Table, insert, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection

from safevideo_common.auth.sessions import SSO_DB
from safevideo_common.cache.redis import open_redis
from safevideo_common.database.engine import Database
from safevideo_common.database.tables import metadata
from safevideo_common.documents.files import NAME, path_of
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_testkit.people_model.clients import SharegramStandIn
from safevideo_testkit.people_model.replica import Addresses, Replica, WorldTime, open_replica

Rows = Mapping[str, Sequence[Mapping[str, Any]]]
RETAINED: Final = ("person_locks",)
"""Tables whose rows belong to the schema."""


@dataclass(frozen=True, slots=True)
class Stored:
    """Everything that is stored: rows by table, keys of Redis by database, and files with their times."""

    rows: Rows
    keys: Mapping[int, Mapping[bytes, tuple[bytes, int]]]
    """The value as `DUMP` gives it, and its time to live in milliseconds."""
    files: Mapping[str, tuple[bytes, float]]
    moved: timedelta
    verifications: Mapping[str, str]

    @property
    def documents(self) -> frozenset[str]:
        """Return the names of the files of documents, without the mark of the store."""
        return frozenset(name for name in self.files if NAME.fullmatch(name))


NOTHING: Final = Stored({name: [] for name in metadata.tables}, {0: {}, SSO_DB: {}}, {}, timedelta(), {})
"""What is stored in an empty world."""


@dataclass(slots=True)
class World:
    """The whole. `names` has a word for each account, so that facts of two runs compare."""

    addresses: Addresses
    time: WorldTime
    sharegram: SharegramStandIn
    database: Database
    redis: Mapping[int, Redis]
    first: Replica
    second: Replica
    judge: Replica
    names: dict[int, str] = field(default_factory=dict)

    @property
    def replicas(self) -> tuple[Replica, Replica, Replica]:
        """Return all replicas."""
        return (self.first, self.second, self.judge)

    def restart(self) -> None:
        """Let every replica begin as a new process without a fault."""
        for each in self.replicas:
            each.points.begin()
            each.restart()

    async def save(self) -> Stored:
        """Return everything that is stored."""
        rows: dict[str, Sequence[Mapping[str, Any]]] = dict.fromkeys(metadata.tables, ())
        async with self.database.read_connection() as reading:
            for name in await _with_rows(reading):
                rows[name] = await _rows_of(reading, metadata.tables[name])
        keys = {db: await _keys_of(client) for db, client in self.redis.items()}
        return Stored(rows, keys, _files_of(self.addresses.folder), self.time.moved, dict(self.sharegram.verifications))

    async def put_back(self, stored: Stored) -> None:
        """Make everything as it was, and restart."""
        await self.put_back_rows(stored.rows)
        for db, client in self.redis.items():
            await client.flushdb()
            for key, (value, milliseconds) in stored.keys[db].items():
                await client.restore(key, max(milliseconds, 0), value)
        self.put_back_files(stored.files)
        self.time.moved = stored.moved
        self.sharegram.verifications = dict(stored.verifications)
        self.restart()

    async def put_back_rows(self, rows: Rows, *, counters: bool = False) -> None:
        """Make the database as it was. `counters` too go back, as with a restored backup."""
        async with self.database.transaction() as tx:
            for name in await _with_rows(tx):
                await tx.execute(metadata.tables[name].delete())
            for name, table in metadata.tables.items():
                if rows[name] and name not in RETAINED:
                    await tx.execute(insert(table), [dict(row) for row in rows[name]])
        if counters:
            async with self.database.transaction() as tx:
                for name, table in metadata.tables.items():
                    if table.autoincrement_column is not None and name not in RETAINED:
                        await tx.execute(text(f"ALTER TABLE {name} AUTO_INCREMENT = 1"))

    def put_back_files(self, files: Mapping[str, tuple[bytes, float]]) -> None:
        folder = self.addresses.folder
        there = {path.name: path for path in folder.rglob("*") if path.is_file()} if folder.exists() else {}
        for name, path in there.items():
            if name not in files:
                path.unlink()
        for name, (content, at) in files.items():
            path = folder / (path_of(name) if NAME.fullmatch(name) else name)
            if name not in there:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
            os.utime(path, (at, at))

    async def role_by_sql(self, user_id: int, role: str) -> None:
        """Give a role as an operator does with SQL."""
        async with self.database.transaction() as tx:
            users = metadata.tables["users"]
            await tx.execute(update(users).where(users.c.id == user_id).values(role=role))


_WITH_ROWS: Final = text(
    " UNION ALL ".join(f"(SELECT '{name}' FROM {name} LIMIT 1)" for name in metadata.tables if name not in RETAINED)
)


async def _with_rows(connection: AsyncConnection) -> Sequence[str]:
    return [str(each) for each in await connection.scalars(_WITH_ROWS)]


async def _rows_of(reading: AsyncConnection, table: Table) -> Sequence[Mapping[str, Any]]:
    return [dict(row._mapping) for row in await reading.execute(select(table))]


async def _keys_of(client: Redis) -> Mapping[bytes, tuple[bytes, int]]:
    found: dict[bytes, tuple[bytes, int]] = {}
    for each in await client.keys("*"):
        key = each if isinstance(each, bytes) else each.encode()
        value = await client.dump(key)
        if value is not None:
            found[key] = (value, await client.pttl(key))
    return found


def _files_of(folder: Path) -> Mapping[str, tuple[bytes, float]]:
    paths = [path for path in folder.rglob("*") if path.is_file()] if folder.exists() else []
    return {path.name: (path.read_bytes(), path.stat().st_mtime) for path in paths}


@asynccontextmanager
async def open_world(
    database_url: str, redis_url: str, folder: Path, logger: FilteringBoundLogger
) -> AsyncIterator[World]:
    """Open a world on a migrated database without rows. The clocks of its replicas are a minute apart, and more."""
    addresses, time, sharegram = Addresses(database_url, redis_url, folder), WorldTime(), SharegramStandIn()
    async with AsyncExitStack() as stack:
        database = await stack.enter_async_context(Database.open(database_url, pool_size=2))
        redis = {db: await stack.enter_async_context(open_redis(redis_url, db, seconds=30)) for db in (0, SSO_DB)}
        first, second, judge = [
            await stack.enter_async_context(
                open_replica(name, addresses, time, timedelta(seconds=offset), sharegram, logger)
            )
            for name, offset in (("first", -41), ("second", 58), ("judge", 0))
        ]
        yield World(addresses, time, sharegram, database, redis, first, second, judge)


def long_ago(world: World, days: int) -> datetime:
    """Return a time in the past."""
    return world.time.now().astimezone(UTC) - timedelta(days=days)
