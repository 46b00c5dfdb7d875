"""Roles that wait for a first sign-in, and roles that a provider claims."""

import asyncio
from datetime import timedelta

import pytest
from sqlalchemy import insert, select

from safevideo_common.audit.store import Caller
from safevideo_common.auth.api_keys import Role
from safevideo_common.database.engine import Database
from safevideo_common.database.tables import role_grants, users
from safevideo_common.errors import NotFound, SafeVideoError, UserMappingConflict, ValidationFailed
from safevideo_common.users.accounts import UserAccounts
from safevideo_common.users.rights import Act, RoleGrant, UserRights
from safevideo_common.users.role_grants import PENDING, RoleGrants, delete_ended, find_pending
from safevideo_common.users.store import Identity
from safevideo_testkit.eventually import FakeClock

OPERATOR = Caller("root", "cli", None, "r1")
EMAIL = "boss@example.com"
ADMIN = RoleGrant(Role.ADMIN)


class World:
    """Grants, and sign-ins of people."""

    def __init__(self, database: Database) -> None:
        self.clock = FakeClock()
        self.database = database
        self.grants = RoleGrants(database, self.clock)
        self.rights = UserRights(database, self.clock)
        self.accounts = UserAccounts(database, self.clock)

    async def add(self, email: str = EMAIL, grant: RoleGrant = ADMIN) -> None:
        await self.grants.add(email, grant, "first admin", OPERATOR)

    async def sign_in(
        self, subject: str = "sg_boss", email: str | None = EMAIL, *, verified: bool = True, may_link: bool = True,
        provider: str = "sharegram", claimed_role: Role | None = None,
    ) -> tuple[int, Role]:  # fmt: skip
        who = Identity(provider, f"https://{provider}.example", subject, email, verified, claimed_role=claimed_role)
        account = await self.accounts.sign_in(who, may_link=may_link)
        return account.id, account.role

    async def waiting(self) -> list[str]:
        async with self.database.read_connection() as reading:
            return [each.email for each in await find_pending(reading, self.clock())]

    async def imported(self, **values: object) -> int:
        row = {"email": EMAIL, "created_at": self.clock(), "updated_at": self.clock(), **values}
        async with self.database.transaction() as tx:
            return int((await tx.execute(insert(users).values(row))).lastrowid)


@pytest.fixture
def world(database: Database) -> World:
    return World(database)


async def test_role_waits_for_the_first_sign_in_with_a_verified_email(world: World) -> None:
    await world.add("Boss@Example.com")
    assert await world.waiting() == ["Boss@Example.com"]
    assert (await world.sign_in())[1] is Role.ADMIN
    assert await world.waiting() == []
    assert (await world.sign_in("sg_other", "other@example.com"))[1] is Role.PERFORMER
    async with world.database.read_connection() as reading:
        assert "example.com" not in str((await reading.execute(select(role_grants))).all())


@pytest.mark.parametrize(
    "sign_in",
    [
        {"verified": False},
        {"may_link": False},
        {"email": "b\u00f6ss@example.com"},
        {"email": f"{EMAIL} "},
        {"email": None},
    ],
    ids=str,
)
async def test_email_that_is_not_proven_gets_no_role(world: World, sign_in: dict[str, bool | str | None]) -> None:
    await world.add()
    assert (await world.sign_in(**sign_in))[1] is Role.PERFORMER  # type: ignore[arg-type]  # names of its parameters
    assert await world.waiting() == [EMAIL]


async def test_role_waits_for_a_week_and_not_after_it_was_revoked(world: World) -> None:
    await world.add()
    await world.add(grant=RoleGrant(Role.MODERATOR))
    assert await world.waiting() == [EMAIL]
    world.clock.advance(PENDING)
    assert await world.waiting() == []
    async with world.database.transaction() as tx:
        assert await delete_ended(tx, world.clock(), 10) == 2
    await world.add()
    await world.grants.revoke(EMAIL, "not yet", OPERATOR)
    with pytest.raises(NotFound):
        await world.grants.revoke(EMAIL, "not yet", OPERATOR)
    assert (await world.sign_in())[1] is Role.PERFORMER


async def test_role_with_an_end_is_not_given_after_it(world: World) -> None:
    await world.add(grant=RoleGrant(Role.ADMIN, world.clock() + timedelta(days=1)))
    world.clock.advance(timedelta(days=1))
    assert (await world.sign_in())[1] is Role.PERFORMER


async def test_imported_account_gets_the_role_as_its_person_links_it(world: World) -> None:
    imported = await world.imported()
    assert await world.grants.account_of_email(EMAIL) is None
    await world.add()
    assert await world.sign_in() == (imported, Role.ADMIN)
    account = await world.grants.account_of_email(EMAIL)
    assert (account is not None and account.id) == imported


async def test_email_that_names_nobody_for_sure_is_refused(world: World) -> None:
    await world.imported(is_email_verified=False)
    with pytest.raises(UserMappingConflict):
        await world.add()
    await world.imported()
    with pytest.raises(UserMappingConflict):
        await world.grants.account_of_email(EMAIL)
    refused: list[tuple[str, str, type[SafeVideoError]]] = [
        ("no address", "why", ValidationFailed),
        ("a@" + "b" * 300, "why", ValidationFailed),
        ("a@example.com", "", ValidationFailed),
    ]
    for email, reason, error in refused:
        with pytest.raises(error):
            await world.grants.add(email, ADMIN, reason, OPERATOR)


async def test_grant_and_first_sign_in_at_once_end_in_the_role(world: World) -> None:
    async def grant() -> None:
        """Grant as the command does."""
        try:
            account = await world.grants.account_of_email(EMAIL)
            if account is None:
                await world.add()
                return
        except SafeVideoError:
            account = await world.grants.account_of_email(EMAIL)
        assert account is not None
        await world.rights.set_role(Act(account.id, OPERATOR, "first admin"), ADMIN)

    await asyncio.gather(world.sign_in(), grant())
    assert (await world.sign_in())[1] is Role.ADMIN


async def test_claim_gives_a_role_until_a_sign_in_without_it(world: World) -> None:
    assert (await world.sign_in(claimed_role=Role.MODERATOR))[1] is Role.MODERATOR
    assert (await world.sign_in(claimed_role=Role.ADMIN))[1] is Role.ADMIN
    user_id, role = await world.sign_in()
    assert role is Role.PERFORMER
    await world.rights.set_role(Act(user_id, OPERATOR, "ticket"), RoleGrant(Role.AUDITOR))
    assert (await world.sign_in(claimed_role=Role.ADMIN))[1] is Role.AUDITOR
    assert (await world.sign_in())[1] is Role.AUDITOR


async def test_claim_counts_again_once_the_role_of_an_admin_has_ended(world: World) -> None:
    user_id, _ = await world.sign_in(claimed_role=Role.MODERATOR)
    until = RoleGrant(Role.ADMIN, world.clock() + timedelta(days=1))
    await world.rights.set_role(Act(user_id, OPERATOR, "ticket"), ADMIN)
    await world.imported(role="admin", email="x@example.com")
    await world.rights.set_role(Act(user_id, OPERATOR, "ticket"), until)
    assert (await world.sign_in())[1] is Role.ADMIN
    world.clock.advance(timedelta(days=1))
    assert (await world.sign_in(claimed_role=Role.MODERATOR))[1] is Role.MODERATOR
    assert (await world.sign_in())[1] is Role.PERFORMER
