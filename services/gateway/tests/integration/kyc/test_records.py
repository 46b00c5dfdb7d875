"""Reading of a submission and its documents: by whom, how, and what the audit log has of it."""

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest
from sqlalchemy import select

from gateway.settings import GatewaySettings
from safevideo_common.auth.api_keys import Role
from safevideo_common.database import kyc_requests
from safevideo_common.database.engine import Database
from safevideo_common.database.tables import audit_log
from safevideo_common.domain.kyc import ReviewReason
from safevideo_testkit.file_stores import MockS3
from safevideo_testkit.http import Api
from safevideo_testkit.kyc import SUBMISSION, KycClient, kyc_settings, sign_in

Performer = Callable[[str], Awaitable[KycClient]]


async def uploaded(owner: KycClient) -> tuple[int, int]:
    request_id = await owner.submitted()
    answer = await owner.upload(request_id)
    document_id: int = answer.json["data"]["documentId"]
    return request_id, document_id


def files(folder: Path) -> list[Path]:
    return [each for each in folder.rglob("*") if each.is_file()]


async def readings(database: Database) -> list[tuple[str, str, str | None]]:
    c = audit_log.c
    query = select(c.actor, c.action, c.target).where(c.action.like("%_read")).order_by(c.id)
    async with database.read_connection() as reading:
        return [tuple(row) for row in await reading.execute(query)]


async def test_owner_and_reviewers_read_what_was_submitted_and_each_reading_is_audited(
    ada: KycClient, moderator: KycClient, reviewer: KycClient, database: Database
) -> None:
    request_id, document_id = await uploaded(ada)
    for client in (ada, moderator, reviewer):
        data = (await client.get(f"{request_id}/submission")).json["data"]
        assert data["applicant"] == SUBMISSION | {"address": {**SUBMISSION["address"], "state": None}}
        (listed,) = data["documents"]
        assert (listed["documentId"], listed["slot"]) == (document_id, "id_front")
        answer = await client.get(f"{request_id}/documents/{document_id}")
        assert answer.status == 200
        assert (len(answer.body), answer.body[:3]) == (listed["size"], b"\xff\xd8\xff")
        assert answer.headers["Content-Type"] == "image/jpeg"
        assert answer.headers["Content-Disposition"] == f'attachment; filename="kyc-{request_id}-id-front.jpg"'
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
    actions = [("kyc.submission_read", f"kyc_request:{request_id}"), ("kyc.document_read", f"kyc_request:{request_id}")]
    found = await readings(database)
    assert [each[1:] for each in found] == actions * 3
    readers = [actor for actor, _, _ in found]
    assert readers == [readers[0]] * 2 + ["a-moderator"] * 2 + ["a-admin"] * 2


async def test_who_sees_the_list_of_reviewers_opens_each_request_of_it(
    ada: KycClient, key: Callable[[Role], Awaitable[dict[str, str]]], database: Database
) -> None:
    request_id, document_id = await uploaded(ada)
    async with database.transaction() as tx:
        await kyc_requests.set_values(tx, request_id, review_reason=ReviewReason.PREDECESSOR_FAILED)
    for role in Role:
        client = KycClient(ada.site, await key(role))
        listed = await client.get("pending")
        paths = ("status", "submission", f"documents/{document_id}")
        answers = [await client.get(f"{request_id}/{path}") for path in paths]
        if listed.status == 200:
            assert [each["requestId"] for each in listed.json["data"]] == [request_id]
            assert [each.status for each in answers] == [200, 200, 200]
            assert answers[0].json["data"]["reviewReason"] == "predecessor_failed"
        else:  # a key of a performer's role belongs to no performer
            assert {each.status for each in answers} == ({404} if role is Role.PERFORMER else {403})


async def test_to_a_stranger_there_is_no_request_and_no_document(
    ada: KycClient, performer: Performer, reviewer: KycClient, user: dict[str, str], database: Database
) -> None:
    request_id, document_id = await uploaded(ada)
    bob = await performer("sg_bob")
    other_id, _ = await uploaded(bob)
    for path in (f"{request_id}/submission", f"{request_id}/documents/{document_id}"):
        answer = await bob.get(path)
        assert (answer.status, answer.code) == (404, "KYC_REQUEST_NOT_FOUND")
        assert (await KycClient(ada.site, user).get(path)).status == 403
    for client in (bob, reviewer):  # not by the way of another request either
        assert (await client.get(f"{other_id}/documents/{document_id}")).code == "NOT_FOUND"
    assert await readings(database) == []


@pytest.mark.parametrize("damage", ["gone", "changed"])
async def test_document_that_cannot_be_read_has_its_code(ada: KycClient, upload_dir: Path, damage: str) -> None:
    request_id, document_id = await uploaded(ada)
    (file,) = files(upload_dir)
    if damage == "gone":
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[:-1])
    answer = await ada.get(f"{request_id}/documents/{document_id}")
    assert (answer.status, answer.code) == (500, "DOCUMENT_UNREADABLE")


async def test_documents_in_object_storage(
    start: Callable[[GatewaySettings], AbstractAsyncContextManager[Api]],
    settings: GatewaySettings,
    database: Database,
    upload_dir: Path,
    mock_s3: MockS3,
) -> None:
    bucket = mock_s3.bucket()
    in_bucket = {
        "upload_bucket": f"s3://{bucket.name}/documents/",
        "s3_endpoint": mock_s3.endpoint,
        "s3_access_key_id": bucket.access_key_id,
        "s3_secret_access_key": bucket.secret_access_key,
    }
    changed = GatewaySettings.model_validate(settings.model_dump() | kyc_settings(upload_dir) | in_bucket)
    async with start(changed) as site:
        owner = await sign_in(site, database, settings.redis_url.get_secret_value(), "sg_ada")
        request_id, document_id = await uploaded(owner)
        answer = await owner.get(f"{request_id}/documents/{document_id}")
        assert (answer.status, answer.body[:3]) == (200, b"\xff\xd8\xff")
        assert files(upload_dir) == []
        mock_s3.remove_all()
        for refused in (await owner.get(f"{request_id}/documents/{document_id}"), await owner.upload(request_id)):
            assert (refused.status, refused.code) == (503, "SERVICE_UNAVAILABLE")
            assert refused.headers["Retry-After"] == "5"
