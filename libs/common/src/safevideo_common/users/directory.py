"""Accounts as those who administer them see them: found by what somebody knows of a person, and one with all details.

A row of the list is one account with its own values, merged ones too, since a role is granted to one account. The role
that its sessions have is derived from all accounts that it is merged with.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final, TypedDict

from sqlalchemy import ColumnElement, Integer, Select, and_, case, cast, exists, func, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from safevideo_common.auth.api_keys import Role
from safevideo_common.clock import TimestampText, format_timestamp, rfc3339
from safevideo_common.database.erasures import IdentifierKind
from safevideo_common.database.paging import Order
from safevideo_common.database.tables import legal_hold_subjects, user_identities, users
from safevideo_common.errors import UserNotFound
from safevideo_common.users import store
from safevideo_common.users.account import Account, account_of
from safevideo_common.users.store import User

MAX_SEARCH: Final = 255
MAX_NAMED: Final = 1000
"""Accounts that one name may find. A name that more accounts have is none."""
_MAX_ID_DIGITS: Final = 18

_u: Final = users.c
_i: Final = user_identities.c
_s: Final = legal_hold_subjects.c


class AccountState(StrEnum):
    """The state of an account. Of several that fit, it has the last one."""

    ACTIVE = "active"
    SUSPENDED = "suspended"
    """The account, or one that is merged with it, is suspended: nobody has a session."""
    MERGED = "merged"
    """The account is part of another one."""
    ERASED = "erased"


@dataclass(frozen=True, slots=True)
class ListedAccount:
    """An account with its own values, and with what it is together with the accounts that it is merged with."""

    user: User
    whole: Account
    at: datetime
    """The time for which roles are in force."""

    @property
    def state(self) -> AccountState:
        """The state."""
        if self.user.erased_at is not None:
            return AccountState.ERASED
        if self.user.merged_into is not None:
            return AccountState.MERGED
        return AccountState.SUSPENDED if self.whole.is_suspended else AccountState.ACTIVE

    @property
    def merged_ids(self) -> Sequence[int]:
        """The accounts that are merged into this one, directly or not."""
        found = {self.user.id}
        while more := {each.id for each in self.whole.members.values() if each.merged_into in found} - found:
            found |= more
        return sorted(found - {self.user.id})


@dataclass(frozen=True, slots=True)
class AccountFilter:
    """Conditions that must all match."""

    search: str | None = None
    """An id of ours, an e-mail, a user name, an id of Sharegram, or the subject of an identity: the whole of it."""
    role: Role | None = None
    """The role that is in force for the account itself."""
    state: AccountState | None = None
    has_merged: bool | None = None
    """Whether others are merged into the account."""
    is_held: bool | None = None


class AccountRightsDocument(TypedDict):
    """The rights of an account, without personal data. `role` is that of its sessions, `ownRole` is its own."""

    id: int
    role: str
    ownRole: str
    roleSource: str | None
    roleEndsAt: TimestampText | None
    roleAfterwards: str | None
    state: str
    suspendedAt: TimestampText | None
    mergedInto: int | None
    mergedIds: list[int]
    version: int


class AccountSummaryDocument(AccountRightsDocument):
    """An account with its own values, and what it may do."""

    email: str | None
    isEmailVerified: bool | None
    username: str | None
    displayName: str | None
    sharegramId: str | None
    createdAt: TimestampText
    lastSignInAt: TimestampText | None


def rights_document(listed: ListedAccount) -> AccountRightsDocument:
    """Return the JSON document of what an account may do. It has no personal data, so it may be kept."""
    user = listed.user
    has_end = user.role_ends_at is not None and user.role_ends_at > listed.at
    return {
        "id": user.id,
        "role": listed.whole.role,
        "ownRole": user.role_in_force(listed.at),
        "roleSource": user.role_source,
        "roleEndsAt": format_timestamp(user.role_ends_at) if has_end else None,
        "roleAfterwards": (user.role_afterwards or Role.PERFORMER) if has_end else None,
        "state": listed.state,
        "suspendedAt": format_timestamp(user.suspended_at),
        "mergedInto": user.merged_into,
        "mergedIds": list(listed.merged_ids),
        "version": user.version,
    }


def summary_document(listed: ListedAccount) -> AccountSummaryDocument:
    """Return the JSON document of an account."""
    user = listed.user
    return {
        **rights_document(listed),
        "email": user.email,
        "isEmailVerified": user.is_email_verified,
        "username": user.username,
        "displayName": user.display_name,
        "sharegramId": user.sharegram_id,
        "createdAt": rfc3339(user.created_at),
        "lastSignInAt": format_timestamp(user.last_sign_in_at),
    }


async def find_accounts(
    reading: AsyncConnection,
    matching: AccountFilter,
    now: datetime,
    *,
    page: int,
    limit: int,
    order: Order = "desc",
    after: int | None = None,
) -> tuple[Sequence[ListedAccount], int]:
    """Return one page by id, counted from 1, and how many there are in all. `after` is the id of the last one."""
    conditions = list(_conditions(matching, now))
    if matching.search is not None:
        conditions.append(_u.id.in_(await _ids_named(reading, matching.search)))
    total = await reading.scalar(select(func.count()).select_from(users).where(*conditions))
    if after is not None:
        conditions.append(_u.id > after if order == "asc" else _u.id < after)
    query = select(_u.id).where(*conditions).order_by(_u.id if order == "asc" else _u.id.desc())
    ids = list(await reading.scalars(query.limit(limit).offset((page - 1) * limit)))
    return await load_accounts(reading, ids, now), total or 0


async def load_accounts(reading: AsyncConnection, ids: Sequence[int], now: datetime) -> Sequence[ListedAccount]:
    """Return accounts in this order, each with all that it is merged with. Raises `UserNotFound`."""
    if not ids:
        return []
    roots = await store.roots_of(reading, ids)
    if missing := [each for each in ids if each not in roots]:
        raise UserNotFound(f"There is no user {missing[0]}.")
    accounts = store.by_id(await store.members_of(reading, sorted(set(roots.values()))))
    root_of_each = await store.roots_of(reading, list(accounts)) if len(accounts) > len(set(ids)) else roots
    wholes: dict[int, Account] = {}
    for root in set(roots.values()):
        members = [each for each in accounts.values() if root_of_each[each.id] == root]
        wholes[root] = account_of(root, members, now)
    return [ListedAccount(accounts[each], wholes[roots[each]], now) for each in ids]


def _conditions(matching: AccountFilter, now: datetime) -> Sequence[ColumnElement[bool]]:
    found: list[ColumnElement[bool]] = []
    if matching.role is not None:
        has_ended = and_(_u.role_ends_at.is_not(None), _u.role_ends_at <= now)
        in_force = case((has_ended, func.coalesce(_u.role_afterwards, Role.PERFORMER)), else_=_u.role)
        found.append(in_force == matching.role)
    if matching.state is not None:
        found.append(_is_in(matching.state))
    if matching.has_merged is not None:
        merged = users.alias("merged")
        has_merged = exists().where(merged.c.merged_into == _u.id)
        found.append(has_merged if matching.has_merged else ~has_merged)
    if matching.is_held is not None:
        is_held = _is_held()
        found.append(is_held if matching.is_held else ~is_held)
    return found


async def _ids_named(reading: AsyncConnection, search: str) -> Collection[int]:
    """Return the ids of the accounts that are known by this name, and at most `MAX_NAMED`.

    User names and subjects have no index: they are read only if nothing with an index has the name.
    """
    name = search.strip()
    indexed = [
        select(_u.id).where(_u.email == name),
        select(_u.id).where(_u.merged_email == name),
        select(_u.id).where(_u.sharegram_id == name),
    ]
    if name.isascii() and name.isdigit() and len(name) <= _MAX_ID_DIGITS:
        indexed.append(select(_u.id).where(_u.id == int(name)))
    others = [select(_u.id).where(_u.username == name), select(_i.user_id).where(_i.subject == name)]
    for parts in (indexed, others):
        found = {each for part in parts for each in await reading.scalars(part.limit(MAX_NAMED))}
        if found:
            return found
    return ()


def _is_in(state: AccountState) -> ColumnElement[bool]:
    is_merged, is_erased = _u.merged_into.is_not(None), _u.erased_at.is_not(None)
    match state:
        case AccountState.ERASED:
            return is_erased
        case AccountState.MERGED:
            return and_(is_merged, ~is_erased)
        case AccountState.SUSPENDED:
            return and_(~is_merged, ~is_erased, _is_suspended())
        case AccountState.ACTIVE:
            return and_(~is_merged, ~is_erased, ~_is_suspended())


def _is_suspended() -> ColumnElement[bool]:
    """Return the condition that an account, or one that is merged into it, is suspended."""
    first = select(_u.id.label("id"), _u.merged_into.label("parent")).where(_u.suspended_at.is_not(None))
    chain = first.cte("suspended", recursive=True)
    chain = chain.union(select(_u.id, _u.merged_into).join_from(chain, users, _u.id == chain.c.parent))
    return _u.id.in_(select(chain.c.id))


def _is_held() -> ColumnElement[bool]:
    """Return the condition that an active hold names the account, its id at Sharegram, or one of its identities."""

    def subjects(kind: IdentifierKind) -> Select[str]:
        return select(_s.identifier).where(_s.kind == kind, _s.released_at.is_(None))

    held_ids = select(cast(_s.identifier, Integer)).where(_s.kind == IdentifierKind.USER, _s.released_at.is_(None))
    by_identity = select(_i.user_id).where(_i.digest.in_(subjects(IdentifierKind.IDENTITY)))
    by_sharegram_id = and_(_u.sharegram_id.is_not(None), _u.sharegram_id.in_(subjects(IdentifierKind.PERFORMER)))
    return or_(_u.id.in_(held_ids), _u.id.in_(by_identity), by_sharegram_id)
