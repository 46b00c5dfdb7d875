"""Legal holds: on whom, by whom, and what a merge of accounts does to them."""

from collections.abc import AsyncIterator

import pytest
from sqlalchemy import select, update

from safevideo_common.audit.store import Caller
from safevideo_common.auth.sessions import SessionStore
from safevideo_common.cache.redis import open_redis
from safevideo_common.database import erasures
from safevideo_common.database.engine import Database
from safevideo_common.database.person_locks import PersonLock
from safevideo_common.database.tables import (
    audit_log,
    batch_jobs,
    legal_hold_subjects,
    legal_holds,
    user_identities,
    users,
)
from safevideo_common.errors import (
    InvalidStatusTransition,
    LegalHold,
    PerformerNotFound,
    UserNotFound,
    ValidationFailed,
)
from safevideo_common.privacy.erasure import Erasures
from safevideo_common.privacy.holds import (
    ExportedHold,
    LegalHolds,
    active_holds,
    decode_holds,
    encode_holds,
    require_no_hold,
)
from safevideo_common.users.accounts import UserAccounts
from safevideo_common.users.merge import UserMerges
from safevideo_common.users.person import find_person, person_of_performer
from safevideo_common.users.store import Identity
from safevideo_testkit.eventually import FakeClock

CALLER = Caller("legal", "admin", "192.0.2.1", "r1")


async def account(database: Database, subject: str) -> int:
    who = Identity("sharegram", "https://sharegram.example", subject)
    return (await UserAccounts(database, FakeClock()).sign_in(who, may_link=False)).id


@pytest.fixture
def holds(database: Database) -> LegalHolds:
    return LegalHolds(database, FakeClock())


@pytest.fixture
async def sessions(redis_url: str) -> AsyncIterator[SessionStore]:
    async with open_redis(redis_url, 2, seconds=5) as redis:
        yield SessionStore(redis, seconds=5)


async def test_hold_is_on_the_whole_person_and_says_why(holds: LegalHolds, database: Database) -> None:
    user_id = await account(database, "sg_ada")
    created = await holds.create(user_id, "case 7", CALLER)
    assert (created.user_id, created.performer_id, created.reason, created.placed_by) == (
        user_id,
        "sg_ada",
        "case 7",
        "legal",
    )
    async with database.read_connection() as reading:
        with pytest.raises(LegalHold) as refused:
            await require_no_hold(reading, await person_of_performer(reading, "sg_ada"))
    assert refused.value.details == {"holdIds": [created.id], "reason": "case 7"}
    assert await holds.release("sg_ada", "case 7 is closed", CALLER) == [created]
    async with database.read_connection() as reading:
        await require_no_hold(reading, await find_person(reading, user_id))
        entries = (
            await reading.execute(select(audit_log.c.action, audit_log.c.details).order_by(audit_log.c.id))
        ).all()
    assert [(action, details["reason"]) for action, details in entries] == [
        ("users.hold_placed", "case 7"),
        ("users.hold_released", "case 7 is closed"),
    ]


async def test_hold_stays_with_the_person_whose_accounts_are_merged(
    holds: LegalHolds, database: Database, sessions: SessionStore
) -> None:
    first, second = await account(database, "sg_1"), await account(database, "sg_2")
    created = await holds.create(second, "case 7", CALLER)
    await UserMerges(database, sessions, FakeClock()).merge(first, [second], CALLER, dry_run=False)
    async with database.read_connection() as reading:
        for reference in (first, second, "sg_1", "sg_2"):
            person = await find_person(reading, reference)
            assert (person.user_ids, person.performer_ids) == ((first, second), ("sg_1", "sg_2"))
            assert [each.id for each in await active_holds(reading, person)] == [created.id]


async def test_restored_backup_gets_its_holds_back_once_and_no_released_one(
    holds: LegalHolds, database: Database
) -> None:
    user_id = await account(database, "sg_ada")
    await holds.create(user_id, "case 7", CALLER)
    exported = decode_holds(encode_holds(await holds.export()).encode())
    assert await holds.import_holds(exported, CALLER) == ([], [], [])
    async with database.transaction() as tx:  # as an older backup is: without the hold, and with other account ids
        await tx.execute(legal_hold_subjects.delete())
        await tx.execute(legal_holds.delete())
        await tx.execute(update(user_identities).values(user_id=user_id + 5))
        await tx.execute(update(users).values(id=user_id + 5))
    assert (await holds.import_holds(exported, CALLER)).added == [exported[0].id]
    assert await holds.import_holds(exported, CALLER) == ([], [], [])
    async with database.read_connection() as reading:
        (hold,) = await active_holds(reading, await find_person(reading, user_id + 5))
    assert (hold.reason, hold.placed_by, hold.placed_at) == ("case 7", "legal", exported[0].placed_at)
    await holds.release("sg_ada", "case 7 is closed", CALLER)
    assert await holds.import_holds(exported, CALLER) == ([], [], [])


async def test_imported_hold_is_on_a_performer_that_only_a_later_sync_brings(
    holds: LegalHolds, database: Database
) -> None:
    exported = ExportedHold(3, "case 7", FakeClock()(), "legal", ["sg_new"], [])
    assert (await holds.import_holds([exported], CALLER)).added == [3]
    async with database.read_connection() as reading:
        with pytest.raises(LegalHold):
            await require_no_hold(reading, await person_of_performer(reading, "sg_new"))
    nobody = ExportedHold(4, "case 8", exported.placed_at, "legal", [], ["0" * 64])
    assert await holds.import_holds([nobody], CALLER) == ([], [4], [])


async def test_nobody_is_held_by_mistake(holds: LegalHolds, database: Database) -> None:
    user_id = await account(database, "sg_ada")
    with pytest.raises(UserNotFound):
        await holds.create(user_id + 1, "case 7", CALLER)
    with pytest.raises(PerformerNotFound):
        await holds.create("sg_unknown", "case 7", CALLER)
    for reason in ("", " ", "two\nlines", "x" * 256):
        with pytest.raises(ValidationFailed):
            await holds.create(user_id, reason, CALLER)
    with pytest.raises(InvalidStatusTransition):
        await holds.release(user_id, "case 7 is closed", CALLER)


async def test_hold_on_a_merged_person_stays_on_both_after_the_unmerge(
    holds: LegalHolds, database: Database, sessions: SessionStore
) -> None:
    first, second = await account(database, "sg_1"), await account(database, "sg_2")
    merges = UserMerges(database, sessions, FakeClock())
    await merges.merge(first, [second], CALLER, dry_run=False)
    created = await holds.create(second, "case 7", CALLER)
    await merges.unmerge(second, CALLER, dry_run=False)
    for user_id in (first, second):
        with pytest.raises(LegalHold):
            await Erasures(database, FakeClock()).order(user_id, "request 7", CALLER)
    exported = decode_holds(encode_holds(await holds.export()).encode())
    assert (exported[0].performer_ids, len(exported[0].identities)) == (["sg_1", "sg_2"], 2)

    assert [each.id for each in await holds.release(first, "not meant", CALLER)] == [created.id]
    await Erasures(database, FakeClock()).order(first, "request 7", CALLER)
    with pytest.raises(LegalHold):
        await Erasures(database, FakeClock()).order(second, "request 8", CALLER)
    await holds.release(second, "case 7 is closed", CALLER)
    assert [each.released_by for each in await holds.export()] == ["legal"]


async def test_hold_is_refused_with_the_order_once_the_erasure_has_started(
    holds: LegalHolds, database: Database
) -> None:
    user_id = await account(database, "sg_ada")
    order = await Erasures(database, FakeClock()).order(user_id, "request 7", CALLER)
    assert order.order_id is not None
    await holds.create(user_id, "case 7", CALLER)
    await holds.release(user_id, "case 7 is closed", CALLER)
    async with database.transaction() as tx:
        await erasures.mark_started(PersonLock(tx), order.order_id, FakeClock()())
    with pytest.raises(InvalidStatusTransition) as refused:
        await holds.create(user_id, "case 8", CALLER)
    assert refused.value.details == {"orderId": order.order_id}


async def test_release_enqueues_what_the_hold_kept_back_and_its_repetition_answers_the_same(
    holds: LegalHolds, database: Database
) -> None:
    user_id = await account(database, "sg_ada")
    created = await holds.create(user_id, "case 7", CALLER)
    assert await holds.release(user_id, "closed", CALLER) == [created]
    assert await holds.release(user_id, "closed", CALLER) == [created]
    with pytest.raises(InvalidStatusTransition):
        await holds.release(user_id, "closed again", CALLER)
    async with database.read_connection() as reading:
        assert list(await reading.scalars(select(batch_jobs.c.job_type))) == ["kyc_retention"]
        actions = list(await reading.scalars(select(audit_log.c.action)))
    assert actions == ["users.hold_placed", "users.hold_released"]


async def test_hold_that_was_released_since_the_backup_is_released_again(holds: LegalHolds, database: Database) -> None:
    user_id = await account(database, "sg_ada")
    created = await holds.create(user_id, "case 7", CALLER)
    await holds.release(user_id, "case 7 is closed", CALLER)
    exported = decode_holds(encode_holds(await holds.export()).encode())
    async with database.transaction() as tx:  # as the backup is
        await tx.execute(update(legal_holds).values(released_at=None, released_by=None, release_reason=None))
        await tx.execute(update(legal_hold_subjects).values(released_at=None))
    assert await holds.import_holds(exported, CALLER) == ([], [], [created.id])
    assert await holds.import_holds(exported, CALLER) == ([], [], [])
    async with database.read_connection() as reading:
        assert await active_holds(reading, await find_person(reading, user_id)) == []


async def test_hold_of_an_earlier_release_counts_without_subjects(holds: LegalHolds, database: Database) -> None:
    user_id = await account(database, "sg_ada")
    await holds.create(user_id, "case 7", CALLER)
    async with database.transaction() as tx:
        await tx.execute(legal_hold_subjects.delete())
    async with database.read_connection() as reading:
        assert len(await active_holds(reading, await person_of_performer(reading, "sg_ada"))) == 1
    await holds.release(user_id, "case 7 is closed", CALLER)
    async with database.read_connection() as reading:
        assert await active_holds(reading, await find_person(reading, user_id)) == []
