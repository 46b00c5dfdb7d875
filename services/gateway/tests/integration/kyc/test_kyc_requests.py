"""A KYC request over HTTP: who may submit what, documents, the job, and decisions of people."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from redis.asyncio import Redis
from sqlalchemy import select, update

from safevideo_common.database import erasures
from safevideo_common.database.engine import Database
from safevideo_common.database.erasures import IdentifierKind
from safevideo_common.database.person_locks import lock_performer
from safevideo_common.database.tables import (
    audit_log,
    batch_jobs,
    document_deletions,
    kyc_documents,
    kyc_requests,
    outbox,
)
from safevideo_common.documents.store import FileFault
from safevideo_common.domain.kyc import FINAL_REASONS, KycStatus, RejectionReason
from safevideo_common.domain.kyc_documents import MAX_DOCUMENT_BYTES
from safevideo_testkit.eventually import eventually
from safevideo_testkit.kyc import REQUIRED, SUBMISSION, KycClient, picture

Performer = Callable[[str], Awaitable[KycClient]]
both_databases = pytest.mark.parametrize(
    "database_kind", ["sqlite", pytest.param("mysql", marks=pytest.mark.mysql)], indirect=True
)


async def jobs(database: Database) -> list[tuple[str, str, object]]:
    c = batch_jobs.c
    async with database.read_connection() as reading:
        return [tuple(row) for row in await reading.execute(select(c.job_type, c.priority, c.parameters))]


async def set_status(database: Database, request_id: int, status: KycStatus, **values: object) -> None:
    async with database.transaction() as tx:
        await tx.execute(update(kyc_requests).where(kyc_requests.c.id == request_id).values(status=status, **values))


def files(folder: Path) -> list[Path]:
    return [each for each in folder.rglob("*") if each.is_file()]


@both_databases
async def test_last_required_document_begins_the_verification(ada: KycClient, database: Database) -> None:
    answer = await ada.submit()
    assert answer.status == 201
    data = answer.json["data"]
    assert data == {**data, "status": "pending", "performerId": "sg_ada"}
    request_id = data["requestId"]
    for field in REQUIRED:
        assert await ada.status(request_id) == "pending"
        assert await jobs(database) == []
        answer = await ada.upload(request_id, field)
        assert (answer.status, answer.json["data"]["status"]) == (201, "uploaded")
    data = (await ada.get(f"{request_id}/status")).json["data"]
    assert data["status"] == "in_progress"
    assert data["riskScore"] is None
    assert [(each["stepType"], each["status"]) for each in data["verificationSteps"]] == [
        ("document_upload", "completed"),
        ("provider_submission", "pending"),
    ]
    assert await jobs(database) == [("kyc_verification", "high", {"requestId": request_id, "performerId": "sg_ada"})]
    late = await ada.upload(request_id, "selfie")
    assert (late.status, late.code) == (409, "INVALID_KYC_STATUS")


@both_databases
async def test_of_two_submissions_at_once_one_is_made(ada: KycClient) -> None:
    answers = await asyncio.gather(*(ada.submit() for _ in range(4)))
    made = [each for each in answers if each.status == 201]
    assert len(made) == 1
    others = [each for each in answers if each.status != 201]
    assert {each.code for each in others} == {"KYC_ALREADY_IN_PROGRESS"}
    assert {each.json["error"]["details"]["requestId"] for each in others} == {made[0].json["data"]["requestId"]}


@both_databases
async def test_repeated_submission_with_an_idempotency_key_gets_the_first_response(ada: KycClient) -> None:
    again = KycClient(ada.site, {**ada.headers, "Idempotency-Key": "once"})
    first, second = await again.submit(), await again.submit()
    assert (first.status, second.status, second.json) == (201, 201, first.json)
    assert (await again.submit(firstName="Eve")).code == "IDEMPOTENCY_KEY_REUSED"


@both_databases
async def test_last_two_documents_at_once_queue_one_job(ada: KycClient, database: Database) -> None:
    request_id = await ada.submitted()
    assert (await ada.upload(request_id, "idFront")).status == 201
    answers = await asyncio.gather(ada.upload(request_id, "selfie"), ada.upload(request_id, "proofOfAddress"))
    assert [each.status for each in answers] == [201, 201]
    assert len(await jobs(database)) == 1
    assert await ada.status(request_id) == "in_progress"


async def test_repeated_side_replaces_the_earlier_document(
    ada: KycClient, database: Database, upload_dir: Path
) -> None:
    request_id = await ada.submitted()
    for color in ("red", "blue"):
        assert (await ada.upload(request_id, "idFront", picture(color))).status == 201
    async with database.read_connection() as reading:
        (row,) = await reading.execute(select(kyc_documents))
        to_delete = list(await reading.execute(select(document_deletions.c.file_name, document_deletions.c.request_id)))
    ((replaced, of_request),) = to_delete
    assert {each.name for each in files(upload_dir)} == {row.file_name, replaced}
    assert of_request == request_id
    assert (row.media_type, row.slot) == ("image/jpeg", "id_front")


async def test_file_of_an_upload_that_is_refused_at_its_end_is_to_be_deleted(
    ada: KycClient, database: Database, upload_dir: Path
) -> None:
    request_id = await ada.submitted()

    async def is_written() -> bool:
        return len(files(upload_dir)) == 1

    async with database.transaction() as tx:
        complete = update(kyc_requests).where(kyc_requests.c.id == request_id).values(status=KycStatus.IN_PROGRESS)
        await tx.execute(complete)
        upload = asyncio.create_task(ada.upload(request_id))
        await eventually(is_written)  # it waits for the row now
    answer = await upload
    assert (answer.status, answer.code) == (409, "INVALID_KYC_STATUS")
    async with database.read_connection() as reading:
        c = document_deletions.c
        (row,) = (await reading.execute(select(c.file_name, c.request_id, c.reason))).all()
    assert [each.name for each in files(upload_dir)] == [row.file_name]
    assert (row.request_id, row.reason) == (request_id, "refused")


async def test_document_without_its_file_never_counts_as_uploaded(ada: KycClient, database: Database) -> None:
    request_id = await ada.submitted()
    for field in ("idFront", "selfie"):
        await ada.upload(request_id, field)
    async with database.transaction() as tx:
        await tx.execute(
            update(kyc_documents).where(kyc_documents.c.slot == "id_front").values(file_fault=FileFault.MISSING)
        )
    assert (await ada.upload(request_id, "proofOfAddress")).status == 201
    assert (await ada.status(request_id), await jobs(database)) == ("pending", [])
    assert (await ada.upload(request_id, "idFront")).status == 201
    assert await ada.status(request_id) == "in_progress"


async def test_nothing_that_is_stored_can_be_read(ada: KycClient, database: Database, upload_dir: Path) -> None:
    request_id = await ada.submitted()
    await ada.upload(request_id)
    (file,) = files(upload_dir)
    assert b"JFIF" not in file.read_bytes()
    assert file.stat().st_mode & 0o077 == 0
    async with database.read_connection() as reading:
        applicant = await reading.scalar(select(kyc_requests.c.applicant))
        actions = list(await reading.scalars(select(audit_log.c.action)))
    assert applicant is not None
    assert b"Lovelace" not in applicant
    assert SUBMISSION["documentNumber"].encode() not in applicant
    assert actions == ["kyc.submitted"]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("birthDate", (datetime.now(UTC) - timedelta(days=18 * 365)).date().isoformat()),
        ("birthDate", "17.05.1990"),
        ("nationality", "XX"),
        ("documentExpiryDate", "2020-01-01"),
        ("documentType", "selfie"),
        ("documentNumber", "1"),
        ("firstName", " "),
        ("address", {"street": "x", "city": "y", "postalCode": "z", "country": "GBR"}),
    ],
)
async def test_wrong_field_is_named(ada: KycClient, field: str, value: object) -> None:
    answer = await ada.submit(**{field: value})
    assert (answer.status, answer.code) == (400, "VALIDATION_ERROR")
    assert list(answer.json["error"]["details"]) == [field]


@pytest.mark.parametrize(
    ("fields", "field", "content", "status", "code"),
    [
        ({}, "idFront", b"not a picture", 400, "UNSUPPORTED_DOCUMENT"),
        ({"documentType": "visa"}, "idFront", None, 400, "VALIDATION_ERROR"),
        ({"side": "back"}, "selfie", None, 400, "VALIDATION_ERROR"),
        ({"documentType": "passport"}, "selfie", None, 400, "VALIDATION_ERROR"),
        ({}, "idFront", bytes(MAX_DOCUMENT_BYTES + 1), 413, "PAYLOAD_TOO_LARGE"),
    ],
)
async def test_document_that_cannot_be_taken_changes_nothing(
    ada: KycClient, upload_dir: Path, fields: dict[str, str], field: str, content: bytes | None, status: int, code: str
) -> None:
    request_id = await ada.submitted()
    answer = await ada.upload(request_id, field, content, **fields)
    assert (answer.status, answer.code) == (status, code)
    assert files(upload_dir) == []


async def test_form_without_a_file_and_body_without_a_form(ada: KycClient) -> None:
    request_id = await ada.submitted()
    answer = await ada.post(f"{request_id}/documents", {})
    assert (answer.status, answer.code) == (400, "VALIDATION_ERROR")


async def test_strangers_see_no_request(
    ada: KycClient, performer: Performer, user: dict[str, str], reviewer: KycClient
) -> None:
    request_id = await ada.submitted()
    bob = await performer("sg_bob")
    for answer in (await bob.get(f"{request_id}/status"), await bob.upload(request_id), await bob.get("99/status")):
        assert (answer.status, answer.code) == (404, "KYC_REQUEST_NOT_FOUND")
    assert (await KycClient(ada.site, user).get(f"{request_id}/status")).status == 403
    assert await reviewer.status(request_id) == "pending"


async def test_people_decide_and_the_oldest_request_is_first(
    ada: KycClient, performer: Performer, reviewer: KycClient, database: Database
) -> None:
    bob = await performer("sg_bob")
    first, second = await ada.submitted(), await bob.submitted()
    for request_id in (first, second):
        await set_status(database, request_id, KycStatus.IN_REVIEW, risk_score=71.5)
    listed = (await reviewer.get("pending")).json
    assert [each["requestId"] for each in listed["data"]] == [first, second]
    assert listed["pagination"]["totalItems"] == 2
    answer = await reviewer.post(f"{first}/approve", {"notes": "The pictures match."})
    assert (answer.status, answer.json["data"]["status"]) == (200, "verified")
    answer = await reviewer.post(f"{second}/reject", {"reason": "document_unclear", "notes": "Too dark."})
    assert (answer.status, answer.json["data"]["status"]) == (200, "rejected")
    again = await reviewer.post(f"{second}/approve", {"notes": ""})
    assert (again.status, again.code) == (409, "INVALID_KYC_STATUS")
    assert (await reviewer.get("pending")).json["data"] == []
    async with database.read_connection() as reading:
        actions = list(await reading.scalars(select(audit_log.c.action).order_by(audit_log.c.id)))
        topics = list(await reading.scalars(select(outbox.c.topic)))
    assert actions == ["kyc.submitted", "kyc.submitted", "kyc.verified", "kyc.rejected"]
    assert topics == ["integration.events.v1"] * 2
    assert (await bob.submit()).status == 201
    verified = await ada.submit()
    assert (verified.code, verified.json["error"]["details"]["requestId"]) == ("KYC_ALREADY_IN_PROGRESS", first)


@pytest.mark.parametrize("reason", sorted(FINAL_REASONS))
async def test_final_rejection_is_reopened_by_an_admin_only(
    ada: KycClient, reviewer: KycClient, reason: RejectionReason
) -> None:
    request_id = await ada.submitted()
    assert (await reviewer.post(f"{request_id}/reopen")).code == "INVALID_KYC_STATUS"
    assert (await reviewer.post(f"{request_id}/reject", {"reason": reason})).status == 200
    refused = await ada.submit()
    assert (refused.status, refused.code) == (409, "INVALID_KYC_STATUS")
    assert (await ada.post(f"{request_id}/reopen")).status == 403
    assert (await reviewer.post(f"{request_id}/reopen")).status == 200
    assert (await ada.submit()).status == 201


async def test_request_may_be_renewed_shortly_before_it_expires(ada: KycClient, database: Database) -> None:
    request_id = await ada.submitted()
    await set_status(database, request_id, KycStatus.VERIFIED, expires_at=datetime.now(UTC) + timedelta(days=31))
    assert (await ada.submit()).code == "KYC_ALREADY_IN_PROGRESS"
    await set_status(database, request_id, KycStatus.VERIFIED, expires_at=datetime.now(UTC) + timedelta(days=29))
    assert (await ada.submit()).status == 201
    assert await ada.status(request_id) == "verified"


async def test_status_shows_the_result_beside_the_decision(
    ada: KycClient, reviewer: KycClient, database: Database
) -> None:
    request_id = await ada.submitted()
    data = (await ada.get(f"{request_id}/status")).json["data"]
    assert (data["provider"], data["decision"], data["expiresAt"]) == (None, None, None)
    result = {"status": "review", "riskScore": 71.5, "checks": {}}
    at = datetime(2026, 11, 28, tzinfo=UTC)
    await set_status(
        database, request_id, KycStatus.IN_REVIEW, result=result, risk_score=71.5, result_at=at, result_version=4
    )
    assert (await reviewer.post(f"{request_id}/reject", {"reason": "suspicious", "notes": ""})).status == 200
    for who, reason in ((reviewer, "suspicious"), (ada, None)):
        data = (await who.get(f"{request_id}/status")).json["data"]
        assert data["provider"] == {
            "status": "review", "riskScore": 71.5, "version": 4, "reportedAt": "2026-11-28T00:00:00.000Z",
        }  # fmt: skip
        assert (data["decision"]["status"], data["decision"]["reason"]) == ("rejected", reason)


async def test_verified_request_that_a_person_must_see_again_is_pending_until_a_decision(
    ada: KycClient, reviewer: KycClient, database: Database
) -> None:
    request_id = await ada.submitted()
    await set_status(database, request_id, KycStatus.VERIFIED, review_reason="predecessor_failed")
    (listed,) = (await reviewer.get("pending")).json["data"]
    assert (listed["status"], listed["reviewReason"]) == ("verified", "predecessor_failed")
    assert (await reviewer.post(f"{request_id}/approve", {"notes": "Both are the same person."})).status == 200
    assert (await reviewer.get("pending")).json["data"] == []
    assert (await reviewer.post(f"{request_id}/approve", {"notes": ""})).code == "INVALID_KYC_STATUS"


async def test_feature_flag_stops_submissions_only(ada: KycClient, redis: Redis) -> None:
    request_id = await ada.submitted()
    await redis.set("feature:kyc:enabled", "false")

    async def is_disabled() -> bool:
        return (await ada.submit()).status == 503

    await eventually(is_disabled)
    assert (await ada.submit()).code == "FEATURE_DISABLED"
    assert await ada.status(request_id) == "pending"


async def test_nothing_is_decided_or_submitted_once_the_erasure_has_started(
    ada: KycClient, reviewer: KycClient, database: Database
) -> None:
    request_id = await ada.submitted()
    await set_status(database, request_id, KycStatus.IN_REVIEW)
    async with database.transaction() as tx:
        lock = await lock_performer(tx, "sg_ada")
        named = {IdentifierKind.PERFORMER: ["sg_ada"]}
        order_id = await erasures.create_order(lock, named, "request 7", "ann", datetime.now(UTC))
        await erasures.mark_started(lock, order_id, datetime.now(UTC))
    for answer in (
        await reviewer.post(f"{request_id}/reject", {"reason": "other", "notes": "about the person"}),
        await reviewer.post(f"{request_id}/approve", {}),
        await ada.submit(),
    ):
        assert (answer.status, answer.code) == (409, "INVALID_STATUS_TRANSITION")
        assert answer.json["error"]["details"] == {"orderId": order_id}
