"""Acts on what an account may do: who may, what they leave behind, and two of them at once."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta

import pytest
from sqlalchemy import insert, update

from safevideo_common.audit import store as audit_store
from safevideo_common.audit.store import AuditFilter, Caller
from safevideo_common.auth.api_keys import Role
from safevideo_common.auth.sessions import SessionStore
from safevideo_common.cache.redis import open_redis
from safevideo_common.database.engine import Database
from safevideo_common.database.tables import users
from safevideo_common.errors import (
    Forbidden,
    InvalidStatusTransition,
    LastAdmin,
    SafeVideoError,
    UserNotFound,
    ValidationFailed,
    VersionConflict,
)
from safevideo_common.privacy.erasure import Erasures
from safevideo_common.users.accounts import UserAccounts
from safevideo_common.users.directory import AccountState, ListedAccount
from safevideo_common.users.merge import UserMerges
from safevideo_common.users.rights import Act, RoleGrant, UserRights
from safevideo_testkit.eventually import FakeClock

OPERATOR = Caller("root", "cli", None, "r1")
ADMIN, MODERATOR, PERFORMER = RoleGrant(Role.ADMIN), RoleGrant(Role.MODERATOR), RoleGrant(Role.PERFORMER)


class World:
    """Accounts, and acts on them by an operator or by one of them."""

    def __init__(self, database: Database) -> None:
        self.clock = FakeClock()
        self.database = database
        self.rights = UserRights(database, self.clock)
        self.other_replica = UserAccounts(database, self.clock)

    async def add(self, role: Role = Role.PERFORMER, **values: object) -> int:
        now = self.clock()
        row = {"email": f"none:{now}", "role": role, "created_at": now, "updated_at": now, "generation": "g", **values}
        async with self.database.transaction() as tx:
            return int((await tx.execute(insert(users).values(row))).lastrowid)

    async def merge(self, duplicate: int, primary: int) -> None:
        async with self.database.transaction() as tx:
            await tx.execute(update(users).where(users.c.id == duplicate).values(merged_into=primary))

    def act(self, user_id: int, by: int | None = None, version: int | None = None) -> Act:
        caller = OPERATOR if by is None else Caller(f"user:{by}", "admin", "192.0.2.1", "r2")
        return Act(user_id, caller, "ticket 114", version)

    async def set_role(self, user_id: int, grant: RoleGrant, by: int | None = None) -> ListedAccount:
        return await self.rights.set_role(self.act(user_id, by), grant)

    async def role_of(self, user_id: int, generation: str = "g") -> Role | None:
        """What a session has on a replica that has looked before."""
        self.clock.advance(timedelta(seconds=1))
        rights = await self.other_replica.rights_of(user_id, generation)
        return None if rights is None else rights.role

    async def audited(self, user_id: int) -> list[tuple[str, str, object]]:
        async with self.database.read_connection() as reading:
            found, _ = await audit_store.find(reading, AuditFilter(target=f"user:{user_id}"), page=1, limit=10)
        return [(each.entry.action, each.entry.actor, each.entry.details["reason"]) for each in found]


@pytest.fixture
def world(database: Database) -> World:
    return World(database)


async def test_role_counts_within_a_second_and_the_audit_log_says_who_and_why(world: World) -> None:
    admin, other = await world.add(Role.ADMIN), await world.add()
    assert await world.role_of(other) is Role.PERFORMER
    listed = await world.set_role(other, MODERATOR, by=admin)
    assert (listed.whole.role, listed.user.version, listed.user.role_source) == (Role.MODERATOR, 1, "admin")
    assert await world.role_of(other) is Role.MODERATOR
    again = await world.set_role(other, MODERATOR, by=admin)
    assert again.user.version == 1
    assert await world.audited(other) == [("users.role_changed", f"user:{admin}", "ticket 114")]


async def test_account_that_has_changed_since_it_was_seen_is_left_alone(world: World) -> None:
    other = await world.add()
    await world.rights.set_role(world.act(other, version=0), MODERATOR)
    with pytest.raises(VersionConflict) as refused:
        await world.rights.suspend(world.act(other, version=0))
    assert refused.value.details == {"version": 1}
    assert (await world.rights.suspend(world.act(other, version=1))).state is AccountState.SUSPENDED


async def test_nobody_changes_their_own_rights(world: World) -> None:
    admin, second, member = await world.add(Role.ADMIN), await world.add(Role.ADMIN), await world.add(Role.ADMIN)
    await world.merge(member, admin)
    acts: list[Callable[[Act], Awaitable[object]]] = [
        world.rights.suspend,
        world.rights.reinstate,
        lambda act: world.rights.set_role(act, PERFORMER),
    ]
    for each in acts:
        for target in (admin, member):
            with pytest.raises(Forbidden):
                await each(world.act(target, by=admin))
    await world.rights.end_sessions(world.act(second, by=second))
    assert await world.audited(admin) == []


@pytest.mark.parametrize(
    "act",
    [
        lambda world, admin: world.set_role(admin, PERFORMER),
        lambda world, admin: world.set_role(admin, RoleGrant(Role.ADMIN, world.clock() + timedelta(days=1))),
        lambda world, admin: world.rights.suspend(world.act(admin)),
    ],
    ids=["demoted", "given an end", "suspended"],
)
async def test_last_admin_stays_one(world: World, act: Callable[[World, int], Awaitable[object]]) -> None:
    admin = await world.add(Role.ADMIN)
    suspended = await world.add(Role.ADMIN, suspended_at=world.clock())
    until_friday = await world.add(Role.ADMIN, role_source="admin", role_ends_at=world.clock() + timedelta(days=3))
    lowered, member = await world.add(Role.ADMIN), await world.add()
    await world.merge(member, lowered)
    with pytest.raises(LastAdmin):
        await act(world, admin)
    assert await world.role_of(admin) is Role.ADMIN
    assert await world.audited(admin) == []
    await world.set_role(until_friday, ADMIN)
    await act(world, admin)
    assert await world.role_of(suspended) is None


async def test_two_admins_who_demote_each_other_at_once_leave_one(world: World) -> None:
    first, second = await world.add(Role.ADMIN), await world.add(Role.ADMIN)
    for _ in range(5):
        both = await asyncio.gather(
            world.set_role(second, MODERATOR, by=first), world.rights.suspend(world.act(first, by=second)),
            return_exceptions=True,
        )  # fmt: skip
        assert sorted(type(each).__name__ for each in both) == ["LastAdmin", "ListedAccount"]
        await world.set_role(second, ADMIN)
        await world.rights.reinstate(world.act(first))


async def test_role_ends_by_itself_and_leaves_what_was_there_before(world: World) -> None:
    await world.add(Role.ADMIN)
    other, day = await world.add(), timedelta(days=1)
    await world.set_role(other, MODERATOR)
    listed = await world.set_role(other, RoleGrant(Role.ADMIN, world.clock() + day))
    assert (listed.user.role_afterwards, await world.role_of(other)) == (Role.MODERATOR, Role.ADMIN)
    await world.set_role(other, RoleGrant(Role.AUDITOR, world.clock() + 2 * day))
    world.clock.advance(2 * day - timedelta(seconds=2))
    assert await world.role_of(other) is Role.AUDITOR
    assert await world.role_of(other) is Role.MODERATOR
    with pytest.raises(ValidationFailed):
        await world.set_role(other, RoleGrant(Role.ADMIN, world.clock()))


async def test_members_of_a_merged_account_keep_their_own_grants(world: World) -> None:
    root, member = await world.add(Role.ADMIN), await world.add()
    await world.merge(member, root)
    listed = await world.set_role(root, RoleGrant(Role.AUDITOR))
    assert (listed.user.role, listed.whole.role) == (Role.AUDITOR, Role.PERFORMER)
    listed = await world.set_role(member, MODERATOR)
    assert (listed.state, listed.whole.role, listed.whole.id) == (AccountState.MERGED, Role.MODERATOR, root)
    assert await world.role_of(root) is Role.MODERATOR


async def test_suspension_ends_sessions_and_reinstating_brings_none_back(world: World) -> None:
    root, member = await world.add(), await world.add()
    await world.merge(member, root)
    assert await world.role_of(root) is Role.PERFORMER
    listed = await world.rights.suspend(world.act(member))
    assert await world.role_of(root) is None
    assert listed.whole.is_suspended
    assert (await world.rights.suspend(world.act(member))).user.version == 1
    listed = await world.rights.reinstate(world.act(member))
    assert (await world.role_of(root), await world.role_of(root, listed.whole.generation)) == (None, Role.PERFORMER)
    assert [action for action, _, _ in await world.audited(member)] == ["users.reinstated", "users.suspended"]


async def test_sessions_end_at_the_root_alone(world: World) -> None:
    root, member = await world.add(), await world.add()
    await world.merge(member, root)
    with pytest.raises(InvalidStatusTransition):
        await world.rights.end_sessions(world.act(member))
    assert await world.role_of(root) is Role.PERFORMER
    listed = await world.rights.end_sessions(world.act(root))
    assert (await world.role_of(root), listed.user.version) == (None, 0)


async def test_session_of_another_replica_counts_at_once(world: World) -> None:
    user_id = await world.add()
    assert await world.role_of(user_id) is Role.PERFORMER
    listed = await world.rights.end_sessions(world.act(user_id))
    rights = await world.other_replica.rights_of(user_id, listed.whole.generation)
    assert (rights and rights.role) is Role.PERFORMER


async def test_last_admin_is_neither_merged_away_nor_erased(world: World, redis_url: str) -> None:
    admin, other = await world.add(Role.ADMIN), await world.add()
    async with open_redis(redis_url, 2, seconds=5) as redis:
        merges = UserMerges(world.database, SessionStore(redis), world.clock)
        for primary, duplicate in ((admin, other), (other, admin)):
            with pytest.raises(LastAdmin):
                await merges.merge(primary, [duplicate], OPERATOR, dry_run=False)
        with pytest.raises(LastAdmin):
            await Erasures(world.database, world.clock).order(admin, "request 7", OPERATOR)
        second = await world.add(Role.ADMIN)
        for _ in range(2):
            await Erasures(world.database, world.clock).order(second, "request 7", OPERATOR)
        with pytest.raises(LastAdmin):
            await merges.merge(other, [admin], OPERATOR, dry_run=False)
        await world.add(Role.ADMIN)
        await merges.merge(other, [admin], OPERATOR, dry_run=False)


async def test_acts_on_nobody_on_the_erased_and_without_a_reason_are_refused(world: World) -> None:
    erased = await world.add(erased_at=world.clock())
    refusals: list[tuple[Act, type[SafeVideoError]]] = [
        (world.act(999), UserNotFound),
        (world.act(erased), InvalidStatusTransition),
        (Act(erased, OPERATOR, " "), ValidationFailed),
        (Act(erased, OPERATOR, "two\nlines"), ValidationFailed),
    ]
    for act, error in refusals:
        with pytest.raises(error):
            await world.rights.suspend(act)


async def test_further_effect_that_fails_takes_the_act_back(world: World) -> None:
    other = await world.add()

    async def fail(_tx: object, _listed: ListedAccount) -> None:
        raise ValidationFailed("no")

    with pytest.raises(ValidationFailed):
        await world.rights.suspend(Act(other, OPERATOR, "ticket", None, fail))
    assert await world.role_of(other) is Role.PERFORMER
    assert await world.audited(other) == []
