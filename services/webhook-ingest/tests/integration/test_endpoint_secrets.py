"""The endpoint with secrets of the environment and of the database, in both schemes."""

import hmac
from base64 import b64encode
from collections.abc import AsyncIterator
from time import time

import aiohttp
import orjson
import pytest
from cryptography.fernet import Fernet
from pydantic import SecretStr

from safevideo_common.broker.port import Broker
from safevideo_common.clock import utc_now
from safevideo_common.database import integrations
from safevideo_common.database.engine import Database
from safevideo_common.database.integrations import SHAREGRAM
from safevideo_common.database.migrate import migrate
from safevideo_common.encryption import Purpose
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_common.service import run_until_failure
from safevideo_common.webhooks import secrets as webhook_secrets
from safevideo_testkit.eventually import eventually
from webhook_ingest.app import build_app
from webhook_ingest.settings import IngestSettings

PATH = "/webhooks/sharegram"
ENVIRONMENT = b"the-secret-of-these-tests"
STORED = b"whsec_" + b64encode(b"a-secret-that-the-database-keeps")
BODY = orjson.dumps({"event": "never.heard.of", "timestamp": "2026-11-24T12:00:00Z", "data": {}})


def sharegram(secret: bytes) -> dict[str, str]:
    return {"X-Sharegram-Signature": "sha256=" + hmac.digest(secret, BODY, "sha256").hex()}


def standard(key: bytes, event_id: str = "evt-1") -> dict[str, str]:
    sent = str(int(time()))
    digest = hmac.digest(key, b".".join((event_id.encode(), sent.encode(), BODY)), "sha256")
    return {
        "webhook-id": event_id,
        "webhook-timestamp": sent,
        "webhook-signature": f"v1a,of-another-kind v1,{b64encode(digest).decode()}",
    }


@pytest.fixture
def settings(settings: IngestSettings, fresh_sqlite_url: str) -> IngestSettings:
    key = SecretStr(Fernet.generate_key().decode())
    return settings.model_copy(update={"database_url": SecretStr(fresh_sqlite_url), "encryption_key": key})


@pytest.fixture
async def database(settings: IngestSettings) -> AsyncIterator[Database]:
    url = settings.database_url.get_secret_value()
    await migrate(url)
    async with Database.open(url) as database:
        yield database


async def store_secret(database: Database, settings: IngestSettings) -> None:
    keys = settings.encryption_keys()
    assert keys is not None
    row = webhook_secrets.encryption_row(SHAREGRAM, "stored")
    ciphertext = keys.cipher(Purpose.WEBHOOK_SECRET).encrypt(STORED, row)
    async with database.transaction() as tx:
        integration = await integrations.ensure(tx, SHAREGRAM, utc_now())
        await webhook_secrets.add(tx, integration, "stored", ciphertext, utc_now())


async def posted(client: aiohttp.ClientSession, headers: dict[str, str]) -> tuple[int, str]:
    async with client.post(PATH, data=BODY, headers=headers) as answer:
        said = await answer.json()
    return answer.status, said["webhookId"] if said["success"] else said["error"]["details"]["reason"]


async def test_endpoint_accepts_standard_scheme_and_its_id(client: aiohttp.ClientSession) -> None:
    assert await posted(client, standard(ENVIRONMENT)) == (200, "evt-1")
    assert await posted(client, standard(ENVIRONMENT, "evt.2")) == (401, "id_malformed")
    assert await posted(client, standard(b"another")) == (401, "signature_mismatch")


async def test_endpoint_rejects_renamed_delivery(client: aiohttp.ClientSession) -> None:
    renamed = standard(ENVIRONMENT) | {"X-Sharegram-Event-Id": "evt-2"}
    assert await posted(client, renamed) == (401, "signature_missing")


async def test_endpoint_of_standard_scheme_rejects_renamed_delivery(
    settings: IngestSettings, ingest_broker: Broker, log: FilteringBoundLogger
) -> None:
    settings = settings.model_copy(update={"webhook_scheme": "standard"})
    async with (
        run_until_failure(build_app(settings, ingest_broker, log), settings) as (port, _),
        aiohttp.ClientSession(f"http://127.0.0.1:{port}") as client,
    ):
        assert await posted(client, standard(ENVIRONMENT)) == (200, "evt-1")
        renamed = standard(ENVIRONMENT) | {"X-Sharegram-Event-Id": "evt-2"}
        async with client.post(PATH, data=BODY, headers=renamed) as answer:
            assert (answer.status, list((await answer.json())["error"]["details"])) == (400, ["X-Sharegram-Event-Id"])


async def test_endpoint_accepts_new_secret_of_database_soon(
    database: Database, settings: IngestSettings, client: aiohttp.ClientSession
) -> None:
    assert await posted(client, standard(b"a-secret-that-the-database-keeps")) == (401, "signature_mismatch")
    await store_secret(database, settings)

    async def is_accepted() -> bool:
        return await posted(client, standard(b"a-secret-that-the-database-keeps")) == (200, "evt-1")

    await eventually(is_accepted)
    assert (await posted(client, sharegram(STORED)))[0] == 200

    async def is_recorded() -> bool:
        async with database.read_connection() as reading:
            return [
                secret for secret in await webhook_secrets.find_all(reading, SHAREGRAM) if secret.last_used_at
            ] != []

    await eventually(is_recorded)


async def test_endpoint_accepts_secret_of_environment_without_database(client: aiohttp.ClientSession) -> None:
    assert (await posted(client, sharegram(ENVIRONMENT)))[0] == 200


async def test_endpoint_ignores_database_secrets_without_encryption_key(
    database: Database, settings: IngestSettings, ingest_broker: Broker, log: FilteringBoundLogger
) -> None:
    await store_secret(database, settings)
    without = settings.model_copy(update={"encryption_key": None})
    async with (
        run_until_failure(build_app(without, ingest_broker, log), without) as (port, _),
        aiohttp.ClientSession(f"http://127.0.0.1:{port}") as client,
    ):
        assert (await posted(client, sharegram(ENVIRONMENT)))[0] == 200
        assert await posted(client, sharegram(STORED)) == (401, "signature_mismatch")
