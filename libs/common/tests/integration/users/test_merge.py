"""Merges of duplicate accounts: what moves, what wins, what is refused, and how a merge is reversed."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import insert, text

from safevideo_common.audit import store as audit_store
from safevideo_common.audit.store import AuditFilter, Caller
from safevideo_common.auth.api_keys import Role
from safevideo_common.auth.sessions import NewSession, SessionStore, UserSession
from safevideo_common.cache.redis import open_redis
from safevideo_common.database.engine import Database
from safevideo_common.database.tables import metadata, users
from safevideo_common.errors import InvalidStatusTransition, UserNotFound, ValidationFailed
from safevideo_common.privacy.erasure import Erasures
from safevideo_common.users import store
from safevideo_common.users.account import Account, account_of
from safevideo_common.users.accounts import CACHE_SECONDS, UserAccounts
from safevideo_common.users.merge import REFERENCES, REPETITION, UserChanges, UserMerges
from safevideo_common.users.store import Identity, User
from safevideo_testkit.accounts import set_columns
from safevideo_testkit.eventually import FakeClock

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
CALLER = Caller("ann", "admin", "192.0.2.1", "r1")
GUIDE = text("SELECT email, COUNT(*) FROM users GROUP BY email HAVING COUNT(*) > 1")


class World:
    """Accounts, and merges of them."""

    def __init__(self, database: Database, sessions: SessionStore) -> None:
        self.clock = FakeClock()
        self.database, self.sessions = database, sessions
        self.accounts = UserAccounts(database, self.clock)
        self.merges = UserMerges(database, sessions, self.clock)

    async def add(
        self, subject: str, email: str | None = None, *, provider: str = "sharegram", **values: object
    ) -> int:
        self.clock.advance(timedelta(minutes=1))
        who = Identity(provider, f"https://{provider}.example", subject, None, False, subject, subject.upper())
        user = await self.accounts.sign_in(who, may_link=False)
        if email is not None:
            values["email"] = email  # as an import of the accounts has left it
        await set_columns(self.database, user.id, updated_at=self.clock(), **values)
        return user.id

    async def imported(self, **values: object) -> int:
        """Add an account that nobody has signed in with yet."""
        self.clock.advance(timedelta(minutes=1))
        row = {"email": store.placeholder(), "role": "performer", "created_at": self.clock(), **values}
        async with self.database.transaction() as tx:
            return int((await tx.execute(insert(users).values(row | {"updated_at": self.clock()}))).lastrowid)

    async def user(self, user_id: int) -> User:
        async with self.database.read_connection() as connection:
            user = await store.get(connection, user_id)
        assert user is not None
        return user

    async def account(self, user_id: int) -> Account:
        async with self.database.read_connection() as connection:
            return account_of(user_id, await store.members_of(connection, [user_id]), self.clock())

    async def sign_in(self, subject: str, provider: str = "sharegram") -> int:
        who = Identity(provider, f"https://{provider}.example", subject)
        return (await self.accounts.sign_in(who, may_link=False)).id

    async def merge(self, primary_id: int, *duplicate_ids: int) -> UserChanges:
        return await self.merges.merge(primary_id, duplicate_ids, CALLER, dry_run=False)

    async def unmerge(self, duplicate_id: int) -> UserChanges:
        return await self.merges.unmerge(duplicate_id, CALLER, dry_run=False)

    async def session(self, user_id: int) -> UserSession:
        now, account = await self.sessions.now(), await self.account(user_id)
        issuer = "https://sharegram.example"
        new = NewSession(user_id, account.generation, "sharegram", issuer, f"sg_{user_id}", None, now, now)
        created = await self.sessions.create(new)
        assert created is not None
        return created[0]

    async def opens(self, session: UserSession) -> bool:
        self.clock.advance(CACHE_SECONDS)
        return await self.accounts.rights_of(session.user_id, session.generation) is not None

    async def duplicates(self) -> list[list[int]]:
        async with self.database.read_connection() as connection:
            groups, total = await store.find_duplicates(connection, page=1, limit=20)
            assert len((await connection.execute(GUIDE)).all()) == total
        return [[user.id for user in group] for group in groups]


@pytest.fixture
async def world(database: Database, redis_url: str) -> AsyncIterator[World]:
    async with open_redis(redis_url, 2, seconds=5) as redis:
        yield World(database, SessionStore(redis, seconds=5))


async def test_merge_moves_identities_and_the_newest_profile(world: World) -> None:
    primary = await world.add("a", "jane@example.com", provider="firebase")
    duplicates = [await world.add("b", "Jane@example.com"), await world.add("c", "jane@example.com", provider="other")]
    assert await world.duplicates() == [[primary, *duplicates]]
    session = await world.session(duplicates[0])
    assert await world.opens(session)

    preview = await world.merges.merge(primary, duplicates, CALLER, dry_run=True)
    assert (await world.user(duplicates[0])).merged_into is None
    changes = await world.merges.merge(primary, duplicates, CALLER, dry_run=False)
    assert (preview.moved, preview.fields, preview.role) == (changes.moved, changes.fields, changes.role)
    assert changes.moved == {"user_identities.user_id": 2}

    account = await world.account(primary)
    assert (account.username, account.display_name, account.sharegram_id) == ("c", "C", "b")
    assert [await world.sign_in("a", "firebase"), await world.sign_in("b"), await world.sign_in("c", "other")] == [
        primary
    ] * 3
    assert [(await world.user(each)).merged_into for each in duplicates] == [primary, primary]
    assert not await world.opens(session)
    assert await world.sessions.find(session.id) is None
    assert await world.duplicates() == []


async def test_merge_never_raises_a_role(world: World) -> None:
    await world.add("somebody stays one", role="admin")
    primary, admin = await world.add("a"), await world.add("b", role="admin")
    assert (await world.merges.merge(primary, [admin], CALLER, dry_run=False)).role is Role.PERFORMER
    lower = await world.add("c", role="user")
    boss = await world.add("d", role="admin")
    assert (await world.merges.merge(boss, [lower], CALLER, dry_run=False)).role is Role.USER
    assert ((await world.account(boss)).role, (await world.user(boss)).role) == (Role.USER, Role.ADMIN)


async def test_merge_of_a_primary_account_brings_along_what_was_merged_into_it(world: World) -> None:
    first, second, third = await world.add("a"), await world.add("b"), await world.add("c")
    await world.merges.merge(second, [first], CALLER, dry_run=False)
    await world.merges.merge(third, [second], CALLER, dry_run=False)
    assert [await world.sign_in(subject) for subject in "abc"] == [third] * 3
    assert (await world.unmerge(second)).moved == {"user_identities.user_id": 2, "users.merged_into": 1}
    assert [await world.sign_in(subject) for subject in "abc"] == [second, second, third]


async def test_merge_that_names_nobody_or_a_merged_account_changes_nothing(world: World) -> None:
    primary, duplicate, other = await world.add("a"), await world.add("b"), await world.add("c")
    await world.merges.merge(primary, [duplicate], CALLER, dry_run=False)
    for ids, error in (
        ([other, 999], UserNotFound),
        ([other, duplicate], InvalidStatusTransition),
        ([primary], ValidationFailed),
        ([], ValidationFailed),
        (range(100, 200), ValidationFailed),
    ):
        with pytest.raises(error):
            await world.merges.merge(primary, list(ids), CALLER, dry_run=False)
    with pytest.raises(InvalidStatusTransition):
        await world.merges.merge(duplicate, [other], CALLER, dry_run=False)
    assert (await world.user(other)).merged_into is None


async def test_of_two_merges_at_once_one_wins(world: World) -> None:
    first, second, duplicate = await world.add("a"), await world.add("b"), await world.add("c")
    done = await asyncio.gather(
        world.merges.merge(first, [duplicate], CALLER, dry_run=False),
        world.merges.merge(second, [duplicate], CALLER, dry_run=False),
        return_exceptions=True,
    )
    assert sorted(type(each).__name__ for each in done) == ["InvalidStatusTransition", "UserChanges"]


async def test_merges_that_name_each_other_do_not_deadlock(world: World) -> None:
    first, second = await world.add("a"), await world.add("b")
    done = await asyncio.gather(
        world.merges.merge(first, [second], CALLER, dry_run=False),
        world.merges.merge(second, [first], CALLER, dry_run=False),
        return_exceptions=True,
    )
    assert sorted(type(each).__name__ for each in done) == ["InvalidStatusTransition", "UserChanges"]


async def test_merge_and_unmerge_are_in_the_audit_log_without_personal_data(world: World) -> None:
    primary, duplicate = await world.add("a", "jane@example.com"), await world.add("b", "jane@example.com")
    await world.merges.merge(primary, [duplicate], CALLER, dry_run=True)
    await world.merges.merge(primary, [duplicate], CALLER, dry_run=False)
    await world.merges.unmerge(duplicate, CALLER, dry_run=False)
    async with world.database.read_connection() as connection:
        records, _ = await audit_store.find(connection, AuditFilter(), page=1, limit=10, order="asc")
    assert [(each.entry.action, each.entry.target) for each in records] == [
        (action, f"user:{user_id}") for action in ("users.merged", "users.unmerged") for user_id in (primary, duplicate)
    ]
    assert records[0].entry.details["duplicateUserIds"] == [duplicate]
    assert "jane" not in str(records)


async def test_unmerge_restores_both_accounts(world: World) -> None:
    primary = await world.add("a", provider="firebase")
    duplicate = await world.add("b", "jane@example.com", role="user", is_email_verified=True)
    before = [await world.account(primary), await world.account(duplicate)]
    await world.merge(primary, duplicate)
    merged = await world.account(primary)
    assert (merged.email, merged.is_email_verified, merged.role) == ("jane@example.com", True, Role.USER)

    preview = await world.merges.unmerge(duplicate, CALLER, dry_run=True)
    assert (preview.moved, preview.not_moved) == ({"user_identities.user_id": 1}, [])
    assert (await world.user(duplicate)).merged_into == primary
    done = await world.unmerge(duplicate)
    assert (done.fields, done.role) == (
        ["display_name", "email", "is_email_verified", "role", "sharegram_id", "username"], Role.PERFORMER,
    )  # fmt: skip
    for old, new in zip(before, [await world.account(primary), await world.account(duplicate)], strict=True):
        for name in ("email", "is_email_verified", "username", "display_name", "sharegram_id", "role", "has_identity"):
            assert getattr(new, name) == getattr(old, name), name
    assert [await world.sign_in("a", "firebase"), await world.sign_in("b")] == [primary, duplicate]
    with pytest.raises(UserNotFound):
        await world.merges.unmerge(999, CALLER, dry_run=True)


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
async def test_unmerging_one_of_several_raises_no_role(world: World, order: tuple[int, int]) -> None:
    await world.add("somebody stays one", role="admin")
    admin = await world.add("a", role="admin")
    duplicates = [await world.add("b", role="user"), await world.add("c", role="user")]
    await world.merge(admin, *duplicates)
    await world.unmerge(duplicates[order[0]])
    assert (await world.account(admin)).role is Role.USER
    await world.unmerge(duplicates[order[1]])
    assert (await world.account(admin)).role is Role.ADMIN
    assert [(await world.account(each)).role for each in duplicates] == [Role.USER, Role.USER]


async def test_unmerge_ends_all_sessions_of_both_also_without_redis(database: Database) -> None:
    """A person whose account is taken out of another's must not go on as the other."""
    async with open_redis("redis://127.0.0.1:1", 2, seconds=1) as away:
        world = World(database, SessionStore(away, seconds=1))
        primary, duplicate = await world.add("a", role="moderator"), await world.add("b")
        await world.merge(primary, duplicate)
        as_both = UserSession("s", primary, (await world.account(primary)).generation, "sharegram", NOW, NOW, b"")
        assert await world.opens(as_both)
        await world.unmerge(duplicate)
        assert not await world.opens(as_both)


async def test_first_sign_in_between_merge_and_unmerge_goes_along_with_its_account(world: World) -> None:
    boss = await world.add("a", role="moderator")
    duplicate = await world.imported(sharegram_id="b")
    await world.merge(boss, duplicate)
    assert await world.sign_in("b") == boss
    await world.unmerge(duplicate)
    assert [await world.sign_in("a"), await world.sign_in("b")] == [boss, duplicate]
    assert [(await world.account(each)).role for each in (boss, duplicate)] == [Role.MODERATOR, Role.PERFORMER]


async def test_first_sign_in_by_email_to_a_merged_import_is_bound_to_the_import(world: World) -> None:
    primary = await world.add("a", "ann@example.com")
    duplicate = await world.imported(email="eve@example.com")
    await world.merge(primary, duplicate)
    eve = Identity("firebase", "https://firebase.example", "eve", "eve@example.com", True)
    assert (await world.accounts.sign_in(eve, may_link=True)).id == primary
    await world.unmerge(duplicate)
    assert (await world.accounts.sign_in(eve, may_link=True)).id == duplicate
    assert await world.duplicates() == []


async def test_repeated_merge_and_unmerge_answer_as_the_first_did(world: World) -> None:
    """The answer of a commit may be lost: then its caller asks again."""
    primary, duplicate = await world.add("a"), await world.add("b")
    assert await world.merge(primary, duplicate) == await world.merge(primary, duplicate)
    first = await world.unmerge(duplicate)
    assert await world.unmerge(duplicate) == first
    with pytest.raises(InvalidStatusTransition):
        await world.merges.unmerge(duplicate, CALLER._replace(name="bob"), dry_run=False)
    world.clock.advance(REPETITION)
    with pytest.raises(InvalidStatusTransition):
        await world.unmerge(duplicate)


async def test_merge_and_unmerge_are_refused_until_an_order_to_erase_has_ended(world: World) -> None:
    primary, duplicate, third = await world.add("a"), await world.add("b"), await world.add("c")
    await world.merge(primary, duplicate)
    order = await Erasures(world.database, world.clock).order(duplicate, "request 7", CALLER)
    for act in (world.merge(third, primary), world.merge(primary, third), world.unmerge(duplicate)):
        with pytest.raises(InvalidStatusTransition) as refused:
            await act
        assert refused.value.details == {"orderId": order.order_id}


async def test_what_came_since_a_merge_stays_and_is_listed(world: World) -> None:
    primary, duplicate = await world.add("a", provider="firebase"), await world.add("b")
    await world.merge(primary, duplicate)
    world.clock.advance(timedelta(minutes=1))
    await set_columns(world.database, primary, sharegram_id="c", display_name="Jane herself", updated_at=world.clock())
    assert await world.sign_in("c") == primary
    changes = await world.unmerge(duplicate)
    assert [each.startswith("user_identities.user_id of row ") for each in changes.not_moved] == [True]
    assert (await world.account(primary)).display_name == "Jane herself"
    assert await world.sign_in("c") == primary


def test_merge_knows_every_column_that_refers_to_a_user() -> None:
    named = {
        column
        for table in metadata.tables.values()
        for column in table.columns
        if column.name == "user_id" or column.name.endswith("_user_id") or column.name == "merged_into"
    }
    keyed = {
        each.parent for table in metadata.tables.values() for each in table.foreign_keys if each.column.table is users
    }
    assert named | keyed == set(REFERENCES)
