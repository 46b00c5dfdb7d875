"""`POST /api/v1/admin/webhooks/rejected/reverify`, over real HTTP, on every kind of database."""

import hmac
from base64 import b64encode
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest

from gateway.settings import GatewaySettings
from safevideo_common.broker.types import Record
from safevideo_common.database import integrations
from safevideo_common.database.engine import Database
from safevideo_common.database.integrations import SHAREGRAM
from safevideo_common.encryption import EncryptionKeys, Purpose
from safevideo_common.webhooks import secrets as webhook_secrets
from safevideo_common.webhooks.signatures import name_of_secret
from safevideo_testkit.http import Api

SECRET = "the-secret-as-mended"
WRONG = "a-secret-that-nobody-has-signed-with"
EMAIL = "jane@example.com"
PATH = "/api/v1/admin/webhooks/rejected"
NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
NOON = 1795521600  # 2026-11-24T12:00:00Z, when the first webhook came
Quarantine = Any  # of this folder's conftest.py
Reverify = Callable[..., Awaitable[tuple[int, dict[str, Any]]]]
Records = Callable[[], Awaitable[list[Record]]]
Start = Callable[[GatewaySettings], AbstractAsyncContextManager[Api]]


def body(number: int, performer: str = "sg_1", **more: object) -> bytes:
    data = {"performerId": performer, "changes": {"email": EMAIL, "username": f"jane-{number}"}}
    whole = {"event": "performer.profile.updated", "timestamp": "2026-11-24T11:59:59Z", "data": data}
    return orjson.dumps(whole | more)


async def run(reverify: Reverify, **asked: object) -> dict[str, Any]:
    status, answer = await reverify(**asked)
    assert (status, answer["success"]) == (200, True), answer
    found: dict[str, Any] = answer["data"]
    return found


def verdict(*row_ids: int) -> dict[str, object]:
    return {"count": len(row_ids), "ids": list(row_ids)}


def valid(*row_ids: int, scheme: str = "sharegram") -> dict[str, object]:
    return verdict(*row_ids) | {"schemes": {scheme: list(row_ids)}}


async def test_reverify_is_a_dry_run_by_default(reverify: Reverify, quarantine: Quarantine, records: Records) -> None:
    good = await quarantine.keep_many(3)
    forged = await quarantine.keep(body(9), secret=WRONG)
    for asked in ({}, {"dryRun": True}):
        assert await run(reverify, **asked) == {
            "dryRun": True,
            "complete": True,
            "checked": 4,
            "released": 0,
            "verdicts": {"holds": valid(*good), "signature_mismatch": verdict(forged)},
        }
    assert await records() == []
    assert await quarantine.released() == []
    assert [(entry.action, entry.details["dryRun"]) for entry in await quarantine.audited()] == [
        ("webhooks.reverified", True), ("webhooks.reverified", True),
    ]  # fmt: skip


async def test_reverify_releases_valid_webhooks_in_order_as_ingest_publishes_them(
    reverify: Reverify, quarantine: Quarantine, records: Records
) -> None:
    row_ids = await quarantine.keep_many(250)
    report = await run(reverify, dryRun=False)
    assert (report["checked"], report["released"], report["complete"]) == (250, 250, True)
    found = await records()
    assert [record.value for record in found] == quarantine.sent
    assert {(record.topic, record.key) for record in found} == {("sharegram.performer.v1", b"sg_1")}
    assert dict(found[7].headers) == {
        "ce_specversion": b"1.0",
        "ce_source": b"sharegram",
        "content-type": b"application/json",
        "ce_id": b"evt-7",
        "ce_type": b"performer.profile.updated",
        "ce_time": b"2026-11-24T11:59:59.000Z",
        "ce_subject": b"sg_1",
        "request_id": b"request-7",
        "traceparent": b"00-" + b"a" * 32 + b"-" + b"b" * 16 + b"-01",
        "id_unsigned": b"true",
    }
    assert await quarantine.released() == row_ids


async def test_reverify_tries_the_secrets_of_the_database_too(
    reverify: Reverify, quarantine: Quarantine, database: Database
) -> None:
    await quarantine.keep(body(1), secret="a-secret-that-is-stored")
    async with database.transaction() as tx:
        integration_id = await integrations.ensure(tx, SHAREGRAM, NOW)
        await webhook_secrets.add(tx, integration_id, "other-key", b"not of this key", NOW)
        cipher = EncryptionKeys.parse(quarantine.key).cipher(Purpose.WEBHOOK_SECRET)
        ciphertext = cipher.encrypt(b"a-secret-that-is-stored", webhook_secrets.encryption_row(SHAREGRAM, "stored"))
        await webhook_secrets.add(tx, integration_id, "stored", ciphertext, NOW)
    assert (await run(reverify, dryRun=False))["released"] == 1


async def test_reverify_releases_a_webhook_once(
    reverify: Reverify, quarantine: Quarantine, records: Records, gateway: Api, admin: dict[str, str]
) -> None:
    (first,) = await quarantine.keep_many(1)
    assert (await run(reverify, dryRun=False))["released"] == 1
    again = await run(reverify, dryRun=False)
    assert (again["checked"], again["released"], again["verdicts"]) == (0, 0, {})
    assert len(await records()) == 1
    shown = (await gateway.get(f"{PATH}/{first}", admin)).json["data"]
    assert shown["releasedEventId"] == "evt-0"
    assert shown["releasedAt"] is not None
    assert (await gateway.get(f"{PATH}?released=true", admin)).json["data"] == [shown]


async def test_reverify_releases_only_with_the_right_secret(
    reverify: Reverify, quarantine: Quarantine, records: Records
) -> None:
    row_id = await quarantine.keep(body(1), secret="what-sharegram-signed-with")
    wrong = await run(reverify, secret=WRONG, dryRun=False)
    present = await run(reverify, dryRun=False)
    assert wrong["verdicts"] == present["verdicts"] == {"signature_mismatch": verdict(row_id)}
    assert await records() == []
    right = await run(reverify, secret="what-sharegram-signed-with", dryRun=False)
    assert right["verdicts"] == {"holds": valid(row_id)}
    assert len(await records()) == 1


async def test_reverify_with_a_secret_that_is_not_configured_is_audited_as_such(
    reverify: Reverify, quarantine: Quarantine, records: Records
) -> None:
    await quarantine.keep(body(1), secret=WRONG)
    await run(reverify, secret=WRONG, dryRun=False)
    released, run_of_it = await quarantine.audited()
    name = name_of_secret(WRONG.encode())
    assert released.details["secrets"] == [name]
    assert (run_of_it.details["secret"], run_of_it.details["secretIsConfigured"]) == (name, False)


async def test_reverify_obeys_the_scheme_of_the_endpoint(
    quarantine: Quarantine, settings: GatewaySettings, start: Start, admin: dict[str, str], records: Records
) -> None:
    row_id = await quarantine.keep(body(1))  # rightly signed, in Sharegram's scheme
    async with start(settings.model_copy(update={"webhook_scheme": "standard"})) as api:
        url = f"{api.base_url}{PATH}/reverify"
        async with api.session.post(url, data=b'{"dryRun": false}', headers=admin) as answer:
            said = orjson.loads(await answer.read())
    assert said["data"]["verdicts"] == {"signature_missing": verdict(row_id)}
    assert await records() == []


async def test_reverify_releases_a_standard_webhook_with_its_id(
    reverify: Reverify, quarantine: Quarantine, records: Records
) -> None:
    key, sent = bytes(range(7, 247, 10)), body(1)
    signed = b64encode(hmac.digest(key, b"msg_1.%d.%s" % (NOON, sent), "sha256")).decode()
    headers = {"webhook-id": "msg_1", "webhook-timestamp": str(NOON), "webhook-signature": f"v1,{signed}"}
    row_id = await quarantine.keep(sent, headers=headers)
    report = await run(reverify, secret="whsec_" + b64encode(key).decode(), dryRun=False)
    assert report["released"] == 1
    assert report["verdicts"] == {"holds": valid(row_id, scheme="standard")}
    (record,) = await records()
    assert dict(record.headers)["ce_id"] == b"msg_1"


async def test_reverify_checks_the_timestamp_against_the_time_of_receipt(
    reverify: Reverify, quarantine: Quarantine
) -> None:
    sent = body(1)
    signed = {"X-Sharegram-Signature": "sha256=" + hmac.digest(SECRET.encode(), sent, "sha256").hex()}
    in_time = await quarantine.keep(sent, headers=signed | {"X-Sharegram-Timestamp": str(NOON - 300)})
    late = await quarantine.keep(sent, headers=signed | {"X-Sharegram-Timestamp": str(NOON - 302)})
    report = await run(reverify, dryRun=False)
    assert report["verdicts"] == {"holds": valid(in_time), "timestamp_out_of_tolerance": verdict(late)}


async def test_reverify_does_not_release_an_invalid_body(
    reverify: Reverify, quarantine: Quarantine, records: Records
) -> None:
    row_ids = [await quarantine.keep(sent) for sent in (b"not json", b"{}", body(1, event="a b"))]
    assert (await run(reverify, dryRun=False))["verdicts"] == {"invalid": verdict(*row_ids)}
    assert await records() == []


async def test_reverify_reports_and_skips_a_body_it_cannot_decrypt(
    reverify: Reverify, quarantine: Quarantine, records: Records
) -> None:
    stranger = EncryptionKeys.parse("A" * 43 + "=").cipher(Purpose.QUARANTINED_WEBHOOK)
    lost = await quarantine.keep(body(1), body=stranger.encrypt(body(1), f"{0:064}"))
    (good,) = await quarantine.keep_many(1)
    assert (await run(reverify, dryRun=False))["verdicts"] == {"undecipherable": verdict(lost), "holds": valid(good)}
    assert len(await records()) == 1


async def test_reverify_checks_only_the_requested_rows(
    reverify: Reverify, quarantine: Quarantine, records: Records
) -> None:
    row_ids = await quarantine.keep_many(4)
    report = await run(reverify, ids=[row_ids[2], row_ids[0], 10**17], dryRun=False)
    assert report["verdicts"] == {"holds": valid(row_ids[0], row_ids[2])}
    assert await quarantine.released() == [row_ids[0], row_ids[2]]
    assert (await run(reverify, ids=[], dryRun=False))["checked"] == 0


async def test_reverify_is_audited_with_the_caller(
    reverify: Reverify, quarantine: Quarantine, gateway: Api, admin: dict[str, str], records: Records
) -> None:
    row_ids = await quarantine.keep_many(2)
    await run(reverify, secret=SECRET, dryRun=False)
    name = name_of_secret(SECRET.encode())
    listed = (await gateway.get("/api/v1/admin/audit?order=asc", admin)).json["data"]
    assert [(entry["action"], entry["details"]) for entry in listed] == [
        ("webhooks.released", {"ids": row_ids, "eventIds": ["evt-0", "evt-1"], "secrets": [name]}),
        (
            "webhooks.reverified",
            {
                "dryRun": False, "secret": name, "secretIsConfigured": True, "idsGiven": False,
                "verdicts": {"holds": 2}, "released": 2,
                "complete": True,
            },
        ),
    ]  # fmt: skip
    assert {(entry["actor"], entry["role"], entry["remote"]) for entry in listed} == {("a-admin", "admin", "127.0.0.1")}
    assert listed[0]["requestId"] == listed[1]["requestId"]
    filtered = await gateway.get("/api/v1/admin/audit?action=webhooks.released&actor=a-admin", admin)
    assert [entry["id"] for entry in filtered.json["data"]] == [listed[0]["id"]]


@pytest.mark.parametrize(
    ("asked", "fields"),
    [
        (b"", {"body"}),
        (b"{", {"body"}),
        (b"[]", {"body"}),
        (b"\xff", {"body"}),
        (b'{"dryRun": "false"}', {"dryRun"}),
        (b'{"dryRun": 0}', {"dryRun"}),
        (b'{"dry_run": false}', {"dry_run"}),
        (b'{"ids": 5, "secret": 7}', {"ids", "secret"}),
        (b'{"ids": [0]}', {"ids"}),
        (b'{"ids": ["1", 2.5]}', {"ids"}),
        (b'{"secret": ""}', {"secret"}),
        (b'{"secret": "my-own-secret"}', {"secret"}),
        (b'{"secret": "my-own-secret-changeme"}', {"secret"}),
        (b'{"secret": "whsec_my-own-secret"}', {"secret"}),
        (b'{"secret": "my-own-secret' + b"x" * 512 + b'"}', {"secret"}),
        (b'{"my-own-secret": "my-own-secret"}', {"my-own-secret"}),
    ],
)
async def test_reverify_names_each_wrong_field_and_repeats_no_value(
    gateway: Api, admin: dict[str, str], asked: bytes, fields: set[str]
) -> None:
    async with gateway.session.post(f"{gateway.base_url}{PATH}/reverify", data=asked, headers=admin) as answer:
        said = await answer.json()
    assert (answer.status, said["error"]["code"]) == (400, "VALIDATION_ERROR")
    assert set(said["error"]["details"]) == fields
    if fields != {"my-own-secret"}:  # the name of an unknown member is repeated, a value never
        assert "my-own-secret" not in str(said)


async def test_reverify_needs_the_role_admin(gateway: Api, user: dict[str, str]) -> None:
    for headers, status in ((user, 403), ({}, 401)):
        async with gateway.session.post(f"{gateway.base_url}{PATH}/reverify", data=b"{}", headers=headers) as answer:
            assert answer.status == status


@pytest.mark.parametrize(
    ("without", "status", "code"),
    [("sharegram_webhook_secret", 400, "VALIDATION_ERROR"), ("encryption_key", 503, "SERVICE_UNAVAILABLE")],
)
async def test_reverify_reports_a_missing_secret_or_key(
    start: Any, settings: GatewaySettings, admin: dict[str, str], without: str, status: int, code: str
) -> None:
    async with start(settings.model_copy(update={without: None})) as api:
        async with api.session.post(f"{api.base_url}{PATH}/reverify", data=b"{}", headers=admin) as answer:
            assert (answer.status, (await answer.json())["error"]["code"]) == (status, code)
        assert (await api.get(PATH, admin)).status == 200


async def test_reverify_writes_no_secret_and_no_body_to_the_log(
    reverify: Reverify, quarantine: Quarantine, records: Records, logged: Callable[[], Sequence[str]]
) -> None:
    await quarantine.keep_many(2)
    await run(reverify, secret=SECRET)
    await run(reverify, secret=WRONG, dryRun=False)
    await reverify(secret="whsec_" + WRONG)
    await run(reverify, dryRun=False)
    text = "\n".join(logged()) + str(await quarantine.audited())
    assert text.count("Rejected webhooks verified again") == 3
    for hidden in (SECRET, WRONG, EMAIL, "jane"):
        assert hidden not in text
