"""The account of a person who signs in, and its role for the requests that follow."""

from datetime import datetime, timedelta
from hashlib import sha256
from typing import Final, NamedTuple
from uuid import uuid4

from sqlalchemy.ext.asyncio import AsyncConnection

from safevideo_common.auth.api_keys import Role
from safevideo_common.clock import Clock
from safevideo_common.database import erasures, leases
from safevideo_common.database.engine import Database
from safevideo_common.database.erasures import IdentifierKind
from safevideo_common.database.errors import retry_on_conflict
from safevideo_common.database.integrations import SHAREGRAM
from safevideo_common.domain.users import EmailCandidate, EmailClaim, MappingFailure, ascii_lower, choose_by_email
from safevideo_common.errors import SsoAuthFailed, UserMappingConflict
from safevideo_common.users import store
from safevideo_common.users.store import Identity, User

CACHE_SECONDS: Final = timedelta(seconds=10)
"""The time for which a role is used without a database read. A merge or another role takes effect this much later."""

MAX_CACHED: Final = 4096
_BELOW_MODERATOR: Final = frozenset({Role.USER, Role.PERFORMER})
_LOCKS: Final = 256
_ZERO: Final = timedelta()


class _CachedRole(NamedTuple):
    role: Role | None
    loaded_at: datetime


class UserAccounts:
    """The accounts in the table `users`. Every method raises the errors of the database."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._roles: dict[int, _CachedRole] = {}

    async def role_of(self, user_id: int) -> Role | None:
        """Return the role, or None for an account that was merged or erased, or does not exist."""
        now = self._clock()
        cached = self._roles.get(user_id)
        # If the clock was set back, the age is negative: the entry must not live longer.
        if cached and _ZERO <= now - cached.loaded_at < CACHE_SECONDS:
            return cached.role
        async with self._database.read_connection() as connection:
            user = await store.get(connection, user_id)
        role = None if user is None or user.merged_into is not None or user.erased_at is not None else user.role
        self._roles.pop(user_id, None)
        if len(self._roles) >= MAX_CACHED:
            del self._roles[next(iter(self._roles))]
        self._roles[user_id] = _CachedRole(role, now)
        return role

    async def sign_in(self, identity: Identity, *, may_link: bool) -> User:
        """Return the account of `identity`: the one that it has, else one that it is linked to now, else a new one.

        - Only Sharegram's subject is looked up in `users.sharegram_id`.
        - An e-mail links once, by `choose_by_email`. `may_link` is whether this provider's e-mails may. A later change
          of the e-mail changes nothing.
        - Of two first sign-ins at once, both get the same account.

        Raises `UserMappingConflict` if an operator has to decide, and `SsoAuthFailed` for a person who was erased.
        """

        async def attempt() -> User:
            async with self._database.transaction() as tx:
                await _require_not_erased(tx, identity)
                user = await self._existing(tx, identity) or await self._new(tx, identity, may_link=may_link)
                await store.set_values(tx, user.id, last_sign_in_at=self._clock())
                return user

        return await retry_on_conflict(attempt)

    async def _existing(self, tx: AsyncConnection, identity: Identity) -> User | None:
        if (user_id := await store.find_by_identity(tx, identity)) is not None:
            return await store.get_primary(tx, user_id)
        if identity.provider != SHAREGRAM:
            return None
        found = [
            await store.get_primary(tx, each.id) for each in await store.find_by_sharegram_id(tx, identity.subject)
        ]
        accounts = {user.id: user for user in found if user is not None}
        if len(accounts) > 1:
            raise UserMappingConflict("Several accounts have this Sharegram id. An operator must merge them first.")
        for user in accounts.values():
            await store.add_identity(tx, user.id, identity, self._clock())
            return user
        return None

    async def _new(self, tx: AsyncConnection, identity: Identity, *, may_link: bool) -> User:
        await _lock_email(tx, identity)
        if (user := await self._existing(tx, identity)) is not None:  # another sign-in was first
            return user
        claim = identity.email and EmailClaim(identity.email, identity.is_email_verified, may_link)
        found = await store.find_by_email(tx, identity.email) if identity.email else []
        chosen = choose_by_email(claim or None, [_candidate(user) for user in found])
        if chosen is MappingFailure.CONFLICT:
            raise UserMappingConflict("An account with this e-mail exists. An operator must merge them first.")
        now, sharegram_id = self._clock(), identity.subject if identity.provider == SHAREGRAM else None
        if isinstance(chosen, int):
            await store.set_values(tx, chosen, is_email_verified=True, updated_at=now)
            if sharegram_id is not None:
                await store.set_values(tx, chosen, sharegram_id=sharegram_id)
        else:
            chosen = await store.create(tx, identity, sharegram_id=sharegram_id, now=now)
        await store.add_identity(tx, chosen, identity, now)
        user = await store.get(tx, chosen)
        assert user is not None
        return user


async def _require_not_erased(tx: AsyncConnection, identity: Identity) -> None:
    found = await erasures.erased(tx, IdentifierKind.IDENTITY, [identity.digest])
    if identity.provider == SHAREGRAM:
        found |= await erasures.erased(tx, IdentifierKind.PERFORMER, [identity.subject])
    if found:
        raise SsoAuthFailed("This account was erased.")


def _candidate(user: User) -> EmailCandidate:
    has_identity = user.has_identity or user.sharegram_id is not None
    is_privileged = user.role not in _BELOW_MODERATOR
    return EmailCandidate(user.id, user.email or "", user.is_email_verified, has_identity, is_privileged)


async def _lock_email(tx: AsyncConnection, identity: Identity) -> None:
    """Make first sign-ins with the same e-mail wait for each other: no row exists yet that they could lock."""
    key = ascii_lower(identity.email or "") or identity.digest
    bucket = int.from_bytes(sha256(key.encode()).digest()[:4]) % _LOCKS
    await leases.acquire(tx, f"first-sign-in-{bucket}", uuid4().hex, 0)
