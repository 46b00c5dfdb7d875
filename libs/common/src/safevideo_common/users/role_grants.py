"""Roles for people who have no account yet: a pending grant is bound to an e-mail and ends after a week.

It is used at the first sign-in of an identity whose e-mail is verified, by a provider whose e-mails count (`may_link`).
So an e-mail that somebody only claims to have gives nothing. An e-mail is in the table for the week alone: a grant that
was used or revoked loses it at once, and `delete_ended` deletes the others.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, TypedDict

from sqlalchemy import ColumnElement, Row, case, delete, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from safevideo_common.audit import store as audit_store
from safevideo_common.audit.store import Caller, check_reason
from safevideo_common.auth.api_keys import Role
from safevideo_common.clock import Clock, TimestampText, format_timestamp, rfc3339
from safevideo_common.database.engine import Database
from safevideo_common.database.errors import retry_on_conflict
from safevideo_common.database.person_locks import PersonLock, email_name, lock_names
from safevideo_common.database.tables import role_grants
from safevideo_common.domain.users import ascii_lower
from safevideo_common.errors import DatabaseConflict, NotFound, UserMappingConflict, ValidationFailed
from safevideo_common.users import store
from safevideo_common.users.rights import RoleGrant
from safevideo_common.users.store import User

PENDING: Final = timedelta(days=7)
GRANTED: Final = "users.role_grant_added"
REVOKED: Final = "users.role_grant_revoked"
MAX_EMAIL: Final = 255
MAX_SHOWN: Final = 1000
ERASED: Final = "erased"
"""The e-mail of a grant whose person was erased."""

_g: Final = role_grants.c


@dataclass(frozen=True, slots=True)
class PendingGrant:
    """A role that waits for the first sign-in of somebody."""

    id: int
    email: str
    grant: RoleGrant
    reason: str
    granted_at: datetime
    granted_by: str
    expires_at: datetime


class PendingGrantDocument(TypedDict):
    """A role that waits for the first sign-in of somebody with this e-mail."""

    grantId: int
    email: str
    role: str
    roleEndsAt: TimestampText | None
    reason: str
    grantedAt: TimestampText
    grantedBy: str
    expiresAt: TimestampText


def grant_document(pending: PendingGrant) -> PendingGrantDocument:
    """Return the JSON document of a pending grant."""
    return {
        "grantId": pending.id,
        "email": pending.email,
        "role": pending.grant.role,
        "roleEndsAt": format_timestamp(pending.grant.ends_at),
        "reason": pending.reason,
        "grantedAt": rfc3339(pending.granted_at),
        "grantedBy": pending.granted_by,
        "expiresAt": rfc3339(pending.expires_at),
    }


class RoleGrants:
    """Adds and revokes pending grants. Every method raises the errors of the database."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def account_of_email(self, email: str) -> User | None:
        """Return the account that a grant to this e-mail means, or None if it has to wait for a first sign-in.

        Raises `UserMappingConflict` if several accounts have it, or if the one that has it was never proven to be its
        owner's.
        """
        async with self._database.read_connection() as reading:
            return await _account_of(reading, email)

    async def add(self, email: str, grant: RoleGrant, reason: str, caller: Caller) -> PendingGrant:
        """Add a grant for the next week. It takes the place of an earlier one for this e-mail.

        Raises `ValidationFailed`, and `DatabaseConflict` if an account with this e-mail came meanwhile.
        """
        check_reason(reason)
        if "@" not in email or not email.isprintable() or len(email) > MAX_EMAIL:
            raise ValidationFailed(
                "This is no e-mail.", details={"email": f"an address of up to {MAX_EMAIL} characters"}
            )

        async def attempt() -> PendingGrant:
            async with self._database.transaction() as tx:
                lock = await lock_names(tx, [email_name(email)])
                if await _account_of(tx, email) is not None:
                    raise DatabaseConflict("an account with this e-mail was made meanwhile")
                now = self._clock()
                for earlier in await _find(tx, email, now):
                    await _end(lock, earlier, revoked_at=now)
                row = {
                    "email": email, "role": grant.role, "role_ends_at": grant.ends_at, "reason": reason,
                    "granted_at": now, "granted_by": caller.name, "expires_at": now + PENDING,
                }  # fmt: skip
                grant_id = int((await tx.execute(insert(role_grants).values(row))).lastrowid)
                details = {"grantId": grant_id, "role": grant.role, "until": format_timestamp(grant.ends_at)}
                entry = caller.entry(GRANTED, self._clock, {**details, "reason": reason}, f"grant:{grant_id}")
                await audit_store.record(tx, entry)
                return PendingGrant(grant_id, email, grant, reason, now, caller.name, now + PENDING)

        return await retry_on_conflict(attempt)

    async def revoke(self, email: str, reason: str, caller: Caller) -> PendingGrant:
        """Revoke the grant that waits for this e-mail. Raises `NotFound` without one, and `ValidationFailed`."""
        check_reason(reason)

        async def attempt() -> PendingGrant:
            async with self._database.transaction() as tx:
                lock = await lock_names(tx, [email_name(email)])
                now = self._clock()
                found = await _find(tx, email, now)
                if not found:
                    raise NotFound("No role waits for this e-mail.")
                for each in found:
                    await _end(lock, each, revoked_at=now)
                    details = {"grantId": each.id, "role": each.grant.role, "reason": reason}
                    await audit_store.record(tx, caller.entry(REVOKED, self._clock, details, f"grant:{each.id}"))
                return found[-1]

        return await retry_on_conflict(attempt)


async def find_pending(reading: AsyncConnection, now: datetime) -> Sequence[PendingGrant]:
    """Return the grants that wait, the newest first, and at most `MAX_SHOWN`."""
    query = select(role_grants).where(*_is_pending(now)).order_by(_g.id.desc()).limit(MAX_SHOWN)
    return [_grant(row) for row in await reading.execute(query)]


async def find_for_email(lock: PersonLock, email: str, now: datetime) -> PendingGrant | None:
    """Return the grant that waits for this e-mail. The caller has locked the e-mail, and knows that it is verified."""
    return next(iter(await _find(lock.tx, email, now)), None)


async def mark_used(lock: PersonLock, pending: PendingGrant, user_id: int, now: datetime) -> None:
    """Record which account has got the grant."""
    await _end(lock, pending, used_at=now, user_id=user_id)


async def erase(lock: PersonLock, users: Collection[User], now: datetime) -> None:
    """Take the e-mails of these accounts out of all grants, and revoke those that wait for one of them."""
    emails = {each.email for each in users if each.email is not None}
    mine = or_(_g.user_id.in_([each.id for each in users]), _g.email.in_(emails))
    is_ended = or_(_g.used_at.is_not(None), _g.revoked_at.is_not(None))
    ended = case((is_ended, _g.revoked_at), else_=now)
    await lock.tx.execute(update(role_grants).where(mine).values(email=ERASED, revoked_at=ended))


async def delete_ended(tx: AsyncConnection, now: datetime, limit: int) -> int:
    """Delete at most `limit` grants whose week is over, and return how many. The audit log keeps what they were."""
    rows = (await tx.execute(select(_g.id, _g.email).where(_g.expires_at <= now).order_by(_g.id).limit(limit))).all()
    if rows:
        await lock_names(tx, [email_name(row.email) for row in rows])
        await tx.execute(delete(role_grants).where(_g.id.in_([row.id for row in rows])))
    return len(rows)


async def _account_of(connection: AsyncConnection, email: str) -> User | None:
    found = [
        user
        for user in await store.find_by_email(connection, email)
        if ascii_lower(user.email or "") == ascii_lower(email) and user.erased_at is None
    ]
    names = {"userIds": [user.id for user in found]}
    if len(found) > 1:
        raise UserMappingConflict("Several accounts have this e-mail. Name one by its id.", details=names)
    if not found:
        return None
    (user,) = found
    if not user.has_identity and user.sharegram_id is None and user.is_email_verified is not False:
        return None  # nobody has signed in yet: the first sign-in shows whose e-mail it is
    if user.is_email_verified is not True:
        raise UserMappingConflict(
            "The e-mail of this account is not verified. Name the account by its id.", details=names
        )
    return user


async def _find(connection: AsyncConnection, email: str, now: datetime) -> Sequence[PendingGrant]:
    rows = await connection.execute(
        select(role_grants).where(_g.email == email, *_is_pending(now)).order_by(_g.id.desc())
    )
    # A database may compare more coarsely than we do.
    return [grant for row in rows if ascii_lower((grant := _grant(row)).email) == ascii_lower(email)]


def _is_pending(now: datetime) -> tuple[ColumnElement[bool], ...]:
    return (_g.used_at.is_(None), _g.revoked_at.is_(None), _g.expires_at > now)


async def _end(lock: PersonLock, pending: PendingGrant, **values: object) -> None:
    await lock.tx.execute(update(role_grants).where(_g.id == pending.id).values(email=f"ended:{pending.id}", **values))


def _grant(row: Row[*tuple[object, ...]]) -> PendingGrant:
    role = Role(row.role) if row.role in set(Role) else Role.USER  # a value that was written by hand
    grant = RoleGrant(role, row.role_ends_at)
    return PendingGrant(row.id, row.email, grant, row.reason, row.granted_at, row.granted_by, row.expires_at)
