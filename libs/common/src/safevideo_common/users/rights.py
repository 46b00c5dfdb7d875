"""Decisions of admins and operators on what an account may do: its role, its suspension, the end of its sessions.

Each act is one transaction with its audit entry. It locks the person, compares the version that the caller has seen,
and writes to the one account that it names: a merged account has the lowest role of all that are in it, so each keeps
its own grant. Sessions name a generation of the account, so they end with the commit and without Redis.

- Nobody changes their own rights.
- Somebody stays an admin (`users/admins.py`).
- An act that would change nothing writes nothing.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy.ext.asyncio import AsyncConnection

from safevideo_common.audit import store as audit_store
from safevideo_common.audit.store import Caller, check_reason
from safevideo_common.auth.api_keys import Role
from safevideo_common.clock import Clock, format_timestamp
from safevideo_common.database.engine import Database
from safevideo_common.database.errors import retry_on_conflict
from safevideo_common.errors import Forbidden, InvalidStatusTransition, ValidationFailed, VersionConflict
from safevideo_common.users import store
from safevideo_common.users.admins import ADMINS, admin_remains
from safevideo_common.users.directory import ListedAccount, load_accounts
from safevideo_common.users.person import LockedPerson, lock
from safevideo_common.users.store import User

ROLE_CHANGED: Final = "users.role_changed"
SUSPENDED: Final = "users.suspended"
REINSTATED: Final = "users.reinstated"
SESSIONS_ENDED: Final = "users.sessions_ended"

BY_ADMIN: Final = "admin"
"""`role_source` of a role that an admin or an operator gave."""
BY_CLAIM: Final = "claim"
"""`role_source` of a role that a provider's claim gave, by a setting."""

_PERSON: Final = "user:"
_ROLES: Final = tuple(Role)

AlsoInTransaction = Callable[[AsyncConnection, ListedAccount], Awaitable[None]]
"""A further effect in the transaction of an act."""


@dataclass(frozen=True, slots=True)
class Act:
    """An act on an account: whose, why, and on which version of it. `version` is None where nobody has looked."""

    user_id: int
    caller: Caller
    reason: str
    version: int | None = None
    also: AlsoInTransaction | None = None


@dataclass(frozen=True, slots=True)
class RoleGrant:
    """A role, for good or until `ends_at`. Afterwards the account has the role of before if that is lower.

    Else it is `performer` then: the end of a role never raises one.
    """

    role: Role
    ends_at: datetime | None = None


class UserRights:
    """Acts of admins and operators on accounts.

    Every method raises the errors of the database, and:

    - `UserNotFound`, and `ValidationFailed` for a reason that is none.
    - `VersionConflict` if the account is not as the caller has seen it.
    - `Forbidden` for the caller's own rights, and `LastAdmin`.
    - `InvalidStatusTransition` for an account that is erased.
    """

    def __init__(self, database: Database, clock: Clock, forget: Callable[[int], None] = lambda _: None) -> None:
        """`forget` drops an account from the cache of this process, so that its next request reads it again."""
        self._database = database
        self._clock = clock
        self._forget = forget

    async def set_role(self, act: Act, grant: RoleGrant) -> ListedAccount:
        """Give the account a role of its own, in place of the one that it has."""
        if grant.ends_at is not None and grant.ends_at <= self._clock():
            raise ValidationFailed("This role would have ended already.", details={"until": "must be in the future"})

        async def write(locked: LockedPerson, user: User) -> None:
            now = self._clock()
            before = user.role_in_force(now)
            if (before, user.role_ends_at, user.role_source) == (grant.role, grant.ends_at, BY_ADMIN):
                return
            afterwards = None if grant.ends_at is None else _afterwards(user, grant.role, now)
            await store.set_values(
                locked, user.id, role=grant.role, role_source=BY_ADMIN, role_ends_at=grant.ends_at,
                role_afterwards=afterwards, version=user.version + 1,
            )  # fmt: skip
            details = {"roleBefore": before, "role": grant.role, "until": format_timestamp(grant.ends_at)}
            await self._audit(locked, act, ROLE_CHANGED, user, details)

        return await self._run(act, write)

    async def suspend(self, act: Act) -> ListedAccount:
        """Suspend the account, and with it all that it is merged with: sessions end, and nobody can sign in."""

        async def write(locked: LockedPerson, user: User) -> None:
            if user.suspended_at is None:
                values = {"suspended_at": self._clock(), "version": user.version + 1}
                await store.set_values(locked, user.id, **values)
                await store.set_values(locked, locked.roots[user.id], generation=store.new_generation())
                await self._audit(locked, act, SUSPENDED, user, {})

        return await self._run(act, write)

    async def reinstate(self, act: Act) -> ListedAccount:
        """End the suspension of the account. Whoever has it can sign in again; sessions of before stay ended."""

        async def write(locked: LockedPerson, user: User) -> None:
            if user.suspended_at is not None:
                await store.set_values(locked, user.id, suspended_at=None, version=user.version + 1)
                await self._audit(locked, act, REINSTATED, user, {})

        return await self._run(act, write)

    async def end_sessions(self, act: Act) -> ListedAccount:
        """End all sessions of the account. These are no rights, so its own person may do it too.

        Raises `InvalidStatusTransition` for a merged account: it has none.
        """

        async def write(locked: LockedPerson, user: User) -> None:
            if user.merged_into is not None:
                root = locked.roots[user.id]
                raise InvalidStatusTransition(f"User {user.id} is part of user {root}, which has the sessions.")
            await store.set_values(locked, user.id, generation=store.new_generation())
            await self._audit(locked, act, SESSIONS_ENDED, user, {})

        return await self._run(act, write, changes_rights=False)

    async def _run(
        self,
        act: Act,
        write: Callable[[LockedPerson, User], Awaitable[None]],
        *,
        changes_rights: bool = True,
    ) -> ListedAccount:
        check_reason(act.reason)

        async def attempt() -> tuple[ListedAccount, int]:
            async with self._database.transaction() as tx:
                locked = await lock(tx, act.user_id, also=(ADMINS,) if changes_rights else ())
                user = locked.accounts[act.user_id]
                _check(act, locked, user, changes_rights=changes_rights)
                async with self._admin_remains(locked, is_needed=changes_rights):
                    await write(locked, user)
                (listed,) = await load_accounts(tx, [user.id], self._clock())
                if act.also is not None:
                    await act.also(tx, listed)
                return listed, locked.roots[user.id]

        listed, root_id = await retry_on_conflict(attempt)
        self._forget(root_id)
        return listed

    @asynccontextmanager
    async def _admin_remains(self, locked: LockedPerson, *, is_needed: bool) -> AsyncIterator[None]:
        if not is_needed:
            yield
            return
        async with admin_remains(locked, self._clock):
            yield

    async def _audit(
        self, locked: LockedPerson, act: Act, action: str, user: User, details: Mapping[str, object]
    ) -> None:
        whole = {**details, "reason": act.reason, "versionBefore": user.version}
        await audit_store.record(locked.tx, act.caller.entry(action, self._clock, whole, target_of(user.id)))


def target_of(user_id: int) -> str:
    """Return how the audit log names an account."""
    return f"{_PERSON}{user_id}"


def account_id_of(caller: Caller) -> int | None:
    """Return the account of a caller who is a person, or None for a system or an operator."""
    digits = caller.name.removeprefix(_PERSON)
    return int(digits) if digits != caller.name and digits.isascii() and digits.isdigit() else None


def _check(act: Act, locked: LockedPerson, user: User, *, changes_rights: bool) -> None:
    if changes_rights and account_id_of(act.caller) in locked.person.user_ids:
        raise Forbidden("Nobody changes their own rights.", details={"reason": "self"})
    if user.erased_at is not None:
        raise InvalidStatusTransition(f"User {user.id} is erased.")
    if act.version is not None and act.version != user.version:
        raise VersionConflict("This account has changed since you read it.", details={"version": user.version})


def _afterwards(user: User, granted: Role, now: datetime) -> Role | None:
    """Return the role that a grant with an end leaves behind, or None for `performer`."""
    if user.role_source == BY_CLAIM:
        return None  # the next sign-in says whether the claim is still there
    has_end = user.role_ends_at is not None and user.role_ends_at > now
    before = user.role_afterwards if has_end else user.role_in_force(now)  # what follows a role with an end is not it
    return None if before is None else role_after(granted, before)


def role_after(granted: Role, before: Role) -> Role | None:
    """Return what follows a role with an end: the role of before if that is lower, else None for `performer`."""
    is_lower = _ROLES.index(before) < _ROLES.index(granted)
    return before if is_lower and before is not Role.PERFORMER else None
