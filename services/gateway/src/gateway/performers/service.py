"""Reading one performer: from the cache, else from the database into the cache."""

from typing import Final, Protocol

import msgspec

from gateway.metrics import GatewayMetrics
from safevideo_common.clock import rfc3339
from safevideo_common.database import performers
from safevideo_common.database.engine import Database
from safevideo_common.database.performers import StoredPerformer
from safevideo_common.errors import PerformerNotFound
from safevideo_common.events.schema_errors import SCHEMA_MISMATCH


class PerformerView(msgspec.Struct, frozen=True, rename="camel"):
    """A performer in full, as the cache holds it. What a caller may see of it is decided after."""

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
    version: int | None
    """The newest of Sharegram's versions that is in here; None where it sends none."""
    created_at: str
    updated_at: str


class Cache(Protocol):
    """Bytes by performer id that may be forgotten at any time. Neither method raises: a cache that is away is empty."""

    async def get(self, performer_id: int) -> bytes | None:
        """What was filled, if it is still there."""
        ...

    async def fill(self, performer_id: int, value: bytes) -> None:
        """Keep what the database has just said, unless a writer has been there since."""
        ...


_decoder: Final = msgspec.json.Decoder(PerformerView)


class PerformerService:
    """Finds performers by either id. Raises `PerformerNotFound`, and `DatabaseUnavailable` where the cache has none."""

    def __init__(self, database: Database, cache: Cache, metrics: GatewayMetrics) -> None:
        self._database = database
        self._cache = cache
        self._metrics = metrics

    async def by_id(self, performer_id: int) -> PerformerView:
        """The performer with our id."""
        if (cached := _decoded(await self._cache.get(performer_id))) is not None:
            self._metrics.performer_read("cache")
            return cached
        view = await self._stored(performer_id)
        self._metrics.performer_read("database")
        await self._cache.fill(performer_id, msgspec.json.encode(view))
        return view

    async def by_sharegram_id(self, sharegram_id: str) -> PerformerView:
        """The performer with Sharegram's id, which the database translates into ours."""
        async with self._database.reading() as connection:
            performer_id = await performers.id_of(connection, sharegram_id)
        if performer_id is None:
            raise _unknown()
        return await self.by_id(performer_id)

    async def _stored(self, performer_id: int) -> PerformerView:
        async with self._database.reading() as connection:
            stored = await performers.get(connection, performer_id)
        if stored is None:
            raise _unknown()
        return view_of(stored)


def view_of(stored: StoredPerformer) -> PerformerView:
    """The mirrored state in the API's words."""
    versions = (stamp.version for stamp in stored.performer.stamps.values())
    shown = {
        **stored.performer.fields,
        "id": stored.id,
        "performer_id": stored.performer.sharegram_id,
        "version": max((version for version in versions if version is not None), default=None),
        "created_at": rfc3339(stored.created_at),
        "updated_at": rfc3339(stored.updated_at),
    }
    return msgspec.convert({_WIRE[name]: value for name, value in shown.items()}, PerformerView)


_WIRE: Final = dict(zip(PerformerView.__struct_fields__, PerformerView.__struct_encode_fields__, strict=True))


def _decoded(cached: bytes | None) -> PerformerView | None:
    """None also for what another version or a slip of the hand has left there: the database then fills it anew."""
    if cached is None:
        return None
    try:
        return _decoder.decode(cached)
    except SCHEMA_MISMATCH:
        return None


def _unknown() -> PerformerNotFound:
    return PerformerNotFound("There is no such performer.")
