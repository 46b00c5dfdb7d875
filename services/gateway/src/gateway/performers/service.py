"""Read one performer: from the cache, else from the database into the cache."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Generic, Protocol, TypeVar

import msgspec
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.metrics import GatewayMetrics
from safevideo_common.clock import format_timestamp, rfc3339
from safevideo_common.database import performers
from safevideo_common.database.engine import Database
from safevideo_common.database.paging import Order
from safevideo_common.database.performers import PerformerFilter, Position, SortColumn, StoredPerformer
from safevideo_common.errors import PerformerNotFound
from safevideo_common.events.bodies import SCHEMA_MISMATCH
from safevideo_common.inbox.performer_history import StatusDecisionDocument, decision_document


class PerformerView(msgspec.Struct, frozen=True, rename="camel"):
    """A performer with all fields, as it is cached. The API removes what a caller may not see."""

    id: int
    performer_id: str
    """Sharegram's id."""
    username: str | None
    display_name: str | None
    email: str | None
    profile_image: str | None
    bio: str | None
    verified: bool
    status: str
    """The status that counts: a decision's while it stands, else Sharegram's."""
    sharegram_status: str
    decision: StatusDecisionDocument | None
    """The last decision of a person."""
    version: int | None
    """The highest of Sharegram's versions of these fields; None if it sends none."""
    created_at: str
    updated_at: str
    deleted_at: str | None
    """When Sharegram had it no more."""


Value = TypeVar("Value")


class Cache(Protocol):
    """Bytes by performer id that may disappear at any time. A cache that is unavailable is empty and raises nothing."""

    async def get(self, performer_id: int) -> bytes | None:
        """Return the cached value, or None."""
        ...

    async def set_if_not_invalidated(self, performer_id: int, value: bytes) -> None:
        """Cache a value that was just read from the database, unless a writer has invalidated it since."""
        ...


class CoalescedReads(Generic[Value]):
    """Reads by key, of which at most one runs at a time for each key in this process.

    A caller who comes while a read runs waits for the next one, which all such callers share. So nobody gets a value
    that was read before they came: a writer may have committed another one since. A caller who gives up ends no read.
    """

    def __init__(self, read: Callable[[int, bool], Awaitable[Value]]) -> None:
        """`read` gets the key, and whether another read of it has just ended."""
        self._read = read
        self._running: dict[int, asyncio.Task[Value]] = {}
        self._following: dict[int, asyncio.Task[Value]] = {}

    async def get(self, key: int) -> Value:
        """Return a value that was read after this call. Raises what the read raises."""
        running = self._running.get(key)
        if running is None:
            task = self._running[key] = self._start(key, None)
        elif (waiting := self._following.get(key)) is not None:
            task = waiting
        else:
            task = self._following[key] = self._start(key, running)
        return await asyncio.shield(task)

    def _start(self, key: int, before: "asyncio.Task[Value] | None") -> "asyncio.Task[Value]":
        task = asyncio.create_task(self._run(key, before), name=f"read-{key}")
        task.add_done_callback(lambda done: done.cancelled() or done.exception())  # all callers may have given up
        return task

    async def _run(self, key: int, before: "asyncio.Task[Value] | None") -> Value:
        if before is not None:
            await asyncio.wait([before])
        try:
            return await self._read(key, before is not None)
        finally:
            if (following := self._following.pop(key, None)) is not None:
                self._running[key] = following
            else:
                del self._running[key]


_decoder: Final = msgspec.json.Decoder(PerformerView)


class PerformerService:
    """Performers by either id. Raises `PerformerNotFound`, and `DatabaseUnavailable` if the cache has no entry."""

    def __init__(self, database: Database, cache: Cache, metrics: GatewayMetrics) -> None:
        self._database = database
        self._cache = cache
        self._metrics = metrics
        self._reads = CoalescedReads(self._read)

    async def by_id(self, performer_id: int) -> PerformerView:
        """Return the performer with our id."""
        if (cached := _decode(await self._cache.get(performer_id))) is not None:
            self._metrics.performer_read("cache")
            return cached
        view = await self._reads.get(performer_id)
        if view is None:
            raise _not_found()
        return view

    async def _read(self, performer_id: int, follows_another: bool) -> PerformerView | None:
        if follows_another and (cached := _decode(await self._cache.get(performer_id))) is not None:
            self._metrics.performer_read("cache")
            return cached
        async with self._database.read_connection() as connection:
            stored = await performers.get(connection, performer_id)
        self._metrics.performer_read("database")
        if stored is None:
            return None
        view = view_of(stored)
        await self._cache.set_if_not_invalidated(performer_id, msgspec.json.encode(view))
        return view

    async def sharegram_id_of(self, performer_id: int) -> str:
        """Return Sharegram's id of the performer with our id."""
        return (await self.by_id(performer_id)).performer_id

    async def id_of(self, performer_id: int | str) -> int:
        """Return our id of the performer with either id. Ours is not looked up."""
        if isinstance(performer_id, int):
            return performer_id
        async with self._database.read_connection() as connection:
            found = await performers.id_of(connection, performer_id)
        if found is None:
            raise _not_found()
        return found

    async def find(
        self, matching: PerformerFilter, *, sort: SortColumn, order: Order, limit: int, offset: int = 0,
        after: Position | None = None,
    ) -> tuple[Sequence[StoredPerformer], bool, int | None]:  # fmt: skip
        """Return a part of a list, whether more follows, and the number of all unless it begins behind a position."""
        async with self._database.read_connection() as connection:
            found = await performers.find(
                connection, matching, sort=sort, order=order, limit=limit + 1, offset=offset, after=after
            )
            total = await performers.count(connection, matching) if after is None else None
        return found[:limit], len(found) > limit, total

    async def by_sharegram_id(self, sharegram_id: str) -> PerformerView:
        """Return the performer with Sharegram's id. The database maps it to ours."""
        async with self._database.read_connection() as connection:
            performer_id = await performers.id_of(connection, sharegram_id)
        if performer_id is None:
            raise _not_found()
        return await self.by_id(performer_id)


async def written_view(tx: AsyncConnection, sharegram_id: str) -> PerformerView:
    """Return the performer as this transaction has written it, whatever the cache holds. Raises `PerformerNotFound`."""
    performer_id = await performers.id_of(tx, sharegram_id)
    stored = None if performer_id is None else await performers.get(tx, performer_id)
    if stored is None:
        raise _not_found()
    return view_of(stored)


def view_of(stored: StoredPerformer) -> PerformerView:
    """Return the mirrored state with the API's field names."""
    versions = (each.version for each in stored.performer.write_versions.values() if each.version is not None)
    fields = {
        **stored.performer.visible_fields,
        "id": stored.id,
        "sharegram_status": stored.performer.fields["status"],
        "decision": decision_document(stored.performer),
        "performer_id": stored.performer.sharegram_id,
        "version": max(versions, default=None),
        "created_at": rfc3339(stored.created_at),
        "updated_at": rfc3339(stored.updated_at),
        "deleted_at": format_timestamp(stored.performer.deleted_at),
    }
    return msgspec.convert({_JSON_NAMES[name]: value for name, value in fields.items()}, PerformerView)


_JSON_NAMES: Final = dict(zip(PerformerView.__struct_fields__, PerformerView.__struct_encode_fields__, strict=True))


def _decode(cached: bytes | None) -> PerformerView | None:
    """Return None also for a value of another release, or one left by hand: the database then replaces it."""
    if cached is None:
        return None
    try:
        return _decoder.decode(cached)
    except SCHEMA_MISMATCH:
        return None


def _not_found() -> PerformerNotFound:
    return PerformerNotFound("There is no such performer.")
