"""Accepted webhooks: the response, and the record in the broker at that time."""

import hmac

import aiohttp
import orjson
import pytest

from safevideo_common.broker.port import Broker
from safevideo_common.broker.types import Record, TopicPartition
from safevideo_common.events.envelope import parse_headers
from safevideo_common.events.topics import KYC, OTHER, PERFORMER

SECRET = b"the-secret-of-these-tests"
OLD_SECRET = b"the-one-that-is-rotated-out"
PATH = "/webhooks/sharegram"


def webhook(event: str = "performer.profile.updated", **extra: object) -> bytes:
    data = {"performerId": "sg_1", "changes": {"username": "näme"}}
    return orjson.dumps({"event": event, "timestamp": "2026-11-24T12:00:00.123456Z", "data": data} | extra)


def signed(body: bytes, secret: bytes = SECRET) -> dict[str, str]:
    return {"X-Sharegram-Signature": "sha256=" + hmac.digest(secret, body, "sha256").hex()}


async def records(broker: Broker, topic: str) -> list[Record]:
    async with broker.reader("test") as reader:
        ends = await reader.end_offsets(topic)
        found = [await reader.read(TopicPartition(topic, partition), 0, 100) for _, partition in ends]
    return [record for some in found for record in some]


async def test_endpoint_publishes_accepted_body_byte_for_byte(
    client: aiohttp.ClientSession, ingest_broker: Broker
) -> None:
    body = webhook() + b" \n"
    async with client.post(PATH, data=body, headers=signed(body)) as answer:
        assert answer.status == 200
        said = await answer.json()
    (record,) = await records(ingest_broker, PERFORMER)
    assert (record.value, record.key) == (body, b"sg_1")
    assert said == {"success": True, "webhookId": parse_headers(record.headers).id, "message": "Webhook received"}


async def test_endpoint_publishes_envelope_in_headers(client: aiohttp.ClientSession, ingest_broker: Broker) -> None:
    body = webhook(id="evt-1")
    traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    headers = signed(body) | {"X-Request-Id": "req-1", "traceparent": traceparent}
    async with client.post(PATH, data=body, headers=headers) as answer:
        assert answer.headers["X-Request-Id"] == "req-1"
    (record,) = await records(ingest_broker, PERFORMER)
    found = dict(record.headers)
    assert found["ce_specversion"] == b"1.0"
    assert found["ce_id"] == b"evt-1"
    assert found["ce_source"] == b"sharegram"
    assert found["ce_type"] == b"performer.profile.updated"
    assert found["ce_time"] == b"2026-11-24T12:00:00.123456Z"
    assert found["ce_subject"] == b"sg_1"
    assert found["request_id"] == b"req-1"
    assert 0 < float(found["received_at"]) <= record.timestamp_ms / 1000 + 0.001
    assert found["traceparent"] == traceparent.encode()[:-2] + b"00", "the sampled flag of a caller decides nothing"


async def test_endpoint_takes_event_id_of_header_where_the_body_has_none(client: aiohttp.ClientSession) -> None:
    body = webhook()
    async with client.post(PATH, data=body, headers=signed(body) | {"X-Sharegram-Event-Id": "from-header"}) as answer:
        assert (await answer.json())["webhookId"] == "from-header"


async def test_endpoint_rejects_a_header_that_renames_the_event(client: aiohttp.ClientSession) -> None:
    body = webhook(id="from-body")
    for headers in ({"X-Sharegram-Event-Id": "other"}, {"webhook-id": "other"}):
        async with client.post(PATH, data=body, headers=signed(body) | headers) as answer:
            error = (await answer.json())["error"]
            assert (answer.status, error["code"], list(error["details"])) == (400, "VALIDATION_ERROR", list(headers))


async def test_endpoint_derives_same_id_for_redelivery(client: aiohttp.ClientSession) -> None:
    body = webhook()
    ids = set()
    for _ in range(2):
        async with client.post(PATH, data=body, headers=signed(body)) as answer:
            ids.add((await answer.json())["webhookId"])
    assert len(ids) == 1


async def test_endpoint_accepts_secret_in_rotation(client: aiohttp.ClientSession) -> None:
    body = webhook()
    async with client.post(PATH, data=body, headers=signed(body, OLD_SECRET)) as answer:
        assert answer.status == 200


@pytest.mark.parametrize(
    ("event", "topic"),
    [
        ("kyc.verification.completed", KYC),
        ("kyc.verification.failed", KYC),
        ("performer.status.changed", PERFORMER),
        ("never.heard.of", OTHER),
    ],
)
async def test_endpoint_publishes_each_type_to_its_topic(
    client: aiohttp.ClientSession, ingest_broker: Broker, event: str, topic: str
) -> None:
    body = webhook(event)
    async with client.post(PATH, data=body, headers=signed(body)) as answer:
        assert answer.status == 200
    assert [record.value for record in await records(ingest_broker, topic)] == [body]


async def test_endpoint_keys_event_without_performer_by_its_id(
    client: aiohttp.ClientSession, ingest_broker: Broker
) -> None:
    body = orjson.dumps({"event": "never.heard.of", "timestamp": "2026-11-24T12:00:00Z", "data": {}, "id": "evt-7"})
    async with client.post(PATH, data=body, headers=signed(body)):
        pass
    (record,) = await records(ingest_broker, OTHER)
    assert record.key == b"evt-7"
