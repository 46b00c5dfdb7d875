"""The rule that somebody stays an admin, whatever is done to an account: role, suspension, merge or erasure.

It is checked against the rows that the act leaves behind, in its transaction. Acts that may take an admin away lock the
name `ADMINS` before the person. So of two such acts at once the later one sees what the earlier one left.
"""

from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from sqlalchemy import or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from safevideo_common.auth.api_keys import Role
from safevideo_common.clock import Clock
from safevideo_common.database import erasures
from safevideo_common.database.erasures import IdentifierKind
from safevideo_common.database.person_locks import PersonLock
from safevideo_common.database.tables import users
from safevideo_common.errors import LastAdmin
from safevideo_common.users import store
from safevideo_common.users.account import account_of
from safevideo_common.users.store import User

ADMINS: Final = "admins"
"""The name to lock: `lock(tx, user_id, also=(ADMINS,))`."""

_AFTER_ALL_ENDS: Final = datetime(9999, 12, 31, tzinfo=UTC)
_NOBODY_ELSE: Final = "Nobody else is an admin for good. Make somebody else one first."
_u: Final = users.c


@dataclass(frozen=True, slots=True)
class Admins:
    """The accounts that are admins, with what they are merged with."""

    now: frozenset[int]
    for_good: frozenset[int]
    """Those that are admins once each role with an end has ended."""


async def find_admins(connection: AsyncConnection, now: datetime) -> Admins:
    """Return the accounts that are admins, can sign in, and have no order to erase them."""
    is_or_will_be = or_(_u.role == Role.ADMIN, _u.role_afterwards == Role.ADMIN)
    active = (_u.merged_into.is_(None), _u.erased_at.is_(None), _u.suspended_at.is_(None))
    found = set(await connection.scalars(select(_u.id).where(is_or_will_be, *active)))
    ordered = await erasures.erased(connection, IdentifierKind.USER, map(str, found))
    roots = sorted(each for each in found if str(each) not in ordered)
    accounts = store.by_id(await store.members_of(connection, roots)) if roots else {}
    trees: dict[int, list[User]] = {root: [] for root in roots}
    for each in accounts.values():
        root = each
        while root.merged_into is not None:
            root = accounts[root.merged_into]
        trees[root.id].append(each)

    def admins_at(at: datetime) -> frozenset[int]:
        wholes = (account_of(root, members, at) for root, members in trees.items())
        return frozenset(whole.id for whole in wholes if whole.can_sign_in and whole.role is Role.ADMIN)

    return Admins(admins_at(now), admins_at(_AFTER_ALL_ENDS))


async def require_another_admin(lock: PersonLock, user_ids: Collection[int], clock: Clock) -> None:
    """Raise `LastAdmin` if nobody would be an admin without these accounts. The caller has locked `ADMINS`."""
    admins = await find_admins(lock.tx, clock())
    for each in (admins.now, admins.for_good):
        if each and not each - set(user_ids):
            raise LastAdmin(_NOBODY_ELSE)


@asynccontextmanager
async def admin_remains(lock: PersonLock, clock: Clock) -> AsyncIterator[None]:
    """Raise `LastAdmin` at the end of the block if it leaves nobody who is an admin. Its transaction then ends.

    Where nobody was an admin before, nobody has to be one afterwards. The caller has locked `ADMINS`.
    """
    now = clock()
    before = await find_admins(lock.tx, now)
    yield
    after = await find_admins(lock.tx, now)
    if (before.now and not after.now) or (before.for_good and not after.for_good):
        raise LastAdmin(_NOBODY_ELSE)
