"""Rejected webhooks: each kind of invalid input has its code, at once, and the process stays available."""

import asyncio
import hmac
from collections.abc import AsyncIterator, Sequence
from io import BytesIO
from pathlib import Path
from time import time
from typing import Any

import aiohttp
import orjson
import pytest

from safevideo_common.broker.port import Broker
from safevideo_common.events.topics import RETENTION_DAYS

SECRET = b"the-secret-of-these-tests"
PATH = "/webhooks/sharegram"
LIMIT = 1 << 20
GOOD = orjson.dumps({
    "event": "performer.profile.updated",
    "timestamp": "2026-11-24T12:00:00Z",
    "data": {"performerId": "sg_1", "changes": {"username": "a"}},
})  # fmt: skip


def signature(body: bytes, secret: bytes = SECRET) -> str:
    return "sha256=" + hmac.digest(secret, body, "sha256").hex()


def signed(body: bytes) -> dict[str, str]:
    return {"X-Sharegram-Signature": signature(body)}


def shaped(**change: object) -> bytes:
    return orjson.dumps(orjson.loads(GOOD) | change)


@pytest.fixture(autouse=True)
async def nothing_was_published_and_endpoint_still_works(
    client: aiohttp.ClientSession, ingest_broker: Broker
) -> AsyncIterator[None]:
    yield
    async with ingest_broker.reader("test") as reader:
        for topic in RETENTION_DAYS:
            assert set((await reader.end_offsets(topic)).values()) == {0}
    async with client.post(PATH, data=GOOD, headers=signed(GOOD)) as answer:
        assert answer.status == 200


async def post_rejected(
    client: aiohttp.ClientSession, body: bytes | AsyncIterator[bytes], headers: dict[str, str]
) -> tuple[int, dict[str, Any]]:
    data = BytesIO(body) if isinstance(body, bytes) else body
    async with client.post(PATH, data=data, headers=headers | {"Content-Type": "application/json"}) as answer:
        assert answer.content_type == "application/json"
        said = await answer.json()
        assert said["success"] is False
        assert said["error"]["requestId"] == answer.headers["X-Request-Id"]
        return answer.status, said["error"]


async def test_endpoint_rejects_unsigned_probe(client: aiohttp.ClientSession) -> None:
    status, error = await post_rejected(client, b'{"test": true}', {})
    assert (status, error["code"]) == (401, "WEBHOOK_SIGNATURE_INVALID")
    assert error["details"] == {"reason": "signature_missing"}


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (signature(GOOD, b"a-secret-of-someone-else"), "signature_mismatch"),
        (signature(GOOD).upper(), "signature_malformed"),
        (signature(GOOD)[:7] + signature(GOOD)[7:].upper(), "signature_malformed"),
        (signature(GOOD)[7:], "signature_malformed"),
        (signature(GOOD)[:-1], "signature_malformed"),
        (signature(GOOD) + "0", "signature_malformed"),
        ("sha256=", "signature_malformed"),
        ("sha256=" + "zz" * 32, "signature_malformed"),
        ("sha1=" + "00" * 20, "signature_malformed"),
        ("sha256=" + "é" * 64, "signature_malformed"),
        ("", "signature_malformed"),
        ("a" * 8000, "signature_malformed"),
    ],
)
async def test_endpoint_rejects_invalid_signature(client: aiohttp.ClientSession, value: str, reason: str) -> None:
    status, error = await post_rejected(client, GOOD, {"X-Sharegram-Signature": value})
    assert (status, error["code"], error["details"]) == (401, "WEBHOOK_SIGNATURE_INVALID", {"reason": reason})


@pytest.mark.parametrize(
    ("timestamp", "reason"),
    [
        ("1_764_000_000", "timestamp_malformed"),
        ("nan", "timestamp_malformed"),
        ("-5", "timestamp_malformed"),
        ("9" * 400, "timestamp_malformed"),
        pytest.param(str(int(time()) - 86400), "timestamp_out_of_tolerance", id="of yesterday"),
        pytest.param(str(int(time()) + 86400), "timestamp_out_of_tolerance", id="of tomorrow"),
    ],
)
async def test_endpoint_rejects_invalid_timestamp(client: aiohttp.ClientSession, timestamp: str, reason: str) -> None:
    status, error = await post_rejected(client, GOOD, signed(GOOD) | {"X-Sharegram-Timestamp": timestamp})
    assert (status, error["details"]) == (401, {"reason": reason})


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b"", "body"),
        (b"not json", "body"),
        (b"{", "body"),
        (GOOD + b"{}", "body"),
        (b'{"event": "\xff"}', "body"),
        (GOOD[:-1] + b', "note": "\xc3\x28"}', "body"),
        (b"[]", "body"),
        (b"null", "body"),
        (b"[" * 1_000_000, "body"),
        (b'{"data":' * 100_000, "body"),
        (shaped(event=None), "event"),
        (shaped(event="a b"), "event"),
        (shaped(event="x" * 129), "event"),
        (shaped(timestamp="yesterday"), "timestamp"),
        (shaped(timestamp="2026-11-24T12:00:00"), "timestamp"),
        (shaped(timestamp="0001-01-01T00:00:00Z"), "timestamp"),
        (shaped(timestamp=1764000000), "timestamp"),
        (shaped(data=[]), "data"),
        (shaped(data={}), "data.performerId"),
        (shaped(data={"performerId": "sg\x001"}), "data.performerId"),
        (shaped(data={"performerId": "x" * 10_000}), "data.performerId"),
        (shaped(data={"performerId": "sg 1"}), "data.performerId"),
        (shaped(data={"performerId": 5}), "data.performerId"),
        (shaped(id="evt\x00"), "id"),
        (shaped(id="x" * 10_000), "id"),
        (shaped(id=""), "id"),
    ],
)
async def test_endpoint_names_invalid_field_of_body(client: aiohttp.ClientSession, body: bytes, field: str) -> None:
    status, error = await post_rejected(client, body, signed(body))
    assert (status, error["code"]) == (400, "VALIDATION_ERROR")
    assert list(error["details"]) == [field]


async def test_endpoint_rejects_too_long_header_id(client: aiohttp.ClientSession) -> None:
    status, error = await post_rejected(client, GOOD, signed(GOOD) | {"X-Sharegram-Event-Id": "x" * 10_000})
    assert (status, list(error["details"])) == (400, ["X-Sharegram-Event-Id"])


async def test_endpoint_rejects_body_over_the_limit(client: aiohttp.ClientSession) -> None:
    body = GOOD + b" " * (LIMIT + 1 - len(GOOD))
    status, error = await post_rejected(client, body, signed(body))
    assert (status, error["code"]) == (413, "PAYLOAD_TOO_LARGE")


async def test_endpoint_rejects_chunked_body_over_the_limit(client: aiohttp.ClientSession) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(20):
            yield b" " * 65536

    status, error = await post_rejected(client, chunks(), {})
    assert (status, error["code"]) == (413, "PAYLOAD_TOO_LARGE")


async def test_endpoint_rejects_compressed_body(client: aiohttp.ClientSession) -> None:
    status, error = await post_rejected(client, GOOD, signed(GOOD) | {"Content-Encoding": "gzip"})
    assert (status, error["code"]) == (415, "UNSUPPORTED_MEDIA_TYPE")


async def test_endpoint_rejects_other_methods(client: aiohttp.ClientSession) -> None:
    async with client.get(PATH) as answer:
        assert (answer.status, (await answer.json())["error"]["code"]) == (405, "METHOD_NOT_ALLOWED")


async def test_endpoint_logs_reason_of_each_rejection_without_input(client: aiohttp.ClientSession, logs: Path) -> None:
    body = shaped(data={"performerId": "sg 1", "email": "someone@example.test"})
    await post_rejected(client, b"{}", {})
    await post_rejected(client, body, signed(body))
    async with client.get("/healthz"):
        pass
    lines = await _signature_lines(logs, 2)
    assert [line.split()[4] for line in lines] == ["WEBHOOK_SIGNATURE_INVALID", "VALIDATION_ERROR"]
    assert "reason=signature_missing" in lines[0]
    assert "Webhook signature valid" in lines[1]
    assert "example.test" not in "".join(lines)


async def _signature_lines(logs: Path, minimum: int) -> Sequence[str]:
    """Return the lines about signatures, once there are `minimum`: lines are buffered for a moment."""
    app_log = logs / "app.log"
    async with asyncio.timeout(30):
        while True:
            text = app_log.read_text() if app_log.exists() else ""
            lines = [line for line in text.splitlines() if "Webhook signature" in line]
            if len(lines) >= minimum:
                return lines
            await asyncio.sleep(0.01)
