"""Webhooks that ingest rejects under a wrong secret: the gateway releases them under the right one."""

import asyncio
import hmac
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest
from cryptography.fernet import Fernet
from multidict import CIMultiDict, CIMultiDictProxy
from prometheus_client import CollectorRegistry

import gateway.app
from gateway.settings import GatewaySettings
from safevideo_common.auth import api_keys
from safevideo_common.auth.api_keys import Role
from safevideo_common.broker.port import Broker
from safevideo_common.broker.types import Record
from safevideo_common.clock import utc_now
from safevideo_common.database.engine import Database
from safevideo_common.encryption import EncryptionKeys, Purpose
from safevideo_common.errors import WebhookSignatureInvalid
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_common.quarantine.limits import RetentionLimits
from safevideo_common.web.correlation import Correlation
from safevideo_common.webhooks.signatures import SCHEMES, WebhookSecret
from safevideo_testkit.http import Api, running
from safevideo_testkit.stacks import StackUnderTest
from webhook_ingest.quarantine import QuarantineMetrics, QuarantineQueue, QuarantineWriter

SECRET = "what-sharegram-signs-with"
WRONG = [WebhookSecret("wrong", b"another-secret")]
KEY = Fernet.generate_key().decode()
NUMBER = 30


@pytest.fixture
async def database(stack: StackUnderTest) -> AsyncIterator[Database]:
    async with Database.open(stack.database_url) as database:
        yield database


@pytest.fixture
async def api(stack: StackUnderTest, broker: Broker, log: FilteringBoundLogger) -> AsyncIterator[Api]:
    settings = GatewaySettings.model_validate({
        "host": "127.0.0.1", "port": 0, "database_url": stack.database_url, "redis_url": stack.redis_url,
        "kafka_bootstrap_servers": stack.kafka_bootstrap_servers, "shutdown_seconds": 1,
        "encryption_key": KEY, "sharegram_webhook_secret": SECRET,
    })  # fmt: skip
    async with running(gateway.app.build_app(settings, broker, log), settings) as api:
        yield api


async def test_gateway_releases_under_the_right_secret_what_ingest_rejected_under_a_wrong_one(
    database: Database, api: Api, broker: Broker, log: FilteringBoundLogger
) -> None:
    performer = f"sg_{Fernet.generate_key().decode()[:16]}"
    async with database.transaction() as tx:
        key = await api_keys.create(tx, "ops", Role.ADMIN, utc_now(), utc_now() + timedelta(hours=1))
    admin = {"X-API-Client": "ops", "X-API-Key": key}
    await reject_all(database, log, performer)

    assert (await reverified(api, admin, dry_run=True))["verdicts"]["holds"]["count"] == NUMBER
    assert (await reverified(api, admin, dry_run=False))["released"] == NUMBER

    found = [record for record in await recent(broker) if record.key == performer.encode()]
    assert [record.value for record in found] == [body(performer, number) for number in range(NUMBER)]
    assert [dict(record.headers)["ce_id"] for record in found] == [b"evt-%d" % number for number in range(NUMBER)]


def body(performer: str, number: int) -> bytes:
    data = {"performerId": performer, "changes": {"username": f"jane-{number}"}}
    return orjson.dumps({"event": "performer.profile.updated", "timestamp": "2026-11-24T12:00:00Z", "data": data})


async def reject_all(database: Database, log: FilteringBoundLogger, performer: str) -> None:
    """Do what webhook-ingest does while its secret is wrong."""
    registry = CollectorRegistry()
    metrics = QuarantineMetrics(registry)
    queue = QuarantineQueue(1000, metrics)
    writer = QuarantineWriter(
        queue,
        database,
        EncryptionKeys.parse(KEY).cipher(Purpose.QUARANTINED_WEBHOOK),
        RetentionLimits(),
        clock=utc_now,
        logger=log,
        metrics=metrics,
    )
    for number in range(NUMBER):
        reject(queue, body(performer, number), number)
    writing = asyncio.create_task(writer.run())
    async with asyncio.timeout(20):
        while not registry.get_sample_value("safevideo_quarantined_webhooks_total", {"outcome": "kept"}):
            await asyncio.sleep(0.02)
    writing.cancel()
    await asyncio.wait([writing])


def reject(queue: QuarantineQueue, sent: bytes, number: int) -> None:
    now = datetime.now(UTC)
    signature = "sha256=" + hmac.digest(SECRET.encode(), sent, "sha256").hex()
    headers = CIMultiDictProxy(
        CIMultiDict(
            {
                "x-sharegram-signature": signature,
                "x-sharegram-timestamp": str(int(now.timestamp())),
                "x-sharegram-event-id": f"evt-{number}",
            }
        )
    )
    correlation = Correlation(f"request-{number}", "00-" + "a" * 32 + "-" + "b" * 16 + "-01")
    try:
        SCHEMES["any"].verify(headers, sent, WRONG, now)
    except WebhookSignatureInvalid as error:
        queue.offer_request(headers, sent, error, received_at=now, remote="192.0.2.1", correlation=correlation)


async def reverified(api: Api, admin: dict[str, str], *, dry_run: bool) -> dict[str, Any]:
    path = f"{api.base_url}/api/v1/admin/webhooks/rejected/reverify"
    async with api.session.post(path, json={"dryRun": dry_run}, headers=admin) as answer:
        document = await answer.json()
    assert answer.status == 200, document
    data: dict[str, Any] = document["data"]
    return data


async def recent(broker: Broker) -> list[Record]:
    async with broker.reader("test") as reader:
        ends = await reader.end_offsets("sharegram.performer.v1")
        return [
            record for partition, end in ends.items() for record in await reader.read(partition, max(0, end - 200), 200)
        ]
