"""Idempotency keys of POSTs that create something (contract, §2).

A request with the header `Idempotency-Key` first claims the key for its caller and route. The effect and the response
are written in one transaction. A repetition within `KEPT_SECONDS` gets that response again.

- While the first request runs, a repetition is 409 `IDEMPOTENCY_KEY_IN_USE`.
- The same key with another request is 422 `IDEMPOTENCY_KEY_REUSED`.
- A request that fails releases its claim, so only outcomes that took effect are kept.
- The claim of a process that died ends after `CLAIM_SECONDS`. Its token fences a process that was only slow.
"""

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from secrets import token_hex
from typing import Any, Final

from aiohttp import web
from aiohttp.typedefs import Handler
from sqlalchemy import delete, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.http.body import read_body
from safevideo_common.auth.principal import PRINCIPAL
from safevideo_common.database.dialect import Upsert, for_update, now_plus
from safevideo_common.database.engine import Database
from safevideo_common.database.errors import retry_on_conflict
from safevideo_common.database.tables import idempotency_keys
from safevideo_common.errors import IdempotencyKeyInUse, IdempotencyKeyReused, SafeVideoError, ValidationFailed
from safevideo_common.observability.http_metrics import route_of
from safevideo_common.web.responses import success

KEY_HEADER: Final = "Idempotency-Key"
REPLAYED_HEADER: Final = "Idempotent-Replayed"

KEPT_SECONDS: Final = 24 * 3600
CLAIM_SECONDS: Final = 60
"""Longer than any request that creates something may take."""

_KEY: Final = re.compile(r"[!-~]{1,128}")
_c: Final = idempotency_keys.c
_CLAIM: Final = Upsert(idempotency_keys, ("principal", "route", "idempotency_key"), ("principal",))
"""Of two concurrent inserts, the later one changes nothing."""


@dataclass(frozen=True, slots=True)
class Scope:
    """The owner of a key, and what the key stands for. `fingerprint` is a hash of the request."""

    principal: str
    route: str
    key: str
    fingerprint: str


@dataclass(frozen=True, slots=True)
class StoredResponse:
    """The response of the request that took effect."""

    status: int
    document: Any


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to act under a key, until it ends or is released."""

    row_id: int
    token: str

    async def keep(self, tx: AsyncConnection, status: int, document: Mapping[str, object]) -> None:
        """Store the response, in the transaction of the effect. `document` has no secret.

        Raises `IdempotencyKeyInUse` if the claim has ended, so that the transaction has no effect.
        """
        response = {"status": status, "document": document, "expires_at": now_plus(KEPT_SECONDS)}
        if not (await tx.execute(update(idempotency_keys).where(self._is_mine()).values(response))).rowcount:
            raise _in_use()

    async def release(self, tx: AsyncConnection) -> None:
        """Delete the claim, unless a response was stored under it."""
        await tx.execute(delete(idempotency_keys).where(self._is_mine()))

    def _is_mine(self) -> Any:
        return (_c.id == self.row_id) & (_c.token == self.token) & _c.status.is_(None)


CLAIM: Final = web.RequestKey("claim", Claim)
"""The claim of a request with an idempotency key."""


async def keep_response(request: web.Request, tx: AsyncConnection, status: int, document: Mapping[str, object]) -> None:
    """Store the response of a request that has an idempotency key, in the transaction of its effect.

    `document` has no secret. Raises `IdempotencyKeyInUse` if the claim has ended.
    """
    if (claim := request.get(CLAIM)) is not None:
        await claim.keep(tx, status, document)


class IdempotentRequests:
    """The keys of all callers, in the database. All methods raise the errors of `database/errors.py`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def wrap(self, handler: Handler) -> Handler:
        """Return a handler that acts once per key. Without the header it acts each time."""

        async def once(request: web.Request) -> web.StreamResponse:
            if (scope := await _scope_of(request)) is None:
                return await handler(request)
            claimed = await retry_on_conflict(partial(self._claim, scope))
            if isinstance(claimed, StoredResponse):
                response = success(claimed.document, status=claimed.status)
                response.headers[REPLAYED_HEADER] = "true"
                return response
            request[CLAIM] = claimed
            try:
                return await handler(request)
            finally:
                with suppress(SafeVideoError):  # then the claim ends by itself
                    async with self._database.transaction() as tx:
                        await claimed.release(tx)

        return once

    async def has_response(self, request: web.Request) -> bool:
        """Return whether a response is stored under the key of the request, whatever the request says."""
        key = request.headers.get(KEY_HEADER)
        if key is None or not _KEY.fullmatch(key):
            return False
        is_same = (
            (_c.principal == request[PRINCIPAL].name) & (_c.route == _route(request)) & (_c.idempotency_key == key)
        )
        stored = select(_c.id).where(is_same, _c.status.is_not(None), _c.expires_at > now_plus())
        async with self._database.read_connection() as connection:
            return await connection.scalar(stored) is not None

    async def _claim(self, scope: Scope) -> Claim | StoredResponse:
        token = token_hex(16)
        row = {
            "principal": scope.principal,
            "route": scope.route,
            "idempotency_key": scope.key,
            "fingerprint": scope.fingerprint,
            "token": token,
            "expires_at": now_plus(CLAIM_SECONDS),
        }
        mine = (_c.principal == scope.principal) & (_c.route == scope.route) & (_c.idempotency_key == scope.key)
        async with self._database.transaction() as tx:
            await tx.execute(_CLAIM.statement(tx.dialect).values(row))
            is_expired = (_c.expires_at <= now_plus()).label("is_expired")
            columns = (_c.id, _c.token, _c.fingerprint, _c.status, _c.document, is_expired)
            found = (await tx.execute(for_update(select(*columns).where(mine)))).one()
            if found.token == token:
                return Claim(found.id, token)
            if found.is_expired:
                anew = {**row, "status": None, "document": None}
                await tx.execute(update(idempotency_keys).where(_c.id == found.id).values(anew))
                return Claim(found.id, token)
        if found.fingerprint != scope.fingerprint:
            raise IdempotencyKeyReused("This idempotency key belongs to another request.")
        if found.status is None:
            raise _in_use()
        return StoredResponse(found.status, found.document)


async def delete_expired(tx: AsyncConnection, limit: int) -> int:
    """Delete at most `limit` keys that are no longer needed, and return how many."""
    expired = select(_c.id).where(_c.expires_at <= now_plus()).order_by(_c.expires_at).limit(limit)
    row_ids = (await tx.execute(expired)).scalars().all()
    # The condition again: a key may have been claimed anew since.
    await tx.execute(delete(idempotency_keys).where(_c.id.in_(row_ids), _c.expires_at <= now_plus()))
    return len(row_ids)


async def _scope_of(request: web.Request) -> Scope | None:
    keys = request.headers.getall(KEY_HEADER, ())
    if not keys:
        return None
    if len(keys) > 1 or not _KEY.fullmatch(keys[0]):
        reason = "must be given once, with 1 to 128 visible ASCII characters"
        raise ValidationFailed("Invalid idempotency key.", details={KEY_HEADER: reason})
    digest = sha256(request.path_qs.encode() + b"\n" + await read_body(request))
    return Scope(request[PRINCIPAL].name, _route(request), keys[0], digest.hexdigest())


def _route(request: web.Request) -> str:
    return f"{request.method} {route_of(request)}"


def _in_use() -> IdempotencyKeyInUse:
    return IdempotencyKeyInUse("A request with this idempotency key is still running.", retry_after=1)
