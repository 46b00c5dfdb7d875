"""Requests that no client library sends, written to a socket."""

import hmac

import orjson
import pytest

from safevideo_testkit.eventually import eventually
from safevideo_testkit.raw_http import answer, connected

SECRET = b"the-secret-of-these-tests"
BODY = orjson.dumps({"event": "never.heard.of", "timestamp": "2026-11-24T12:00:00Z", "data": {}})
SIGNATURE = b"X-Sharegram-Signature: sha256=" + hmac.digest(SECRET, BODY, "sha256").hex().encode()
REQUEST = b"POST /webhooks/sharegram HTTP/1.1\r\nHost: x\r\n" + SIGNATURE + b"\r\n"


async def answer_to(port: int, request: bytes) -> tuple[int, dict[str, object]]:
    """Return status and JSON of the first response."""
    async with connected(port) as (reader, writer):
        writer.write(request)
        status, _, body = await answer(reader)
        return status, orjson.loads(body)


def with_length(length: int) -> bytes:
    return REQUEST + b"Content-Length: %d\r\n\r\n" % length


async def test_endpoint_accepts_the_wellformed_request(port: int) -> None:
    status, _ = await answer_to(port, with_length(len(BODY)) + BODY)
    assert status == 200


async def test_endpoint_rejects_too_short_content_length(port: int) -> None:
    """The rest of the body looks like a second, invalid request. The result depends on which is parsed first."""
    status, said = await answer_to(port, with_length(len(BODY) - 1) + BODY)
    assert (status, code(said)) in {(400, "VALIDATION_ERROR"), (401, "WEBHOOK_SIGNATURE_INVALID")}


async def test_endpoint_times_out_on_too_long_content_length(port: int) -> None:
    status, said = await answer_to(port, with_length(len(BODY) + 1) + BODY)
    assert (status, code(said)) == (408, "REQUEST_TIMEOUT")


async def test_endpoint_rejects_content_length_over_the_limit_without_body(port: int) -> None:
    status, said = await answer_to(port, with_length(10**12))
    assert (status, code(said)) == (413, "PAYLOAD_TOO_LARGE")


async def test_endpoint_accepts_chunked_body(port: int) -> None:
    chunked = b"Transfer-Encoding: chunked\r\n\r\n" + b"".join(b"1\r\n%c\r\n" % byte for byte in BODY) + b"0\r\n\r\n"
    status, _ = await answer_to(port, REQUEST + chunked)
    assert status == 200


async def test_endpoint_answers_expect_100_continue(port: int) -> None:
    async with connected(port) as (reader, writer):
        writer.write(REQUEST + b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(BODY))
        assert (await reader.readuntil(b"\r\n\r\n")).split()[1] == b"100"
        writer.write(BODY)
        assert (await answer(reader)).status == 200


async def test_endpoint_rejects_two_signature_headers(port: int) -> None:
    status, said = await answer_to(port, REQUEST + SIGNATURE + b"\r\nContent-Length: %d\r\n\r\n" % len(BODY) + BODY)
    assert (status, code(said)) == (401, "WEBHOOK_SIGNATURE_INVALID")


async def test_endpoint_is_not_at_its_path_encoded_in_another_way(port: int) -> None:
    request = (with_length(len(BODY)) + BODY).replace(b"/webhooks/sharegram", b"/webhooks%2fsharegram")
    status, said = await answer_to(port, request)
    assert (status, code(said)) == (404, "NOT_FOUND")


async def test_endpoint_refuses_a_malformed_later_chunk_at_once_and_counts_it(port: int) -> None:
    async with connected(port) as (reader, writer):
        writer.write(REQUEST + b"Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n")
        await writer.drain()
        assert await answer_to(port, REQUEST + b"Content-Length: 1\r\n\r\n{")
        writer.write(b"ZZ\r\n")
        status, _, body = await answer(reader)
        assert (status, code(orjson.loads(body))) == (400, "VALIDATION_ERROR")
    assert 'outcome="malformed_body"} 1.0' in await metrics_of(port)


async def test_sender_that_leaves_in_its_body_is_counted_as_gone(port: int) -> None:
    async with connected(port) as (_, writer):
        writer.write(with_length(len(BODY)) + BODY[:1])
        await writer.drain()
        assert await answer_to(port, REQUEST + b"Content-Length: 1\r\n\r\n{")

    async def is_counted() -> bool:
        return 'outcome="client_gone"} 1.0' in await metrics_of(port)

    await eventually(is_counted)


async def metrics_of(port: int) -> str:
    async with connected(port) as (reader, writer):
        writer.write(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        return (await answer(reader)).body.decode()


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"\x16\x03\x01 hello\r\n\r\n",
        b"POST /webhooks/sharegram HTTP/1.1\r\nHost: x\r\nContent-Length: ten\r\n\r\n",
        b"POST /webhooks/sharegram HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"POST /webhooks/sharegram HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"POST /webhooks/sharegram HTTP/1.1\r\nHost: x\r\nBad\x00Header: 1\r\n\r\n",
        b"POST /webhooks/sharegram HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n",
        b"POST /webhooks/sharegram HTTP/1.1\r\nHost: x\r\nExpect: \x80\r\nContent-Length: 1\r\n\r\nx",
        b"POST /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST /webhooks/sharegram HTTP/1.1\r\nHost: x\r\nX-Long: " + b"a" * 100_000 + b"\r\n\r\n",
    ],
)
async def test_endpoint_answers_invalid_http_with_400_in_json(port: int, request_bytes: bytes) -> None:
    status, said = await answer_to(port, request_bytes)
    assert (status, code(said)) == (400, "VALIDATION_ERROR")


def code(said: dict[str, object]) -> object:
    error = said["error"]
    assert isinstance(error, dict)
    return error["code"]
