"""Merging of duplicate accounts, and its reversal (contract, §6). Each is one transaction with its audit entry.

A merge moves every row that refers to a duplicate, takes the newest profile, and keeps the duplicate as merged. It
never raises a role: the account gets the lowest role of all. What it changed is in `user_merges`, so that `unmerge` can
move back what nobody has touched since.
"""

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Column, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from safevideo_common.audit import store as audit_store
from safevideo_common.audit.store import Caller
from safevideo_common.auth.api_keys import Role
from safevideo_common.auth.sessions import SessionStore, SessionsUnavailable
from safevideo_common.clock import Clock
from safevideo_common.database.batches import chunks
from safevideo_common.database.engine import Database
from safevideo_common.database.errors import retry_on_conflict
from safevideo_common.database.tables import legal_holds, user_identities, user_merges, users
from safevideo_common.errors import InvalidStatusTransition, UserNotFound, ValidationFailed
from safevideo_common.users import store
from safevideo_common.users.store import MERGED, User

MERGED_ACTION: Final = "users.merged"
UNMERGED_ACTION: Final = "users.unmerged"
MAX_DUPLICATES: Final = 50

REFERENCES: Final[Sequence[Column[Any]]] = (user_identities.c.user_id, users.c.merged_into, legal_holds.c.user_id)
"""Every column that holds the id of a user. A test fails when a table has another one."""

_PROFILE: Final = ("username", "display_name", "profile_image")
_ROLES: Final = tuple(Role)
_m: Final = user_merges.c


@dataclass(frozen=True, slots=True)
class UserChanges:
    """The effect of a merge, or of its reversal: numbers of rows by column, names of fields, and the role."""

    primary_id: int
    duplicate_ids: Sequence[int]
    is_dry_run: bool
    moved: Mapping[str, int] = field(default_factory=dict)
    fields: Sequence[str] = ()
    """Fields of the primary account that get another value."""
    role: Role = Role.USER
    """The role of the primary account afterwards."""
    not_moved: Sequence[str] = ()
    """Of a reversal: what somebody has touched since, and so stays."""


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

        Their sessions end within `CACHE_SECONDS` of `accounts.py`, also if Redis is unavailable. Raises `UserNotFound`,
        `ValidationFailed`, or `InvalidStatusTransition` for an account that is merged already.
        """
        duplicates = sorted(set(duplicate_ids))
        if not 0 < len(duplicates) <= MAX_DUPLICATES or primary_id in duplicates:
            text = f"1 to {MAX_DUPLICATES} accounts, without the primary one"
            raise ValidationFailed("These accounts cannot be merged.", details={"duplicateUserIds": text})

        async def attempt() -> UserChanges:
            async with self._database.transaction() as tx:
                return await self._merge(tx, primary_id, duplicates, caller, dry_run=dry_run)

        changes = await retry_on_conflict(attempt)
        await self._end_sessions(() if dry_run else duplicates)
        return changes

    async def unmerge(self, duplicate_id: int, caller: Caller, *, dry_run: bool) -> UserChanges:
        """Reverse the last merge of an account. What was touched since the merge stays, and is listed.

        Raises `UserNotFound`, or `InvalidStatusTransition` for an account that is not merged.
        """

        async def attempt() -> UserChanges:
            async with self._database.transaction() as tx:
                return await self._unmerge(tx, duplicate_id, caller, dry_run=dry_run)

        changes = await retry_on_conflict(attempt)
        await self._end_sessions(() if dry_run else (changes.primary_id,))
        return changes

    async def _merge(
        self, tx: AsyncConnection, primary_id: int, duplicate_ids: Sequence[int], caller: Caller, *, dry_run: bool
    ) -> UserChanges:
        accounts = await store.lock(tx, [primary_id, *duplicate_ids])
        _require_unmerged(accounts, [primary_id, *duplicate_ids])
        primary, now = accounts[primary_id], self._clock()
        changes = _merged_values(primary, [accounts[each] for each in duplicate_ids])
        moved: dict[str, int] = {}
        for duplicate_id in duplicate_ids:
            rows = await _rows_of(tx, duplicate_id)
            for name, ids in rows.items():
                moved[name] = moved.get(name, 0) + len(ids)
            if not dry_run:
                await _move(tx, rows, primary_id)
                own = {
                    name: [before, after] for name, (source, before, after) in changes.items() if source == duplicate_id
                }
                await self._record(tx, primary_id, accounts[duplicate_id], caller, now, {"rows": rows, "fields": own})
        after = {name: value for name, (_, _, value) in changes.items()}
        result = UserChanges(
            primary_id, duplicate_ids, dry_run, moved, sorted(after), Role(str(after.get("role", primary.role)))
        )
        if not dry_run:
            await store.set_values(tx, primary_id, **after, updated_at=now)
            await self._audit(tx, caller, MERGED_ACTION, result, {"roleBefore": primary.role})
        return result

    async def _record(
        self,
        tx: AsyncConnection,
        primary_id: int,
        duplicate: User,
        caller: Caller,
        now: datetime,
        moved: Mapping[str, object],
    ) -> None:
        """Mark the duplicate as merged, and record what an unmerge needs."""
        email = await tx.scalar(select(users.c.email).where(users.c.id == duplicate.id))
        row = {
            "primary_id": primary_id,
            "duplicate_id": duplicate.id,
            "merged_at": now,
            "merged_by": caller.name,
            "moved": {**moved, "email": email},
        }
        await tx.execute(insert(user_merges).values(row))
        await store.set_values(
            tx, duplicate.id, merged_into=primary_id, email=f"{MERGED}{duplicate.id}", updated_at=now
        )

    async def _unmerge(self, tx: AsyncConnection, duplicate_id: int, caller: Caller, *, dry_run: bool) -> UserChanges:
        query = select(user_merges).where(_m.duplicate_id == duplicate_id, _m.unmerged_at.is_(None))
        record = (await tx.execute(query.order_by(_m.id.desc()).limit(1))).one_or_none()
        accounts = await store.lock(tx, [duplicate_id, record.primary_id] if record else [duplicate_id])
        if duplicate_id not in accounts:
            raise UserNotFound(f"There is no user {duplicate_id}.")
        if record is None or accounts[duplicate_id].merged_into != record.primary_id:
            raise InvalidStatusTransition(f"User {duplicate_id} is not merged, or was merged into another since.")
        primary, now = accounts[record.primary_id], self._clock()
        rows, not_moved = await _rows_still_at(tx, record.moved["rows"], primary.id)
        back = {
            name: before
            for name, (before, after) in record.moved["fields"].items()
            if await _value(tx, primary.id, name) == after
        }
        not_moved += [f"users.{name} of {primary.id}" for name in record.moved["fields"] if name not in back]
        moved = {name: len(ids) for name, ids in rows.items()}
        role = Role(str(back.get("role", primary.role)))
        result = UserChanges(primary.id, [duplicate_id], dry_run, moved, sorted(back), role, not_moved)
        if not dry_run:
            await _move(tx, rows, duplicate_id)
            if back.get("email", "") is None:
                back["email"] = store.placeholder()
            await store.set_values(tx, primary.id, **back, updated_at=now)
            await store.set_values(tx, duplicate_id, merged_into=None, email=record.moved["email"], updated_at=now)
            await tx.execute(update(user_merges).where(_m.id == record.id).values(unmerged_at=now))
            await self._audit(tx, caller, UNMERGED_ACTION, result, {"roleBefore": primary.role})
        return result

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
        await audit_store.record(tx, caller.entry(action, self._clock, details))

    async def _end_sessions(self, user_ids: Collection[int]) -> None:
        with suppress(SessionsUnavailable):  # their requests read the account, so they end without Redis too
            for user_id in user_ids:
                await self._sessions.end_user(user_id)


def _require_unmerged(accounts: Mapping[int, User], user_ids: Sequence[int]) -> None:
    missing = [each for each in user_ids if each not in accounts]
    if missing:
        raise UserNotFound("Some of these users do not exist.", details={"userIds": missing})
    if erased := [each for each in user_ids if accounts[each].erased_at is not None]:
        raise InvalidStatusTransition("Some of these users are erased.", details={"userIds": erased})
    merged = [each for each in user_ids if accounts[each].merged_into is not None]
    if merged:
        raise InvalidStatusTransition("Some of these users are merged already.", details={"userIds": merged})


def _merged_values(primary: User, duplicates: Sequence[User]) -> dict[str, tuple[int, object, object]]:
    """Return the fields of the primary account that change: the account that has the value, before, after."""
    changes: dict[str, tuple[int, object, object]] = {}
    newest = max([primary, *duplicates], key=lambda user: user.updated_at)
    for name in _PROFILE:
        if (value := getattr(newest, name)) is not None:
            changes[name] = (newest.id, getattr(primary, name), value)
    for user in sorted(duplicates, key=lambda user: user.updated_at, reverse=True):
        if primary.sharegram_id is None and user.sharegram_id is not None:
            _ = changes.setdefault("sharegram_id", (user.id, None, user.sharegram_id))
        if primary.email is None and user.email is not None and "email" not in changes:
            changes["email"] = (user.id, None, user.email)
            changes["is_email_verified"] = (user.id, primary.is_email_verified, user.is_email_verified)
    lowest = min([primary, *duplicates], key=lambda user: _ROLES.index(user.role))
    changes["role"] = (lowest.id, primary.role, lowest.role)
    return {name: change for name, change in changes.items() if change[1] != change[2]}


def _name(column: Column[Any]) -> str:
    return f"{column.table.name}.{column.name}"


async def _rows_of(tx: AsyncConnection, user_id: int) -> dict[str, list[int]]:
    """Return the ids of the rows that refer to an account, by column."""
    rows = {}
    for column in REFERENCES:
        found = await tx.scalars(select(column.table.c.id).where(column == user_id).order_by(column.table.c.id))
        if ids := list(found):
            rows[_name(column)] = ids
    return rows


async def _rows_still_at(
    tx: AsyncConnection, moved: Mapping[str, list[int]], user_id: int
) -> tuple[dict[str, list[int]], list[str]]:
    """Return the rows that still refer to `user_id`, and the names of those that do not."""
    rows: dict[str, list[int]] = {}
    gone: list[str] = []
    for column in REFERENCES:
        ids = moved.get(_name(column), [])
        for chunk in chunks(ids):
            query = select(column.table.c.id).where(column.table.c.id.in_(chunk), column == user_id)
            rows.setdefault(_name(column), []).extend(await tx.scalars(query))
        here = set(rows.get(_name(column), ()))
        gone += [f"{_name(column)} of row {row_id}" for row_id in ids if row_id not in here]
    return rows, gone


async def _move(tx: AsyncConnection, rows: Mapping[str, Sequence[int]], user_id: int) -> None:
    for column in REFERENCES:
        for chunk in chunks(rows.get(_name(column), ())):
            await tx.execute(update(column.table).where(column.table.c.id.in_(chunk)).values({column.name: user_id}))


async def _value(tx: AsyncConnection, user_id: int, name: str) -> object:
    return await tx.scalar(select(users.c[name]).where(users.c.id == user_id))
