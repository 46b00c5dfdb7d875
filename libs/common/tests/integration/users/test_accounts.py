"""How an identity finds its account: by itself, by Sharegram's id, by e-mail, or not at all."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import insert, select, text

from safevideo_common.audit.store import AuditEntry, Caller
from safevideo_common.auth.api_keys import Role
from safevideo_common.database.engine import Database
from safevideo_common.database.tables import user_identities, users
from safevideo_common.errors import SsoAuthFailed, UserMappingConflict
from safevideo_common.users.account import Account
from safevideo_common.users.accounts import CACHE_SECONDS, UserAccounts
from safevideo_common.users.store import Identity
from safevideo_testkit.accounts import set_columns
from safevideo_testkit.eventually import FakeClock

SHAREGRAM, OTHER = "https://sharegram.example", "https://other.example"
NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
GUIDE = text("SELECT email, COUNT(*) FROM users GROUP BY email HAVING COUNT(*) > 1")


def identity(subject: str = "sg_1", email: str | None = "jane@example.com", **fields: object) -> Identity:
    known: dict[str, object] = {"provider": "sharegram", "issuer": SHAREGRAM, "is_email_verified": True}
    return Identity(subject=subject, email=email, **(known | fields))  # type: ignore[arg-type]  # a test names fields


def other(subject: str = "sg_1", email: str | None = "jane@example.com", **fields: object) -> Identity:
    return identity(subject, email, provider="firebase", issuer=OTHER, **fields)


async def add_user(database: Database, **fields: object) -> int:
    row = {"email": "jane@example.com", "role": "performer", "created_at": NOW, "updated_at": NOW, **fields}
    async with database.transaction() as tx:
        result = await tx.execute(insert(users).values(row))
    assert result.inserted_primary_key is not None
    return int(result.inserted_primary_key[0])


@pytest.fixture
def accounts(database: Database) -> UserAccounts:
    return UserAccounts(database, FakeClock())


async def sign_in(accounts: UserAccounts, who: Identity, *, may_link: bool = True) -> Account:
    return await accounts.sign_in(who, may_link=may_link)


async def role_of(accounts: UserAccounts, user_id: int, generation: str = "") -> Role | None:
    rights = await accounts.rights_of(user_id, generation)
    return None if rights is None else rights.role


async def count_users(database: Database) -> int:
    async with database.read_connection() as connection:
        return len((await connection.execute(select(users.c.id))).all())


async def test_first_sign_in_makes_an_account_that_later_ones_find(accounts: UserAccounts, database: Database) -> None:
    user = await sign_in(accounts, identity(username="jane", display_name="Jane"))
    assert (user.email, user.role, user.sharegram_id) == ("jane@example.com", Role.PERFORMER, "sg_1")
    assert (user.username, user.is_email_verified, user.has_identity) == ("jane", True, True)
    assert user.members[user.id].last_sign_in_at is not None
    assert (await sign_in(accounts, identity())).id == user.id
    assert await count_users(database) == 1


async def test_later_change_of_the_email_never_remaps(accounts: UserAccounts, database: Database) -> None:
    mine = await sign_in(accounts, identity())
    theirs = await add_user(database, email="ann@example.com")
    again = await sign_in(accounts, identity(email="ann@example.com"))
    assert (again.id, again.email) == (mine.id, "jane@example.com")
    assert again.id != theirs


@pytest.mark.parametrize("subject", ["SG_1", "sg_1 ", "sg_\u0661", "s\u0301g_1"])
async def test_identities_are_compared_byte_for_byte(accounts: UserAccounts, subject: str) -> None:
    first = await sign_in(accounts, identity(email=None))
    assert (await sign_in(accounts, identity(subject, email=None))).id != first.id


async def test_same_subject_of_another_issuer_is_somebody_else(accounts: UserAccounts, database: Database) -> None:
    by_id = await add_user(database, email="x@example.com", sharegram_id="sg_1")
    assert (await sign_in(accounts, other(email=None))).id != by_id
    assert (await sign_in(accounts, identity(email=None))).id == by_id


async def test_account_with_this_sharegram_id_is_found_whatever_its_email(
    accounts: UserAccounts, database: Database
) -> None:
    mine = await add_user(database, email="old@example.com", sharegram_id="sg_1", role="admin")
    await add_user(database, email="jane@example.com")
    assert (await sign_in(accounts, identity())).id == mine


async def test_two_accounts_with_one_sharegram_id_are_a_conflict(accounts: UserAccounts, database: Database) -> None:
    for email in ("a@example.com", "b@example.com"):
        await add_user(database, email=email, sharegram_id="sg_1")
    with pytest.raises(UserMappingConflict):
        await sign_in(accounts, identity())


async def test_verified_email_links_an_account_that_nobody_has(accounts: UserAccounts, database: Database) -> None:
    account = await add_user(database, email="JANE@Example.com")
    user = await sign_in(accounts, identity())
    assert (user.id, user.sharegram_id, user.is_email_verified) == (account, "sg_1", True)


@pytest.mark.parametrize(
    ("account", "who", "may_link"),
    [
        ({}, identity(is_email_verified=False), True),
        ({}, identity(), False),
        ({"role": "moderator"}, identity(), True),
        ({"role": "auditor"}, identity(), True),
        ({"role": "admin"}, identity(), True),
        ({"is_email_verified": False}, identity(), True),
        ({"sharegram_id": "sg_other"}, identity(), True),
    ],
    ids=["unverified", "may not link", "moderator", "auditor", "admin", "account unverified", "has an identity"],
)
async def test_email_alone_does_not_open_an_account(
    accounts: UserAccounts, database: Database, account: dict[str, object], who: Identity, may_link: bool
) -> None:
    await add_user(database, **account)
    with pytest.raises(UserMappingConflict):
        await sign_in(accounts, who, may_link=may_link)
    assert await count_users(database) == 1


async def test_email_of_several_accounts_is_a_conflict(accounts: UserAccounts, database: Database) -> None:
    for email in ("jane@example.com", "Jane@example.com"):
        await add_user(database, email=email)
    with pytest.raises(UserMappingConflict):
        await sign_in(accounts, identity())


async def test_account_of_another_provider_is_not_linked_by_email(accounts: UserAccounts) -> None:
    await sign_in(accounts, other())
    with pytest.raises(UserMappingConflict):
        await sign_in(accounts, identity())


@pytest.mark.parametrize("email", ["j\u00e4ne@example.com", "jane@example.com ", "jan\u212a@example.com"])
async def test_emails_that_look_alike_are_not_equal(accounts: UserAccounts, database: Database, email: str) -> None:
    account = await add_user(database, email=email)
    assert (await sign_in(accounts, identity(email="jane@example.com"))).id != account


async def test_accounts_without_an_email_are_no_duplicates(accounts: UserAccounts, database: Database) -> None:
    people = [await sign_in(accounts, identity(f"sg_{number}", email=None)) for number in range(3)]
    assert [user.email for user in people] == [None, None, None]
    async with database.read_connection() as connection:
        assert (await connection.execute(GUIDE)).all() == []


async def test_first_sign_ins_at_once_make_one_account(accounts: UserAccounts, database: Database) -> None:
    found = await asyncio.gather(*(sign_in(accounts, identity()) for _ in range(5)))
    assert len({user.id for user in found}) == 1
    assert await count_users(database) == 1
    async with database.read_connection() as connection:
        assert len((await connection.execute(select(user_identities.c.id))).all()) == 1


async def test_first_sign_ins_of_two_identities_with_one_email_never_share_an_account(
    accounts: UserAccounts, database: Database
) -> None:
    both = await asyncio.gather(sign_in(accounts, identity()), sign_in(accounts, other("u1")), return_exceptions=True)
    assert sorted(type(each).__name__ for each in both) == ["Account", "UserMappingConflict"]
    assert await count_users(database) == 1


async def test_role_is_read_again_after_a_second(database: Database) -> None:
    clock = FakeClock()
    accounts = UserAccounts(database, clock)
    user_id = await add_user(database, role="admin")
    assert await role_of(accounts, user_id) is Role.ADMIN
    async with database.transaction() as tx:
        await tx.execute(text("UPDATE users SET role = 'nonsense'"))
    assert await role_of(accounts, user_id) is Role.ADMIN
    clock.advance(CACHE_SECONDS)
    assert await role_of(accounts, user_id) is Role.USER
    clock.advance(-timedelta(hours=1))
    assert await role_of(accounts, user_id) is Role.USER
    assert await role_of(accounts, 999) is None


async def test_session_of_a_former_account_opens_no_other_one_with_its_id(database: Database) -> None:
    """A restored backup, or a replica that was behind, gives an id twice."""
    accounts = UserAccounts(database, FakeClock())
    ann = await sign_in(accounts, identity("sg_ann", None))
    assert await role_of(accounts, ann.id, ann.generation) is Role.PERFORMER
    async with database.transaction() as tx:
        await tx.execute(user_identities.delete())
        await tx.execute(users.delete().where(users.c.id == ann.id))
    accounts = UserAccounts(database, FakeClock())
    ben = await sign_in(accounts, identity("sg_ben", None))
    await set_columns(database, ben.id, id=ann.id)
    assert await role_of(accounts, ann.id, ann.generation) is None
    assert await role_of(accounts, ann.id, ben.generation) is Role.PERFORMER


async def test_sessions_end_everywhere_with_a_new_generation_and_its_entry(database: Database) -> None:
    clock = FakeClock()
    here, elsewhere = UserAccounts(database, clock), UserAccounts(database, clock)
    ann = await sign_in(here, identity())
    assert [await role_of(each, ann.id, ann.generation) for each in (here, elsewhere)] == [Role.PERFORMER] * 2
    caller = Caller("user:1", "performer", None, "r1")
    await here.end_sessions(ann.id, caller.entry("sessions.ended", clock, {}, f"user:{ann.id}"))
    assert await role_of(here, ann.id, ann.generation) is None
    clock.advance(CACHE_SECONDS)
    assert await role_of(elsewhere, ann.id, ann.generation) is None
    again = await sign_in(elsewhere, identity())
    assert await role_of(elsewhere, ann.id, again.generation) is Role.PERFORMER


async def test_suspended_person_has_no_rights_and_cannot_sign_in(accounts: UserAccounts, database: Database) -> None:
    ann = await sign_in(accounts, identity())
    await set_columns(database, ann.id, suspended_at=NOW)
    accounts.forget(ann.id)
    assert await role_of(accounts, ann.id, ann.generation) is None
    with pytest.raises(SsoAuthFailed) as refused:
        await sign_in(accounts, identity())
    assert refused.value.details == {"reason": "suspended"}


async def test_role_ends_at_its_time(database: Database) -> None:
    clock = FakeClock()
    accounts = UserAccounts(database, clock)
    until = clock() + timedelta(hours=1)
    user_id = await add_user(database, role="moderator", role_ends_at=until, role_afterwards="user")
    assert await role_of(accounts, user_id) is Role.MODERATOR
    clock.advance(timedelta(hours=1))
    assert await role_of(accounts, user_id) is Role.USER


async def test_audit_entry_of_a_sign_in_is_in_its_transaction(accounts: UserAccounts, database: Database) -> None:
    def refused(_account: Account) -> AuditEntry:
        raise RuntimeError

    with pytest.raises(RuntimeError):
        await accounts.sign_in(identity(), may_link=True, audit=refused)
    assert await count_users(database) == 0
