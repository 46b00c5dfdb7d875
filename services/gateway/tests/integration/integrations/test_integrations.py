"""The status of the integration, the registration of the webhook, and the rotation of its secret."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.fernet import Fernet
from pydantic import SecretStr
from sqlalchemy import insert, select, text, update

from gateway.settings import GatewaySettings
from safevideo_common.audit import store as audit_store
from safevideo_common.audit.store import AuditFilter, AuditRecord
from safevideo_common.database.engine import Database
from safevideo_common.database.integrations import SHAREGRAM
from safevideo_common.database.tables import integrations, kyc_requests, webhook_secrets
from safevideo_common.domain.outcomes import Status
from safevideo_common.encryption import EncryptionKeys, Purpose
from safevideo_common.webhooks import secrets as stored_secrets
from safevideo_common.webhooks.signatures import WebhookSecret
from safevideo_testkit.eventually import eventually
from safevideo_testkit.http import Answer, Api
from sharegram_simulator.settings import SimulatorSettings
from sharegram_simulator.testing import running_simulator

STATUS = "/api/integration/status"
WEBHOOK = "/api/v1/integrations/sharegram/webhook"
ROTATE = f"{WEBHOOK}/rotate-secret"
ENABLE, DISABLE = "/api/v1/integrations/sharegram/enable", "/api/v1/integrations/sharegram/disable"
API_KEY, SECRET_KEY = "planted-api-key-0123456789", "planted-secret-key-0123456789"
SIMULATED = SimulatorSettings(
    port=0,
    webhook_secret=SecretStr("a webhook secret"),
    api_key=SecretStr(API_KEY),
    secret_key=SecretStr(SECRET_KEY),
    seed=7,
)
KEYS = {"apiKey": API_KEY, "secretKey": SECRET_KEY}
BOTH = pytest.mark.parametrize(
    "database_kind", ["sqlite", pytest.param("mysql", marks=pytest.mark.mysql)], indirect=True
)
Start = Callable[[GatewaySettings], AbstractAsyncContextManager[Api]]

KEY = Fernet.generate_key().decode()


@pytest.fixture
async def api(start: Start, settings: GatewaySettings) -> AsyncIterator[Api]:
    """A gateway with an encryption key."""
    async with start(settings.model_copy(update={"encryption_key": SecretStr(KEY)})) as api:
        yield api


async def post(api: Api, path: str, headers: Mapping[str, str], body: object) -> Answer:
    async with api.session.post(api.base_url + path, json=body, headers=headers) as answer:
        return Answer(answer.status, answer.headers, await answer.read())


async def audited(database: Database, action: str) -> list[AuditRecord]:
    async with database.read_connection() as reading:
        records, _ = await audit_store.find(reading, AuditFilter(action=action), page=1, limit=10)
    return records


async def an_hour_later(database: Database) -> None:
    """Make all stored secrets an hour older."""
    async with database.transaction() as tx:
        await tx.execute(update(webhook_secrets).values(created_at=datetime.now(UTC) - timedelta(hours=1)))


@BOTH
async def test_rotation_shows_a_new_secret_once_and_ends_the_old_one_after_the_overlap(
    api: Api, admin: dict[str, str], database: Database, logged: Callable[[], list[str]]
) -> None:
    first = await post(api, ROTATE, admin, {})
    await an_hour_later(database)
    second = await post(api, ROTATE, admin, {"overlapHours": 2})
    assert (first.status, second.status) == (200, 200)
    assert second.headers["Cache-Control"] == "no-store"
    old, new = first.json["data"], second.json["data"]
    assert new["replaced"] == [old["name"]]
    assert WebhookSecret(new["name"], new["secret"].encode()).standard_key  # good for both schemes
    now = datetime.now(UTC)
    async with database.read_connection() as reading:
        valid = await stored_secrets.find_valid(reading, SHAREGRAM, now)
        later = await stored_secrets.find_valid(reading, SHAREGRAM, now + timedelta(hours=3))
    cipher = EncryptionKeys.parse(KEY).cipher(Purpose.WEBHOOK_SECRET)  # as webhook-ingest opens them
    opened = [cipher.decrypt(each.ciphertext, stored_secrets.encryption_row(SHAREGRAM, each.name)) for each in valid]
    assert opened == [new["secret"].encode(), old["secret"].encode()]
    assert {each.name for each in valid} == {old["name"], new["name"]}
    assert [each.name for each in later] == [new["name"]]
    assert [each.entry.details["name"] for each in await audited(database, "webhooks.secret_rotated")] == [
        new["name"], old["name"],
    ]  # fmt: skip
    text = "".join(logged()) + str(await audited(database, "webhooks.secret_rotated"))
    assert old["secret"] not in text
    assert new["secret"] not in text


@BOTH
async def test_of_two_rotations_at_once_one_succeeds(api: Api, admin: dict[str, str], database: Database) -> None:
    answers = await asyncio.gather(*(post(api, ROTATE, admin, {}) for _ in range(2)))
    assert sorted(each.status for each in answers) == [200, 409]
    (refused,) = [each for each in answers if each.status == 409]
    assert refused.code == "INVALID_STATUS_TRANSITION"
    async with database.read_connection() as reading:
        assert len(await stored_secrets.find_all(reading, SHAREGRAM)) == 1


async def test_rotation_stops_at_the_maximum_of_valid_secrets(
    api: Api, admin: dict[str, str], database: Database
) -> None:
    for _ in range(stored_secrets.MAX_VALID):
        assert (await post(api, ROTATE, admin, {})).status == 200
        await an_hour_later(database)
    assert (await post(api, ROTATE, admin, {})).code == "INVALID_STATUS_TRANSITION"


async def test_rotation_needs_the_encryption_key(gateway: Api, admin: dict[str, str]) -> None:
    answer = await post(gateway, ROTATE, admin, {})
    assert (answer.status, answer.code) == (503, "SERVICE_UNAVAILABLE")


async def test_registration_calls_sharegram_and_is_audited(
    start: Start, settings: GatewaySettings, admin: dict[str, str], database: Database
) -> None:
    body = {"url": "https://safevideo.example/webhooks/sharegram", "events": ["performer.profile.updated"]}
    async with running_simulator(SIMULATED) as simulator:
        configured = {
            "sharegram_api_url": f"{simulator.base_url}/v1",
            "sharegram_api_key": SecretStr(API_KEY),
            "sharegram_secret_key": SecretStr(SECRET_KEY),
        }
        async with start(settings.model_copy(update=configured)) as api:
            answer = await post(api, WEBHOOK, admin, body)
            assert (await api.get(STATUS, admin)).json["data"]["sharegram"]["enabled"] is True
    assert answer.status == 200, answer.body
    assert {name: answer.json["data"][name] for name in body} == body
    (intention,) = await audited(database, "webhooks.registration_requested")
    assert {name: intention.entry.details[name] for name in body} == body
    (record,) = await audited(database, "webhooks.registered")
    assert intention.row_id < record.row_id
    assert record.entry.details["webhookId"] == answer.json["data"]["webhookId"]
    assert record.entry.target == "integration:sharegram"


async def refuse_audit_entries(database: Database, action: str) -> None:
    """Let the database refuse the entries of an action, as one that takes no writes refuses all."""
    async with database.transaction() as tx:
        await tx.execute(
            text(
                f"CREATE TRIGGER refused BEFORE INSERT ON audit_log WHEN NEW.action = '{action}' "
                "BEGIN SELECT RAISE(ABORT, 'no writes'); END"
            )
        )


@pytest.mark.parametrize(
    ("refused", "calls", "entries"),
    [
        ("webhooks.registration_requested", 0, []),
        ("webhooks.registered", 1, ["webhooks.registration_requested"]),
    ],
)
async def test_registration_is_in_the_audit_log_before_sharegram_is_called(
    start: Start,
    settings: GatewaySettings,
    admin: dict[str, str],
    database: Database,
    refused: str,
    calls: int,
    entries: list[str],
) -> None:
    await refuse_audit_entries(database, refused)
    async with running_simulator(SIMULATED) as simulator:
        configured = {
            "sharegram_api_url": f"{simulator.base_url}/v1",
            "sharegram_api_key": SecretStr(API_KEY),
            "sharegram_secret_key": SecretStr(SECRET_KEY),
        }
        async with start(settings.model_copy(update=configured)) as api:
            answer = await post(api, WEBHOOK, admin, {"url": "https://safevideo.example/webhooks/sharegram"})
        sent = [each for each in (await simulator.state())["calls"] if each["path"] == "/v1/webhooks"]
    assert answer.status >= 500
    assert len(sent) == calls
    async with database.read_connection() as reading:
        records, _ = await audit_store.find(reading, AuditFilter(), page=1, limit=10)
    assert [each.entry.action for each in records] == entries


async def test_registration_that_sharegram_refuses_is_in_the_audit_log_with_its_code(
    start: Start, settings: GatewaySettings, admin: dict[str, str], database: Database
) -> None:
    async with running_simulator(SIMULATED) as simulator:
        configured = {
            "sharegram_api_url": f"{simulator.base_url}/v1",
            "sharegram_api_key": SecretStr(API_KEY),
            "sharegram_secret_key": SecretStr(SECRET_KEY),
        }
        await simulator.put("/_sim/faults", {"mode": "errors", "status": 503})
        async with start(settings.model_copy(update=configured)) as api:
            answer = await post(api, WEBHOOK, admin, {"url": "https://safevideo.example/webhooks/sharegram"})
    assert answer.status == 503
    (failed,) = await audited(database, "webhooks.registration_failed")
    assert failed.entry.details == {"code": answer.code}


BAD_ADDRESSES = (
    "http://safevideo.example/webhooks/sharegram",
    "https://user:planted@safevideo.example/webhooks/sharegram",
    "https://user@safevideo.example/webhooks/sharegram",
    "https://:planted@safevideo.example/",
    "https://@safevideo.example/",
    "https://",
    "https:///webhooks",
    "https://[::1",
    "https://safevideo.example:99999/",
    "https://safevideo.example:x/",
    "https://safevideo.example/webhooks#part",
    "https://safevideo.example\\@evil.example/",
    "ftp://safevideo.example/",
    "HTTPS//safevideo.example",
)


@pytest.mark.parametrize("path", [WEBHOOK, ENABLE])
async def test_webhook_address_of_a_production_is_https_without_a_user(
    start: Start, settings: GatewaySettings, admin: dict[str, str], path: str
) -> None:
    member = "url" if path == WEBHOOK else "webhookUrl"
    production = settings.model_copy(
        update={"safevideo_env": "production", "sharegram_api_url": "http://127.0.0.1:1/v1"}
    )
    async with start(production) as api:
        for address in BAD_ADDRESSES:
            answer = await post(api, path, admin, {member: address})
            assert (answer.status, answer.code) == (400, "VALIDATION_ERROR"), address
            assert set(answer.json["error"]["details"]) == {member}
            assert "planted" not in answer.body.decode()
        good = await post(api, path, admin, {member: "https://safevideo.example:8443/webhooks/sharegram?a=b"})
        assert good.code == "INTEGRATION_NOT_CONFIGURED"


@BOTH
async def test_integration_is_enabled_with_new_keys_disabled_and_enabled_again(
    start: Start,
    settings: GatewaySettings,
    admin: dict[str, str],
    database: Database,
    logged: Callable[[], list[str]],
) -> None:
    async with running_simulator(SIMULATED) as simulator:
        changes = {"sharegram_api_url": f"{simulator.base_url}/v1", "encryption_key": SecretStr(KEY)}
        async with start(settings.model_copy(update=changes)) as api:

            async def is_enabled() -> bool:
                return bool((await api.get(STATUS, admin)).json["data"]["sharegram"]["enabled"])

            assert await is_enabled() is False
            wanted = {"webhookUrl": "https://safevideo.example/webhooks", "enableKYC": False, "syncInterval": 900}
            enabled = await post(api, ENABLE, admin, {**KEYS, **wanted})
            assert enabled.status == 200, enabled.body
            stored = {"enabled": True, "enableSSO": None, **wanted}
            assert {name: enabled.json["data"][name] for name in stored} == stored
            assert await is_enabled() is True
            registered = await post(api, WEBHOOK, admin, {})  # with the stored keys, at the stored address
            assert registered.json["data"]["url"] == wanted["webhookUrl"]
            assert (await post(api, DISABLE, admin, None)).json["data"]["enabled"] is False
            assert await is_enabled() is False
            refused = await post(api, WEBHOOK, admin, {})
            assert (refused.status, refused.code) == (503, "INTEGRATION_NOT_CONFIGURED")
            again = await post(api, ENABLE, admin, {"syncInterval": 3600})
            assert {name: again.json["data"][name] for name in stored} == {**stored, "syncInterval": 3600}
            assert (await post(api, WEBHOOK, admin, {})).status == 200
    records = [*await audited(database, "integrations.enabled"), *await audited(database, "integrations.disabled")]
    assert [each.entry.details["wasEnabled"] for each in records] == [False, True, True]
    assert {each.entry.target for each in records} == {"integration:sharegram"}
    async with database.read_connection() as reading:
        row = (await reading.execute(select(integrations))).one()
    everything = f"{logged()}{records}{row}{enabled.body!r}"
    assert API_KEY not in everything
    assert SECRET_KEY not in everything


async def test_every_gateway_follows_the_one_that_was_asked(
    start: Start, settings: GatewaySettings, admin: dict[str, str]
) -> None:
    changes = {"sharegram_api_url": "http://127.0.0.1:9/v1", "encryption_key": SecretStr(KEY)}
    configured = settings.model_copy(update=changes)
    async with start(configured) as one, start(configured) as other:
        assert (await post(one, ENABLE, admin, KEYS)).status == 200

        async def follows() -> bool:
            return bool((await other.get(STATUS, admin)).json["data"]["sharegram"]["enabled"])

        await eventually(follows)


async def test_integration_without_address_or_keys_is_not_configured(
    start: Start, settings: GatewaySettings, admin: dict[str, str]
) -> None:
    async with start(settings) as api:
        for path, body in ((ENABLE, KEYS), (DISABLE, {})):
            answer = await post(api, path, admin, body)
            assert (answer.status, answer.code) == (503, "INTEGRATION_NOT_CONFIGURED")
    async with start(settings.model_copy(update={"sharegram_api_url": "http://127.0.0.1:9/v1"})) as api:
        answer = await post(api, ENABLE, admin, {})
        assert (answer.status, answer.code) == (503, "INTEGRATION_NOT_CONFIGURED")
        answer = await post(api, ENABLE, admin, KEYS)  # there is no ENCRYPTION_KEY
        assert (answer.status, answer.code) == (503, "SERVICE_UNAVAILABLE")
        for keys, wrong in (({"apiKey": API_KEY}, {"secretKey"}), ({**KEYS, "secretKey": "a" * 20}, {"secretKey"})):
            answer = await post(api, ENABLE, admin, keys)
            assert (answer.code, set(answer.json["error"]["details"])) == ("VALIDATION_ERROR", wrong)


async def test_registration_without_configuration_is_503(gateway: Api, admin: dict[str, str]) -> None:
    answer = await post(gateway, WEBHOOK, admin, {"url": "https://safevideo.example/webhooks/sharegram"})
    assert (answer.status, answer.code) == (503, "INTEGRATION_NOT_CONFIGURED")


async def test_malformed_registration_names_each_field(gateway: Api, admin: dict[str, str]) -> None:
    answer = await post(gateway, WEBHOOK, admin, {"url": "ftp://x", "events": []})
    assert (answer.code, set(answer.json["error"]["details"])) == ("VALIDATION_ERROR", {"url", "events"})


@BOTH
async def test_status_counts_what_is_stored(
    gateway: Api,
    admin: dict[str, str],
    database: Database,
    store: Callable[..., Awaitable[int]],
    record: Callable[..., Awaitable[None]],
) -> None:
    empty = (await gateway.get(STATUS, admin)).json["data"]
    assert empty == {
        "sharegram": {"enabled": False, "lastSyncDate": None, "totalSyncedPerformers": 0, "lastSyncStatus": None},
        "kyc": {"statistics": {}, "totalRequests": 0},
        "errors": {"hasRecentErrors": False, "recentErrors": []},
    }
    now = datetime.now(UTC)
    await store("sg_1")
    for number, reason in enumerate(("HANDLER_FAILED: KeyError", "HANDLER_FAILED", "SCHEMA_INVALID: bio")):
        await record(f"evt-{number}", status=Status.DEAD, reason=reason, decided_at=now)
    await record("evt-old", status=Status.DEAD, reason="HANDLER_FAILED", decided_at=now - timedelta(days=2))
    row = {"performer_id": "sg_1", "status": "verified", "created_at": now, "updated_at": now}
    async with database.transaction() as tx:
        await tx.execute(insert(kyc_requests).values(row))
    status = (await gateway.get(STATUS, admin)).json["data"]
    assert status["sharegram"]["totalSyncedPerformers"] == 1
    assert status["kyc"] == {"statistics": {"verified": 1}, "totalRequests": 1}
    assert [(each["code"], each["count"]) for each in status["errors"]["recentErrors"]] == [
        ("HANDLER_FAILED", 2), ("SCHEMA_INVALID", 1),
    ]  # fmt: skip
