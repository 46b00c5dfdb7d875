"""SQL of `users` and `user_identities` (contract, §9).

A row holds the values of that account alone. `merged_into` makes a tree of accounts; what its root may do is derived
from all of them (`users/account.py`), so that a merge is taken back by clearing one column.

An identity is an issuer and a subject, compared byte for byte: the unique key is their digest. It stays with its
account for ever. An account without an e-mail, or one that was merged, has a placeholder in `email`. So the operators'
query for duplicates does not list it; a merged account's e-mail waits in `merged_email`.

Every function that writes takes a `PersonLock`: so nothing writes on a person that has not locked the person.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from secrets import token_hex
from typing import Final
from uuid import uuid4

from sqlalchemy import CTE, Row, exists, func, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from safevideo_common.auth.api_keys import Role
from safevideo_common.database.dialect import for_update
from safevideo_common.database.paging import Order
from safevideo_common.database.person_locks import PersonLock
from safevideo_common.database.tables import user_identities, users
from safevideo_common.domain.users import ascii_lower

MERGED: Final = "merged:"

_u: Final = users.c
_i: Final = user_identities.c
_has_identity: Final = exists().where(_i.user_id == _u.id).label("has_identity")


@dataclass(frozen=True, slots=True)
class User:
    """An account with its own values, whether it is merged or not."""

    id: int
    email: str | None
    is_email_verified: bool | None
    """None if nobody has said."""
    sharegram_id: str | None
    username: str | None
    display_name: str | None
    profile_image: str | None
    role: Role
    """As it was given to this account. `role_in_force` says whether it still counts."""
    merged_into: int | None
    created_at: datetime
    updated_at: datetime
    """The time of the last change of its profile. A merge, or another role, is none."""
    last_sign_in_at: datetime | None
    has_identity: bool
    erased_at: datetime | None = None
    suspended_at: datetime | None = None
    role_source: str | None = None
    role_ends_at: datetime | None = None
    role_afterwards: Role | None = None
    generation: str = ""
    version: int = 0

    def role_in_force(self, now: datetime) -> Role:
        """Return the role that this account has at `now`, apart from what it is merged with."""
        if self.role_ends_at is None or self.role_ends_at > now:
            return self.role
        return self.role_afterwards or Role.PERFORMER


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
    claimed_role: Role | None = None
    """The role that a claim gives by a setting. It is None for all others."""

    @property
    def digest(self) -> str:
        """The key of the identity: issuer and subject, byte for byte, of any length."""
        return sha256(f"{len(self.issuer)} {self.issuer} {self.subject}".encode()).hexdigest()


def _with_ancestors(start: Collection[int] | None, digest: str | None = None) -> CTE:
    """Return a query of accounts and of all that they are merged into, as `own` (where it began), `id` and `parent`."""
    first = select(_u.id.label("own"), _u.id.label("id"), _u.merged_into.label("parent"))
    if digest is not None:
        first = first.where(_u.id == select(_i.user_id).where(_i.digest == digest).scalar_subquery())
    else:
        first = first.where(_u.id.in_(start or ()))
    chain = first.cte("chain", recursive=True)
    # A union without duplicates ends also where somebody has made a ring by hand.
    return chain.union(select(chain.c.own, _u.id, _u.merged_into).join_from(chain, users, _u.id == chain.c.parent))


async def find_by_identity(connection: AsyncConnection, identity: Identity) -> tuple[int, int] | None:
    """Return the account that this identity belongs to, and the one at the root of its tree."""
    chain = _with_ancestors(None, identity.digest)
    row = (await connection.execute(select(chain.c.own, chain.c.id).where(chain.c.parent.is_(None)))).one_or_none()
    return None if row is None else (row.own, row.id)


async def roots_of(connection: AsyncConnection, user_ids: Collection[int]) -> dict[int, int]:
    """Return the root of each account, by the account. Accounts that do not exist are not among them."""
    chain = _with_ancestors(user_ids)
    rows = await connection.execute(select(chain.c.own, chain.c.id).where(chain.c.parent.is_(None)))
    return {row.own: row.id for row in rows}


async def members_of(connection: AsyncConnection, root_ids: Collection[int]) -> list[User]:
    """Return accounts with all that are merged into them, in the order of their ids. It is one statement."""
    tree = select(_u.id.label("id")).where(_u.id.in_(root_ids)).cte("tree", recursive=True)
    tree = tree.union(select(_u.id).join_from(tree, users, _u.merged_into == tree.c.id))
    query = select(users, _has_identity).where(_u.id.in_(select(tree.c.id))).order_by(_u.id)
    return [_user(row) for row in await connection.execute(query)]


async def find_by_sharegram_id(connection: AsyncConnection, sharegram_id: str) -> list[User]:
    """Return the accounts with this Sharegram id, merged ones too. Upper and lower case differ."""
    rows = await connection.execute(select(users, _has_identity).where(_u.sharegram_id == sharegram_id))
    # A database may ignore spaces at the end.
    return [user for row in rows if (user := _user(row)).sharegram_id == sharegram_id]


async def find_by_email(connection: AsyncConnection, email: str) -> list[User]:
    """Return the accounts whose e-mail the database holds equal, merged ones too."""
    mine = or_(_u.email == email, _u.merged_email == email)
    rows = await connection.execute(select(users, _has_identity).where(mine).order_by(_u.id))
    return [_user(row) for row in rows]


async def get(connection: AsyncConnection, user_id: int) -> User | None:
    """Return the account with its own values, or None."""
    row = (await connection.execute(select(users, _has_identity).where(_u.id == user_id))).one_or_none()
    return None if row is None else _user(row)


async def lock_rows(tx: AsyncConnection, user_ids: Collection[int]) -> dict[int, User]:
    """Return the accounts by id, locked in the order of their ids. Only `users/person.py` calls it."""
    query = select(users, _has_identity).where(_u.id.in_(sorted(user_ids))).order_by(_u.id)
    return {row.id: _user(row) for row in await tx.execute(for_update(query))}


async def create(lock: PersonLock, identity: Identity, *, sharegram_id: str | None, now: datetime) -> int:
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
        "last_sign_in_at": now,
        "generation": new_generation(),
    }
    result = await lock.tx.execute(insert(users).values(row))
    assert result.inserted_primary_key is not None
    return int(result.inserted_primary_key[0])


async def add_identity(lock: PersonLock, user_id: int, identity: Identity, now: datetime) -> None:
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
    await lock.tx.execute(insert(user_identities).values(row))


async def set_values(lock: PersonLock, user_id: int, **values: object) -> None:
    """Write columns of an account of the locked person."""
    await lock.tx.execute(update(users).where(_u.id == user_id).values(values))


async def digests_of(connection: AsyncConnection, user_ids: Collection[int]) -> list[str]:
    """Return the digests of the identities of some accounts, in order."""
    query = select(_i.digest).where(_i.user_id.in_(user_ids)).order_by(_i.digest)
    return list(await connection.scalars(query))


async def identities_of(
    connection: AsyncConnection, user_ids: Collection[int], *, after: datetime | None = None
) -> list[int]:
    """Return the row ids of the identities of some accounts; with `after` only those that came later."""
    query = select(_i.id).where(_i.user_id.in_(user_ids)).order_by(_i.id)
    if after is not None:
        query = query.where(_i.created_at > after)
    return list(await connection.scalars(query))


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


def by_id(accounts: Iterable[User]) -> dict[int, User]:
    """Return accounts by their ids."""
    return {each.id: each for each in accounts}


def new_generation() -> str:
    """Return a random generation. Unlike a counter, it is never given twice, also by a database that goes back."""
    return token_hex(16)


def placeholder() -> str:
    """Return what `email` holds for an account without one: no address, and different in each row."""
    return f"none:{uuid4().hex}"


def real_email(stored: str | None) -> str | None:
    """Return the e-mail in a column, or None for a placeholder."""
    return stored if stored and "@" in stored else None


def _role(stored: str | None) -> Role | None:
    return Role(stored) if stored in set(Role) else None


def _user(row: Row[*tuple[object, ...]]) -> User:
    return User(
        row.id,
        real_email(row.email) or real_email(row.merged_email),
        row.is_email_verified,
        row.sharegram_id,
        row.username,
        row.display_name,
        row.profile_image,
        _role(row.role) or Role.USER,  # a value that was written by hand
        row.merged_into,
        row.created_at,
        row.updated_at,
        row.last_sign_in_at,
        bool(row.has_identity),
        row.erased_at,
        row.suspended_at,
        row.role_source,
        row.role_ends_at,
        _role(row.role_afterwards),
        row.generation,
        row.version,
    )


def merged_email(email: str | None, user_id: int) -> dict[str, str | None]:
    """Return the columns of an account that is merged: its e-mail waits where the operators' query does not look."""
    return {"email": f"{MERGED}{user_id}", "merged_email": email}


def own_email(email: str | None) -> dict[str, str | None]:
    """Return the columns of an account that is merged no more."""
    return {"email": email or placeholder(), "merged_email": None}
