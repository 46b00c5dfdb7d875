"""Accounts found by what somebody knows of a person, filtered and paged."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import insert

from safevideo_common.audit.store import Caller
from safevideo_common.auth.api_keys import Role
from safevideo_common.auth.session_uses import SessionUses
from safevideo_common.auth.sessions import NewSession, SessionStore
from safevideo_common.cache.redis import open_redis
from safevideo_common.clock import rfc3339
from safevideo_common.database.engine import Database
from safevideo_common.database.kyc_requests import insert_request
from safevideo_common.database.tables import legal_hold_subjects, user_identities, users
from safevideo_common.domain.kyc import KycStatus
from safevideo_common.privacy.erasure import Erasures
from safevideo_common.privacy.holds import LegalHolds
from safevideo_common.users.account_details import details_document, find_details, find_sessions
from safevideo_common.users.accounts import UserAccounts
from safevideo_common.users.directory import AccountFilter, AccountState, find_accounts
from safevideo_common.users.merge import UserMerges
from safevideo_common.users.rights import Act, RoleGrant, UserRights
from safevideo_common.users.store import Identity
from safevideo_devstack.backends.ports import free_port
from safevideo_testkit.eventually import FakeClock

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
DAY = timedelta(days=1)
CALLER = Caller("root", "cli", None, "r1")
PEOPLE: dict[int, dict[str, object]] = {
    1: {"email": "Jane@example.com", "username": "jane", "role": "admin"},
    2: {"email": "ann@example.com", "sharegram_id": "sg_ann", "role": "moderator", "role_ends_at": NOW - DAY},
    3: {"email": "merged:3", "merged_email": "jane.old@example.com", "merged_into": 1},
    4: {"email": "merged:4", "merged_into": 3, "suspended_at": NOW, "sharegram_id": "sg_4"},
    5: {"email": "erased:5", "erased_at": NOW, "merged_into": 2},
    6: {"email": "none:6", "suspended_at": NOW, "role": "admin", "role_ends_at": NOW, "role_afterwards": "auditor"},
    7: {"email": "seven@example.com", "role": "moderator", "role_ends_at": NOW + DAY},
}


@pytest.fixture
async def people(database: Database) -> None:
    async with database.transaction() as tx:
        for user_id, values in PEOPLE.items():
            await tx.execute(insert(users).values(id=user_id, created_at=NOW, updated_at=NOW, **values))
        for user_id, subject in ((7, "firebase-7"), (2, "sg_ann")):
            row = {"user_id": user_id, "provider": "sharegram", "issuer": "x", "subject": subject, "digest": subject}
            await tx.execute(insert(user_identities).values(**row, created_at=NOW))
        subjects = [
            ("user", "1", None),
            ("performer", "sg_4", None),
            ("identity", "firebase-7", None),
            ("user", "6", NOW),
        ]
        for number, (kind, identifier, released_at) in enumerate(subjects):
            row = {"hold_id": number, "kind": kind, "identifier": identifier, "released_at": released_at}
            await tx.execute(insert(legal_hold_subjects).values(row))


async def found(database: Database, matching: AccountFilter, **page: int) -> list[int]:
    async with database.read_connection() as reading:
        listed, total = await find_accounts(
            reading, matching, NOW, page=1, limit=page.get("limit", 20), order="asc", after=page.get("after")
        )
    if "limit" not in page:
        assert total == len(listed)
    return [each.user.id for each in listed]


@pytest.mark.usefixtures("people")
@pytest.mark.parametrize(
    ("matching", "ids"),
    [
        (AccountFilter(), [1, 2, 3, 4, 5, 6, 7]),
        (AccountFilter(search="7"), [7]),
        (AccountFilter(search="jane@EXAMPLE.com"), [1]),
        (AccountFilter(search="jane.old@example.com"), [3]),
        (AccountFilter(search="jane"), [1]),
        (AccountFilter(search="sg_ann"), [2]),
        (AccountFilter(search="firebase-7"), [7]),
        (AccountFilter(search="%"), []),
        (AccountFilter(search="9" * 200), []),
        (AccountFilter(role=Role.ADMIN), [1]),
        (AccountFilter(role=Role.MODERATOR), [7]),
        (AccountFilter(role=Role.AUDITOR), [6]),
        (AccountFilter(role=Role.PERFORMER), [2, 3, 4, 5]),
        (AccountFilter(state=AccountState.ACTIVE), [2, 7]),
        (AccountFilter(state=AccountState.SUSPENDED), [1, 6]),
        (AccountFilter(state=AccountState.MERGED), [3, 4]),
        (AccountFilter(state=AccountState.ERASED), [5]),
        (AccountFilter(has_merged=True), [1, 2, 3]),
        (AccountFilter(has_merged=False, role=Role.PERFORMER), [4, 5]),
        (AccountFilter(is_held=True), [1, 4, 7]),
        (AccountFilter(is_held=False, state=AccountState.SUSPENDED), [6]),
    ],
    ids=str,
)
async def test_accounts_are_found_by(database: Database, matching: AccountFilter, ids: list[int]) -> None:
    assert await found(database, matching) == ids


@pytest.mark.usefixtures("people")
async def test_pages_go_on_behind_the_last_account(database: Database) -> None:
    assert await found(database, AccountFilter(), limit=3) == [1, 2, 3]
    assert await found(database, AccountFilter(), limit=3, after=3) == [4, 5, 6]
    assert await found(database, AccountFilter(), limit=3, after=7) == []


@pytest.mark.usefixtures("people")
async def test_account_is_shown_with_what_it_is_merged_with(database: Database) -> None:
    async with database.read_connection() as reading:
        listed, _ = await find_accounts(reading, AccountFilter(), NOW, page=1, limit=4, order="asc")
    states = [(each.user.id, each.state, each.whole.id, each.whole.role, each.merged_ids) for each in listed]
    assert states == [
        (1, "suspended", 1, Role.PERFORMER, [3, 4]),
        (2, "active", 2, Role.PERFORMER, [5]),
        (3, "merged", 1, Role.PERFORMER, [4]),
        (4, "merged", 1, Role.PERFORMER, []),
    ]


async def test_details_have_all_that_belongs_to_the_person(database: Database, redis_url: str) -> None:
    clock = FakeClock()
    accounts, rights = UserAccounts(database, clock), UserRights(database, clock)
    root, member = [
        (await accounts.sign_in(Identity(provider, f"https://{provider}.example", "sg_1"), may_link=False)).id
        for provider in ("firebase", "sharegram")
    ]
    async with database.transaction() as tx:
        await insert_request(tx, "sg_1", "ver_1", KycStatus.IN_PROGRESS, clock())
    await LegalHolds(database, clock).create(member, "case 7", CALLER)
    await LegalHolds(database, clock).release(member, "closed", CALLER)
    await rights.set_role(Act(member, CALLER, "ticket 1"), RoleGrant(Role.MODERATOR))
    async with open_redis(redis_url, 2, seconds=5) as redis:
        sessions, uses = SessionStore(redis, seconds=5), SessionUses(redis, clock)
        await UserMerges(database, sessions, clock).merge(root, [member], CALLER, dry_run=False)
        await Erasures(database, clock).order(member, "request 7", CALLER)
        async with database.read_connection() as reading:
            generation = (await find_details(reading, root, clock())).listed.whole.generation
        for each, provider in ((generation, "firebase"), ("former", "sharegram")):
            now = await sessions.now()
            new = NewSession(root, each, provider, "https://x.example", "s", None, now, now, "192.0.2.7")
            created = await sessions.create(new)
            assert created is not None
            uses.note(created[0].id)
        await uses.write()
        async with database.read_connection() as reading:
            details = await find_details(reading, member, clock())
        document = details_document(details, await find_sessions(sessions, details))
    async with open_redis(f"redis://127.0.0.1:{free_port()}", 2, seconds=0.5) as unavailable:
        assert await find_sessions(SessionStore(unavailable, seconds=0.5), details) is None
    assert (document["userIds"], document["performerIds"]) == ([root, member], ["sg_1"])
    assert (document["account"]["id"], document["account"]["ownRole"], document["account"]["role"]) == (
        member,
        "moderator",
        "performer",
    )
    assert [each["id"] for each in document["members"]] == [root]
    assert [each["provider"] for each in document["identities"]] == ["firebase", "sharegram"]
    (session,) = document["sessions"] or []
    assert (session["provider"], session["address"], session["lastUsedAt"]) == (
        "firebase",
        "192.0.2.7",
        rfc3339(clock()),
    )
    assert [each["reason"] for each in document["orders"]] == ["request 7"]
    assert [each["status"] for each in document["kycRequests"]] == ["in_progress"]
    assert {each["action"] for each in document["changes"]} == {"users.role_changed", "users.merged"}
