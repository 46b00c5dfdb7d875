"""Accounts found by what somebody knows of a person, filtered and paged."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import insert

from safevideo_common.auth.api_keys import Role
from safevideo_common.database.engine import Database
from safevideo_common.database.tables import legal_hold_subjects, user_identities, users
from safevideo_common.users.directory import AccountFilter, AccountState, find_accounts

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
DAY = timedelta(days=1)
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
