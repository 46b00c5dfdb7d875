"""SQL of `users` and `user_identities` (contract, §9).

An identity is an issuer and a subject, compared byte for byte: the unique key is their digest. An account without an
e-mail, or one that was merged, has a placeholder in `email`. So the operators' query for duplicates does not list it.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Final
from uuid import uuid4

from sqlalchemy import Row, exists, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from safevideo_common.auth.api_keys import Role
from safevideo_common.database.dialect import for_update
from safevideo_common.database.paging import Order
from safevideo_common.database.tables import user_identities, users
from safevideo_common.domain.users import ascii_lower

MERGED: Final = "merged:"
MAX_MERGE_DEPTH: Final = 10

_u: Final = users.c
_i: Final = user_identities.c
_has_identity: Final = exists().where(_i.user_id == _u.id).label("has_identity")


@dataclass(frozen=True, slots=True)
class User:
    """An account."""

    id: int
    email: str | None
    is_email_verified: bool | None
    """None if nobody has said."""
    sharegram_id: str | None
    username: str | None
    display_name: str | None
    profile_image: str | None
    role: Role
    merged_into: int | None
    created_at: datetime
    updated_at: datetime
    last_sign_in_at: datetime | None
    has_identity: bool
    erased_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Identity:
    """A person as a provider knows them. All but issuer and subject is what the provider's token says."""

    provider: str
    issuer: str
    subject: str
    email: str | None = None
    is_email_verified: bool = False
    username: str | None = None
    display_name: str | None = None
    profile_image: str | None = None

    @property
    def digest(self) -> str:
        """The key of the identity: issuer and subject, byte for byte, of any length."""
        return sha256(f"{len(self.issuer)} {self.issuer} {self.subject}".encode()).hexdigest()


async def find_by_identity(connection: AsyncConnection, identity: Identity) -> int | None:
    """Return the id of the account that this identity belongs to."""
    user_id: int | None = await connection.scalar(select(_i.user_id).where(_i.digest == identity.digest))
    return user_id


async def find_by_sharegram_id(tx: AsyncConnection, sharegram_id: str) -> list[User]:
    """Return the accounts with this Sharegram id, merged ones too, and lock them. Upper and lower case differ."""
    rows = await tx.execute(for_update(select(users, _has_identity).where(_u.sharegram_id == sharegram_id)))
    # A database may ignore spaces at the end.
    return [user for row in rows if (user := _user(row)).sharegram_id == sharegram_id]


async def find_by_email(tx: AsyncConnection, email: str) -> list[User]:
    """Return the accounts whose e-mail the database holds equal, and lock them. Merged ones are not among them."""
    rows = await tx.execute(for_update(select(users, _has_identity).where(_u.email == email).order_by(_u.id)))
    return [_user(row) for row in rows]


async def get(connection: AsyncConnection, user_id: int) -> User | None:
    """Return the account, or None."""
    row = (await connection.execute(select(users, _has_identity).where(_u.id == user_id))).one_or_none()
    return None if row is None else _user(row)


async def get_primary(connection: AsyncConnection, user_id: int) -> User | None:
    """Return the account, or the one that it was merged into."""
    user = await get(connection, user_id)
    for _ in range(MAX_MERGE_DEPTH):
        if user is None or user.merged_into is None:
            return user
        user = await get(connection, user.merged_into)
    return None


async def lock(tx: AsyncConnection, user_ids: Collection[int]) -> dict[int, User]:
    """Return the accounts by id, locked in the order of their ids, so that two callers do not deadlock."""
    query = select(users, _has_identity).where(_u.id.in_(sorted(user_ids))).order_by(_u.id)
    return {row.id: _user(row) for row in await tx.execute(for_update(query))}


async def create(tx: AsyncConnection, identity: Identity, *, sharegram_id: str | None, now: datetime) -> int:
    """Create an account with role `performer` from what the provider says. Return its id."""
    row = {
        "email": identity.email or placeholder(),
        "is_email_verified": identity.is_email_verified if identity.email else None,
        "sharegram_id": sharegram_id,
        "username": identity.username,
        "display_name": identity.display_name,
        "profile_image": identity.profile_image,
        "role": Role.PERFORMER,
        "created_at": now,
        "updated_at": now,
    }
    result = await tx.execute(insert(users).values(row))
    assert result.inserted_primary_key is not None
    return int(result.inserted_primary_key[0])


async def add_identity(tx: AsyncConnection, user_id: int, identity: Identity, now: datetime) -> None:
    """Record that the identity belongs to the account.

    Raises `DatabaseConflict` if another transaction has recorded it since.
    """
    row = {
        "user_id": user_id,
        "provider": identity.provider,
        "issuer": identity.issuer,
        "subject": identity.subject,
        "digest": identity.digest,
        "created_at": now,
    }
    await tx.execute(insert(user_identities).values(row))


async def set_values(tx: AsyncConnection, user_id: int, **values: object) -> None:
    """Write columns of an account."""
    await tx.execute(update(users).where(_u.id == user_id).values(values))


async def find_duplicates(
    reading: AsyncConnection, *, page: int, limit: int, order: Order = "asc"
) -> tuple[list[list[User]], int]:
    """Return one page of the groups of accounts that share an e-mail, and the number of all groups."""
    shared = select(_u.email).where(_u.email.contains("@")).group_by(_u.email).having(func.count() > 1)
    total = await reading.scalar(select(func.count()).select_from(shared.subquery()))
    rows = await reading.execute(
        shared.order_by(_u.email if order == "asc" else _u.email.desc()).limit(limit).offset((page - 1) * limit)
    )
    groups: dict[str, list[User]] = {}
    query = select(users, _has_identity).where(_u.email.in_([row.email for row in rows]))
    for row in await reading.execute(query.order_by(_u.email, _u.id)):
        groups.setdefault(ascii_lower(row.email), []).append(_user(row))
    return [group for group in groups.values() if len(group) > 1], total or 0


def placeholder() -> str:
    """Return what `email` holds for an account without one: no address, and different in each row."""
    return f"none:{uuid4().hex}"


def real_email(stored: str | None) -> str | None:
    """Return the e-mail in a column, or None for a placeholder."""
    return stored if stored and "@" in stored else None


def _user(row: Row[*tuple[object, ...]]) -> User:
    return User(
        row.id,
        real_email(row.email),
        row.is_email_verified,
        row.sharegram_id,
        row.username,
        row.display_name,
        row.profile_image,
        Role(row.role) if row.role in set(Role) else Role.USER,  # a value that was written by hand
        row.merged_into,
        row.created_at,
        row.updated_at,
        row.last_sign_in_at,
        bool(row.has_identity),
        row.erased_at,
    )
