"""Merges of duplicate accounts: what moves, what wins, what is refused, and how a merge is reversed."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from sqlalchemy import select, text, update

from safevideo_common.audit import store as audit_store
from safevideo_common.audit.store import AuditFilter, Caller
from safevideo_common.auth.api_keys import Role
from safevideo_common.auth.sessions import NewSession, SessionStore
from safevideo_common.cache.redis import open_redis
from safevideo_common.database.engine import Database
from safevideo_common.database.tables import metadata, user_merges, users
from safevideo_common.errors import InvalidStatusTransition, UserNotFound, ValidationFailed
from safevideo_common.users import store
from safevideo_common.users.accounts import UserAccounts
from safevideo_common.users.merge import REFERENCES, UserMerges
from safevideo_common.users.store import Identity, User
from safevideo_testkit.eventually import FakeClock

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
        async with self.database.transaction() as tx:
            await store.set_values(tx, user.id, updated_at=self.clock(), **values)
        return user.id

    async def user(self, user_id: int) -> User:
        async with self.database.read_connection() as connection:
            user = await store.get(connection, user_id)
        assert user is not None
        return user

    async def sign_in(self, subject: str, provider: str = "sharegram") -> int:
        who = Identity(provider, f"https://{provider}.example", subject)
        return (await self.accounts.sign_in(who, may_link=False)).id

    async def session(self, user_id: int) -> str:
        now = await self.sessions.now()
        new = NewSession(user_id, "sharegram", "https://sharegram.example", f"sg_{user_id}", None, now, now)
        created = await self.sessions.create(new)
        assert created is not None
        return created[0].id

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

    preview = await world.merges.merge(primary, duplicates, CALLER, dry_run=True)
    assert (await world.user(duplicates[0])).merged_into is None
    changes = await world.merges.merge(primary, duplicates, CALLER, dry_run=False)
    assert (preview.moved, preview.fields, preview.role) == (changes.moved, changes.fields, changes.role)
    assert changes.moved == {"user_identities.user_id": 2}

    user = await world.user(primary)
    assert (user.username, user.display_name, user.sharegram_id) == ("c", "C", "b")
    assert [await world.sign_in("a", "firebase"), await world.sign_in("b"), await world.sign_in("c", "other")] == [
        primary
    ] * 3
    assert [(await world.user(each)).merged_into for each in duplicates] == [primary, primary]
    assert await world.accounts.role_of(duplicates[1]) is None
    assert await world.sessions.find(session) is None
    assert await world.duplicates() == []


async def test_merge_never_raises_a_role(world: World) -> None:
    primary, admin = await world.add("a"), await world.add("b", role="admin")
    assert (await world.merges.merge(primary, [admin], CALLER, dry_run=False)).role is Role.PERFORMER
    lower = await world.add("c", role="user")
    boss = await world.add("d", role="admin")
    assert (await world.merges.merge(boss, [lower], CALLER, dry_run=False)).role is Role.USER
    assert (await world.user(boss)).role is Role.USER


async def test_merge_of_a_primary_account_brings_along_what_was_merged_into_it(world: World) -> None:
    first, second, third = await world.add("a"), await world.add("b"), await world.add("c")
    await world.merges.merge(second, [first], CALLER, dry_run=False)
    await world.merges.merge(third, [second], CALLER, dry_run=False)
    assert (await world.user(first)).merged_into == third
    assert [await world.sign_in(subject) for subject in "abc"] == [third] * 3


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
    assert [record.entry.action for record in records] == ["users.merged", "users.unmerged"]
    assert records[0].entry.details["duplicateUserIds"] == [duplicate]
    assert "jane" not in str(records)


async def test_unmerge_restores_both_accounts(world: World) -> None:
    primary = await world.add("a", provider="firebase")
    duplicate = await world.add("b", "jane@example.com", role="user", is_email_verified=True)
    before = [await world.user(primary), await world.user(duplicate)]
    await world.merges.merge(primary, [duplicate], CALLER, dry_run=False)
    merged = await world.user(primary)
    assert (merged.email, merged.is_email_verified, merged.role) == ("jane@example.com", True, Role.USER)

    preview = await world.merges.unmerge(duplicate, CALLER, dry_run=True)
    assert (preview.moved, preview.not_moved) == ({"user_identities.user_id": 1}, [])
    assert (await world.user(duplicate)).merged_into == primary
    await world.merges.unmerge(duplicate, CALLER, dry_run=False)
    after = [await world.user(primary), await world.user(duplicate)]
    for old, new in zip(before, after, strict=True):
        for name in ("email", "username", "display_name", "sharegram_id", "role", "merged_into", "has_identity"):
            assert getattr(new, name) == getattr(old, name), name
    assert [await world.sign_in("a", "firebase"), await world.sign_in("b")] == [primary, duplicate]
    with pytest.raises(InvalidStatusTransition):
        await world.merges.unmerge(duplicate, CALLER, dry_run=False)
    with pytest.raises(UserNotFound):
        await world.merges.unmerge(999, CALLER, dry_run=True)


async def test_unmerge_leaves_what_was_touched_since_and_lists_it(world: World) -> None:
    primary, duplicate, third = await world.add("a"), await world.add("b"), await world.add("c")
    await world.merges.merge(primary, [duplicate], CALLER, dry_run=False)
    async with world.database.transaction() as tx:
        await tx.execute(update(users).where(users.c.id == primary).values(display_name="Jane herself"))
        (moved,) = (await tx.execute(select(user_merges.c.moved))).scalars()
        (row_id,) = moved["rows"]["user_identities.user_id"]
        await tx.execute(text(f"UPDATE user_identities SET user_id = {third} WHERE id = {row_id}"))
    changes = await world.merges.unmerge(duplicate, CALLER, dry_run=False)
    assert set(changes.not_moved) == {f"user_identities.user_id of row {row_id}", f"users.display_name of {primary}"}
    assert (await world.user(primary)).display_name == "Jane herself"


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
