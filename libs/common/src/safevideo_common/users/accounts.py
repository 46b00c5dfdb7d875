"""The account of a person who signs in, and its rights for the requests that follow."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final, NamedTuple

from sqlalchemy.ext.asyncio import AsyncConnection

from safevideo_common.audit import store as audit_store
from safevideo_common.audit.store import AuditEntry
from safevideo_common.auth.api_keys import Role
from safevideo_common.auth.principal import Rights
from safevideo_common.clock import Clock
from safevideo_common.database import erasures
from safevideo_common.database.engine import Database
from safevideo_common.database.erasures import IdentifierKind
from safevideo_common.database.errors import retry_on_conflict
from safevideo_common.database.integrations import SHAREGRAM
from safevideo_common.database.person_locks import PersonLock, email_name, lock_names, performer_name
from safevideo_common.domain.users import EmailCandidate, EmailClaim, MappingFailure, choose_by_email
from safevideo_common.errors import SsoAuthFailed, UserMappingConflict
from safevideo_common.users import person, store
from safevideo_common.users.account import Account, account_of
from safevideo_common.users.person import LockedPerson
from safevideo_common.users.sign_in_rights import role_at_sign_in
from safevideo_common.users.store import Identity, User

CACHE_SECONDS: Final = timedelta(seconds=1)
"""The time for which rights are used without a database read. Every change of them takes effect this much later."""

MAX_CACHED: Final = 4096
_BELOW_MODERATOR: Final = frozenset({Role.USER, Role.PERFORMER})
_ZERO: Final = timedelta()

AuditOf = Callable[[Account], AuditEntry]
"""The entry of a sign-in in the audit log."""


class _Cached(NamedTuple):
    account: Account | None
    loaded_at: datetime


class UserAccounts:
    """The accounts in the table `users`. Every method raises the errors of the database."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._cache: dict[int, _Cached] = {}

    async def rights_of(self, user_id: int, generation: str) -> Rights | None:
        """Return what a session of this account and generation may do, or None if it has ended.

        An account that was merged, suspended or erased has no sessions. A generation ends when its account is merged
        or unmerged, signed out everywhere, suspended or erased, and never comes again, whatever id another account has.
        """
        account = await self._account(user_id, generation)
        if account is None or not _is_open(account, generation):
            return None
        return Rights(account.role, account.sharegram_id)

    def forget(self, user_id: int) -> None:
        """Read the account again for the next request: this process has just changed it."""
        self._cache.pop(user_id, None)

    async def _account(self, user_id: int, generation: str) -> Account | None:
        now = self._clock()
        cached = self._cache.get(user_id)
        # If the clock was set back, the age is negative: the entry must not live longer.
        is_fresh = cached is not None and _ZERO <= now - cached.loaded_at < CACHE_SECONDS
        # What is cached refuses nobody: it may be older than the session, which another replica has just made.
        if cached and is_fresh and _is_open(cached.account, generation):
            return cached.account
        async with self._database.read_connection() as connection:
            members = await store.members_of(connection, [user_id])
        is_root = any(each.id == user_id and each.merged_into is None for each in members)
        account = account_of(user_id, members, now) if is_root else None
        self.forget(user_id)
        if len(self._cache) >= MAX_CACHED:
            del self._cache[next(iter(self._cache))]
        self._cache[user_id] = _Cached(account, now)
        return account

    async def sign_in(self, identity: Identity, *, may_link: bool, audit: AuditOf | None = None) -> Account:
        """Return the account of `identity`: the one that it has, else one that it is linked to now, else a new one.

        - Only Sharegram's subject is looked up in `users.sharegram_id`.
        - An identity is bound to the account that carries this Sharegram id or e-mail, also if that one is merged.
          The person then has the account at the root. An unmerge takes the identity along.
        - An e-mail links once, by `choose_by_email`. `may_link` is whether this provider's e-mails may. A later change
          of the e-mail changes nothing.
        - Of two first sign-ins at once, both get the same account.
        - `audit` makes the entry in the audit log, in the same transaction.

        Raises `UserMappingConflict` if an operator has to decide, and `SsoAuthFailed` for a person who was erased or
        suspended.
        """

        async def attempt() -> Account:
            async with self._database.transaction() as tx:
                await _require_not_erased(tx, identity)
                account = await self._of_identity(tx, identity) or await self._first(tx, identity, may_link=may_link)
                if audit is not None:
                    await audit_store.record(tx, audit(account))
                return account

        account = await retry_on_conflict(attempt)
        self.forget(account.id)
        return account

    async def end_sessions(self, user_id: int, entry: AuditEntry) -> None:
        """End all sessions of an account, and the sign-ins in progress, with the entry in the audit log.

        They end with the commit, on every replica within `CACHE_SECONDS`. Raises `UserNotFound`.
        """

        async def attempt() -> int:
            async with self._database.transaction() as tx:
                locked = await person.lock(tx, user_id)
                root_id = locked.roots[user_id]
                await store.set_values(locked, root_id, generation=store.new_generation())
                await audit_store.record(tx, entry)
                return root_id

        self.forget(await retry_on_conflict(attempt))

    async def _of_identity(self, tx: AsyncConnection, identity: Identity) -> Account | None:
        """Return the account of an identity that has one, locked."""
        if (found := await store.find_by_identity(tx, identity)) is None:
            return None
        user_id, root_id = found
        locked = await person.lock_root(tx, root_id, user_id)
        locked = await self._with_role(locked, user_id, identity)
        return await self._open(locked, root_id)

    async def _with_role(
        self, locked: LockedPerson, user_id: int, identity: Identity, *, may_use_grant: bool = False
    ) -> LockedPerson:
        """Return the person with the role that this sign-in gives the account of the identity, or takes back."""
        before, now = locked.accounts[user_id], self._clock()
        after = await role_at_sign_in(locked, before, identity, now, may_use_grant=may_use_grant)
        return locked if after is before else replace(locked, accounts={**locked.accounts, user_id: after})

    async def _open(self, locked: LockedPerson, root_id: int) -> Account:
        account = locked.account(root_id, self._clock)
        if account.is_erased:
            raise SsoAuthFailed("This account was erased.", details={"reason": "erased"})
        if account.is_suspended:
            raise SsoAuthFailed("This account is suspended.", details={"reason": "suspended"})
        await store.set_values(locked, root_id, last_sign_in_at=self._clock())
        return account

    async def _first(self, tx: AsyncConnection, identity: Identity, *, may_link: bool) -> Account:
        """Bind an identity that is new here to an account, or make one."""
        names = [email_name(identity.email or identity.digest)]
        if identity.provider == SHAREGRAM:
            names.append(performer_name(identity.subject))
        lock, is_proven = await lock_names(tx, names), identity.is_email_verified and may_link
        if (account := await self._of_identity(tx, identity)) is not None:  # another sign-in was first
            return account
        found = await self._by_sharegram_id(tx, identity) or await self._by_email(tx, identity, may_link=may_link)
        if found is None:
            return await self._create(lock, identity, may_use_grant=is_proven)
        locked, user_id = found
        if await erasures.find_orders(tx, locked.person.identifiers()):
            raise SsoAuthFailed("This account is being erased.", details={"reason": "erased"})
        await store.add_identity(locked, user_id, identity, self._clock())
        locked = await self._with_role(locked, user_id, identity, may_use_grant=is_proven)
        return await self._open(locked, locked.roots[user_id])

    async def _by_sharegram_id(self, tx: AsyncConnection, identity: Identity) -> tuple[LockedPerson, int] | None:
        """Return the account that carries the subject as its Sharegram id, locked with its person."""
        if identity.provider != SHAREGRAM:
            return None
        carriers = [each.id for each in await store.find_by_sharegram_id(tx, identity.subject)]
        roots = await store.roots_of(tx, carriers) if carriers else {}
        if len(set(roots.values())) > 1:
            raise UserMappingConflict("Several accounts have this Sharegram id. An operator must merge them first.")
        for user_id, root_id in sorted(roots.items(), key=lambda each: (each[0] != each[1], each[0])):
            return await person.lock_root(tx, root_id, user_id), user_id
        return None

    async def _by_email(
        self, tx: AsyncConnection, identity: Identity, *, may_link: bool
    ) -> tuple[LockedPerson, int] | None:
        """Return the account that the e-mail leads to, locked with its person, and marked as verified."""
        if identity.email is None:
            return None
        carriers = await store.find_by_email(tx, identity.email)
        roots = await store.roots_of(tx, [each.id for each in carriers]) if carriers else {}
        locked = {root_id: await person.lock_root(tx, root_id, root_id) for root_id in sorted(set(roots.values()))}
        accounts = [each.account(root_id, self._clock) for root_id, each in locked.items()]
        claim = EmailClaim(identity.email, identity.is_email_verified, may_link)
        carriers_of = {each.id: _carrier(each, carriers) for each in accounts}
        chosen = choose_by_email(claim, [_candidate(each, carriers_of[each.id]) for each in accounts])
        if chosen is MappingFailure.CONFLICT:
            raise UserMappingConflict("An account with this e-mail exists. An operator must merge them first.")
        if not isinstance(chosen, int):
            return None
        carrier = carriers_of[chosen].id
        values: dict[str, object] = {"is_email_verified": True, "updated_at": self._clock()}
        if identity.provider == SHAREGRAM:
            values["sharegram_id"] = identity.subject
        await store.set_values(locked[chosen], carrier, **values)
        return await person.read_again(locked[chosen]), carrier

    async def _create(self, lock: PersonLock, identity: Identity, *, may_use_grant: bool) -> Account:
        now, sharegram_id = self._clock(), identity.subject if identity.provider == SHAREGRAM else None
        user_id = await store.create(lock, identity, sharegram_id=sharegram_id, now=now)
        await store.add_identity(lock, user_id, identity, now)
        (user,) = await store.members_of(lock.tx, [user_id])
        user = await role_at_sign_in(lock, user, identity, now, may_use_grant=may_use_grant)
        return account_of(user_id, [user], now)


def _is_open(account: Account | None, generation: str) -> bool:
    return account is not None and account.generation == generation and account.can_sign_in


async def _require_not_erased(tx: AsyncConnection, identity: Identity) -> None:
    known_as = {IdentifierKind.IDENTITY: [identity.digest]}
    if identity.provider == SHAREGRAM:
        known_as[IdentifierKind.PERFORMER] = [identity.subject]
    if await erasures.find_orders(tx, known_as):
        raise SsoAuthFailed("This account was erased.", details={"reason": "erased"})


def _carrier(account: Account, carriers: list[User]) -> User:
    """Return the account of the tree that has the e-mail: the root, if it is among them."""
    mine = [each for each in carriers if each.id in account.members]
    return next((each for each in mine if each.id == account.id), mine[0])


def _candidate(account: Account, carrier: User) -> EmailCandidate:
    """Return the candidate: the e-mail and the identity are those of the carrier, the privilege that of its tree."""
    has_identity = carrier.has_identity or carrier.sharegram_id is not None
    is_privileged = any(each.role not in _BELOW_MODERATOR for each in account.members.values())
    return EmailCandidate(account.id, carrier.email or "", carrier.is_email_verified, has_identity, is_privileged)
