"""Merging of duplicate accounts, and its reversal (contract, §6). Each is one transaction with its audit entry.

A merge writes nothing but `merged_into` of the duplicates: what the account then has is derived (`users/account.py`),
and every row stays with the account that it belongs to. So accounts are unmerged in any order, one of several too, and
each gets what it would have without the merge. What was changed since stays with the account that it was changed of.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import Column, Row, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from safevideo_common.audit import store as audit_store
from safevideo_common.audit.store import Caller
from safevideo_common.auth.api_keys import Role
from safevideo_common.auth.sessions import SessionStore
from safevideo_common.clock import Clock
from safevideo_common.database import erasures
from safevideo_common.database.engine import Database
from safevideo_common.database.errors import retry_on_conflict
from safevideo_common.database.tables import legal_holds, role_grants, user_identities, user_merges, users
from safevideo_common.errors import InvalidStatusTransition, UserNotFound, ValidationFailed
from safevideo_common.users import store
from safevideo_common.users.account import account_of, changed_fields
from safevideo_common.users.admins import ADMINS, admin_remains
from safevideo_common.users.person import LockedPerson, lock

MERGED_ACTION: Final = "users.merged"
UNMERGED_ACTION: Final = "users.unmerged"
MAX_DUPLICATES: Final = 50
REPETITION: Final = timedelta(hours=24)
"""A repetition by the same caller within this time gets the first answer: its own may have been lost."""

REFERENCES: Final[Sequence[Column[Any]]] = (
    user_identities.c.user_id,
    users.c.merged_into,
    legal_holds.c.user_id,
    role_grants.c.user_id,
)
"""Every column that holds the id of a user. None of them is changed but `merged_into`. A test names all."""

_m: Final = user_merges.c


@dataclass(frozen=True, slots=True)
class UserChanges:
    """The effect of a merge, or of its reversal: numbers of rows by column, names of fields, and the role."""

    primary_id: int
    duplicate_ids: Sequence[int]
    is_dry_run: bool
    moved: Mapping[str, int] = field(default_factory=dict)
    """Of the duplicates: their identities, and accounts that were merged into them before."""
    fields: Sequence[str] = ()
    """Fields of the primary account that get another value."""
    role: Role = Role.USER
    """The role of the primary account afterwards."""
    not_moved: Sequence[str] = ()
    """Of a reversal: what came to the primary account since the merge, and so stays."""


class UserMerges:
    """Merges and unmerges accounts. Every method raises the errors of the database."""

    def __init__(self, database: Database, sessions: SessionStore, clock: Clock) -> None:
        self._database = database
        self._sessions = sessions
        self._clock = clock

    async def merge(
        self, primary_id: int, duplicate_ids: Collection[int], caller: Caller, *, dry_run: bool
    ) -> UserChanges:
        """Merge the duplicates into the primary account: all or nothing. Return what it did, or would do.

        Their sessions end with the commit. Raises `UserNotFound`, `ValidationFailed`, or `InvalidStatusTransition` for
        an account that is merged, erased, or about to be erased. A repetition returns what the first one did.
        """
        duplicates = sorted(set(duplicate_ids))
        if not 0 < len(duplicates) <= MAX_DUPLICATES or primary_id in duplicates:
            text = f"1 to {MAX_DUPLICATES} accounts, without the primary one"
            raise ValidationFailed("These accounts cannot be merged.", details={"duplicateUserIds": text})

        async def attempt() -> UserChanges:
            async with self._database.transaction() as tx:
                return await self._merge(tx, primary_id, duplicates, caller, dry_run=dry_run)

        changes = await retry_on_conflict(attempt)
        await self._sessions.tidy(() if dry_run else duplicates)
        return changes

    async def unmerge(self, duplicate_id: int, caller: Caller, *, dry_run: bool) -> UserChanges:
        """Take an account out of the one that it was merged into, with all that was merged into it before.

        All sessions of both end with the commit: either person may have opened them. Raises `UserNotFound`, or
        `InvalidStatusTransition` for an account that is not merged, or about to be erased. A repetition returns what
        the first one did.
        """

        async def attempt() -> UserChanges:
            async with self._database.transaction() as tx:
                return await self._unmerge(tx, duplicate_id, caller, dry_run=dry_run)

        changes = await retry_on_conflict(attempt)
        await self._sessions.tidy(() if dry_run else (changes.primary_id,))
        return changes

    async def _merge(
        self, tx: AsyncConnection, primary_id: int, duplicate_ids: Sequence[int], caller: Caller, *, dry_run: bool
    ) -> UserChanges:
        named = [primary_id, *duplicate_ids]
        roots = await store.roots_of(tx, named)
        if missing := [each for each in named if each not in roots]:
            raise UserNotFound("Some of these users do not exist.", details={"userIds": missing})
        locked = await lock(tx, *named, also=(ADMINS,))
        if (done := await self._repetition(tx, locked, primary_id, duplicate_ids, caller)) is not None:
            return done
        _require_separate(locked, named)
        await _require_no_order(tx, locked)
        before, now = locked.account(primary_id, self._clock), self._clock()
        joined = {each for duplicate_id in duplicate_ids for each in locked.tree(duplicate_id)}
        after = account_of(primary_id, [locked.accounts[each] for each in {*before.members, *joined}], now)
        result = UserChanges(
            primary_id, duplicate_ids, dry_run, await _rows_of(tx, joined, len(joined) - len(duplicate_ids)),
            changed_fields(before, after), after.role, [],
        )  # fmt: skip
        if not dry_run:
            async with admin_remains(locked, self._clock):
                for duplicate_id in duplicate_ids:
                    await self._join(tx, locked, primary_id, duplicate_id, caller, result)
                await store.set_values(locked, primary_id, version=locked.accounts[primary_id].version + 1)
            await self._audit(tx, caller, MERGED_ACTION, result, {"roleBefore": before.role})
        return result

    async def _join(
        self, tx: AsyncConnection, locked: LockedPerson, primary_id: int, duplicate_id: int, caller: Caller,
        result: UserChanges,
    ) -> None:  # fmt: skip
        duplicate = locked.accounts[duplicate_id]
        values = {
            **store.merged_email(duplicate.email, duplicate_id),
            "merged_into": primary_id,
            "generation": store.new_generation(),
            "version": duplicate.version + 1,
        }
        await store.set_values(locked, duplicate_id, **values)
        row = {
            "primary_id": primary_id,
            "duplicate_id": duplicate_id,
            "merged_at": self._clock(),
            "merged_by": caller.name,
            "moved": _document(result),
        }
        await tx.execute(insert(user_merges).values(row))

    async def _unmerge(self, tx: AsyncConnection, duplicate_id: int, caller: Caller, *, dry_run: bool) -> UserChanges:
        locked = await lock(tx, duplicate_id)
        duplicate, root_id = locked.accounts[duplicate_id], locked.roots[duplicate_id]
        if duplicate.merged_into is None:
            return await self._unmerged_before(tx, duplicate_id, caller)
        await _require_no_order(tx, locked)
        before, now, leaving = locked.account(root_id, self._clock), self._clock(), locked.tree(duplicate_id)
        staying = set(before.members) - leaving
        after = account_of(root_id, [locked.accounts[each] for each in staying], now)
        record = await _last_record(tx, duplicate_id)
        since = await store.identities_of(tx, staying, after=record.merged_at) if record else []
        result = UserChanges(
            root_id, [duplicate_id], dry_run, await _rows_of(tx, leaving, len(leaving) - 1),
            changed_fields(before, after), after.role, [f"user_identities.user_id of row {each}" for each in since],
        )  # fmt: skip
        if not dry_run:
            await separate(locked, duplicate_id)
            values = {"generation": store.new_generation(), "version": locked.accounts[root_id].version + 1}
            await store.set_values(locked, root_id, **values)
            if record is not None:
                ending = {"unmerged_at": now, "unmerged_by": caller.name, "moved": _document(result)}
                await tx.execute(update(user_merges).where(_m.id == record.id).values(ending))
            await self._audit(tx, caller, UNMERGED_ACTION, result, {"roleBefore": before.role})
        return result

    async def _repetition(
        self, tx: AsyncConnection, locked: LockedPerson, primary_id: int, duplicate_ids: Sequence[int], caller: Caller
    ) -> UserChanges | None:
        """Return what the same merge by this caller did, if it stands."""
        if any(locked.accounts[each].merged_into != primary_id for each in duplicate_ids):
            return None
        records = [await _last_record(tx, each) for each in duplicate_ids]
        first = records[0]
        if first is None or not all(each and self._is_of(each.merged_at, each.merged_by, caller) for each in records):
            return None
        done = _changes(first.moved)
        return done if done.primary_id == primary_id and list(done.duplicate_ids) == list(duplicate_ids) else None

    async def _unmerged_before(self, tx: AsyncConnection, duplicate_id: int, caller: Caller) -> UserChanges:
        record = await _last_record(tx, duplicate_id)
        if record is None or not record.moved or not self._is_of(record.unmerged_at, record.unmerged_by, caller):
            raise InvalidStatusTransition(f"User {duplicate_id} is not merged.")
        return _changes(record.moved)

    def _is_of(self, at: datetime | None, by: str | None, caller: Caller) -> bool:
        return at is not None and by == caller.name and self._clock() - at < REPETITION

    async def _audit(
        self, tx: AsyncConnection, caller: Caller, action: str, changes: UserChanges, more: Mapping[str, object]
    ) -> None:
        details = {
            "primaryUserId": changes.primary_id,
            "duplicateUserIds": list(changes.duplicate_ids),
            "moved": dict(changes.moved),
            "fields": list(changes.fields),
            "role": changes.role,
            **more,
        }
        for user_id in (changes.primary_id, *changes.duplicate_ids):
            await audit_store.record(tx, caller.entry(action, self._clock, details, f"user:{user_id}"))


async def separate(locked: LockedPerson, user_id: int) -> None:
    """Take an account out of the one that it is merged into. Its rights and its e-mail are its own again."""
    account = locked.accounts[user_id]
    values = {
        **store.own_email(account.email),
        "merged_into": None,
        "generation": store.new_generation(),
        "version": account.version + 1,
    }
    await store.set_values(locked, user_id, **values)


def _require_separate(locked: LockedPerson, user_ids: Sequence[int]) -> None:
    if erased := [each for each in user_ids if locked.accounts[each].erased_at is not None]:
        raise InvalidStatusTransition("Some of these users are erased.", details={"userIds": erased})
    if merged := [each for each in user_ids if locked.accounts[each].merged_into is not None]:
        raise InvalidStatusTransition("Some of these users are merged already.", details={"userIds": merged})


async def _require_no_order(tx: AsyncConnection, locked: LockedPerson) -> None:
    """Raise `InvalidStatusTransition` while an order to erase one of the accounts has not ended."""
    order = await erasures.find_open_order(tx, locked.person.identifiers())
    if order is not None:
        raise InvalidStatusTransition("One of these users is about to be erased.", details={"orderId": order.id})


async def _rows_of(tx: AsyncConnection, user_ids: Collection[int], merged_before: int) -> dict[str, int]:
    counts = {
        "user_identities.user_id": len(await store.identities_of(tx, user_ids)),
        "users.merged_into": merged_before,
    }
    return {name: count for name, count in counts.items() if count}


async def _last_record(tx: AsyncConnection, duplicate_id: int) -> Row[Any] | None:
    query = select(user_merges).where(_m.duplicate_id == duplicate_id).order_by(_m.id.desc()).limit(1)
    return (await tx.execute(query)).one_or_none()


def _document(changes: UserChanges) -> dict[str, object]:
    return {**asdict(changes), "duplicate_ids": list(changes.duplicate_ids), "is_dry_run": False}


def _changes(document: Mapping[str, Any]) -> UserChanges:
    return UserChanges(**{**document, "role": Role(document["role"])})
