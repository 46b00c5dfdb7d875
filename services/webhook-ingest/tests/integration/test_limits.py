"""The limits of the endpoint on real sockets: overload, slow senders, and clients with invalid signatures."""

import asyncio
import hmac
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import aiohttp
import orjson
import pytest

from safevideo_common.broker.port import (
    ACKNOWLEDGED_WITHIN_SECONDS,
    BatchProducer,
    Broker,
    Reader,
    Subscription,
)
from safevideo_common.broker.types import Message, Topic, TopicPartition, TopicState
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_common.service import run_until_failure
from safevideo_testkit.eventually import DEADLINE_SECONDS
from webhook_ingest.app import build_app
from webhook_ingest.settings import IngestSettings

SECRET = b"the-secret-of-these-tests"
PATH = "/webhooks/sharegram"


def webhook(bio: str = "") -> bytes:
    data = {"performerId": "sg_1", "changes": {"username": "a", "bio": bio}}
    return orjson.dumps({"event": "performer.profile.updated", "timestamp": "2026-11-24T12:00:00Z", "data": data})


def signed(body: bytes, secret: bytes = SECRET) -> dict[str, str]:
    return {"X-Sharegram-Signature": "sha256=" + hmac.digest(secret, body, "sha256").hex()}


GOOD = webhook()
LARGE = webhook("b" * 100_000)
FORGED = signed(GOOD, b"a-secret-of-someone-else")


class PausedBroker:
    """The embedded broker, whose acknowledgements wait for `resume`."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self.resume = asyncio.Event()
        self.waiting = 0
        self.waited: list[float] = []
        """How long each message was waited for, in seconds."""
        self.acknowledged_within = 0.0
        """The timeout of its producer."""

    async def probe(self) -> None:
        await self._broker.probe()

    async def create_topics(self, topics: Sequence[Topic]) -> None:
        await self._broker.create_topics(topics)

    async def topic_states(self, names: Collection[str]) -> Sequence[TopicState]:
        return await self._broker.topic_states(names)

    def subscribe(self, group: str, topics: Sequence[str], client_id: str) -> AbstractAsyncContextManager[Subscription]:
        return self._broker.subscribe(group, topics, client_id)

    def reader(self, client_id: str) -> AbstractAsyncContextManager[Reader]:
        return self._broker.reader(client_id)

    def producer(
        self, client_id: str, *, acknowledged_within: float = ACKNOWLEDGED_WITHIN_SECONDS
    ) -> AbstractAsyncContextManager[BatchProducer]:
        self.acknowledged_within = acknowledged_within
        return self._paused(client_id)

    @asynccontextmanager
    async def _paused(self, client_id: str) -> AsyncIterator[BatchProducer]:
        async with self._broker.producer(client_id) as producer:
            yield _PausedProducer(self, producer)


class _PausedProducer:
    def __init__(self, broker: PausedBroker, producer: BatchProducer) -> None:
        self._broker = broker
        self._producer = producer

    def partition_of(self, message: Message) -> TopicPartition:
        return self._producer.partition_of(message)

    async def publish(self, message: Message) -> tuple[TopicPartition, int]:
        self._broker.waiting += 1
        began = asyncio.get_running_loop().time()
        try:
            written = await self._producer.publish(message)
            await self._broker.resume.wait()
        finally:
            self._broker.waited.append(asyncio.get_running_loop().time() - began)
        return written

    async def publish_batch(self, messages: Sequence[Message]) -> None:
        await self._producer.publish_batch(messages)


@pytest.fixture
def paused_broker(ingest_broker: Broker) -> PausedBroker:
    return PausedBroker(ingest_broker)


@asynccontextmanager
async def open_endpoint(
    settings: IngestSettings, broker: Broker, log: FilteringBoundLogger, **change: object
) -> AsyncIterator[aiohttp.ClientSession]:
    """Open the endpoint with changed settings, and a client without a connection limit."""
    changed = IngestSettings.model_validate(settings.model_dump() | change)
    async with (
        run_until_failure(build_app(changed, broker, log), changed) as (port, _),
        aiohttp.ClientSession(
            f"http://127.0.0.1:{port}",
            timeout=aiohttp.ClientTimeout(total=DEADLINE_SECONDS),
            connector=aiohttp.TCPConnector(limit=0),
        ) as client,
    ):
        yield client


async def post(client: aiohttp.ClientSession, body: bytes, headers: dict[str, str]) -> tuple[int, str | None, str]:
    """Return status, `Retry-After` and error code."""
    async with client.post(PATH, data=body, headers=headers) as answer:
        error = (await answer.json()).get("error", {})
        return answer.status, answer.headers.get("Retry-After"), error.get("code", "")


async def test_endpoint_rejects_webhook_above_concurrency_limit_before_its_body(
    settings: IngestSettings, paused_broker: PausedBroker, log: FilteringBoundLogger
) -> None:
    async with (
        open_endpoint(settings, paused_broker, log, max_webhooks_in_flight=3, produce_timeout_seconds=30) as client,
        asyncio.timeout(DEADLINE_SECONDS),
    ):
        waiting = [asyncio.create_task(post(client, GOOD, signed(GOOD))) for _ in range(3)]
        while paused_broker.waiting < 3:
            await asyncio.sleep(0.01)

        async def never() -> AsyncIterator[bytes]:
            yield b"{"
            await asyncio.Event().wait()

        async with client.post(PATH, data=never()) as answer:
            assert answer.status == 503
            assert answer.headers["Retry-After"] == "1"
            assert (await answer.json())["error"]["code"] == "SERVICE_UNAVAILABLE"
        paused_broker.resume.set()
        assert [status for status, _, _ in await asyncio.gather(*waiting)] == [200] * 3
        assert (await post(client, GOOD, signed(GOOD)))[0] == 200


async def test_endpoint_waits_for_acknowledgement_as_long_as_configured(
    settings: IngestSettings, paused_broker: PausedBroker, log: FilteringBoundLogger
) -> None:
    async with open_endpoint(settings, paused_broker, log, produce_timeout_seconds=0.5) as client:
        began = asyncio.get_running_loop().time()
        assert (await post(client, GOOD, signed(GOOD)))[0] == 200
        assert asyncio.get_running_loop().time() - began >= 0.4
        assert paused_broker.waited[0] < ACKNOWLEDGED_WITHIN_SECONDS - 0.1  # the answer also waits for a disk
        assert paused_broker.acknowledged_within == 0.5
        paused_broker.resume.set()


async def test_endpoint_bounds_total_time_of_a_trickling_body(
    settings: IngestSettings, ingest_broker: Broker, log: FilteringBoundLogger
) -> None:
    async def trickle() -> AsyncIterator[bytes]:
        while True:
            yield b" "
            await asyncio.sleep(0.02)

    async with open_endpoint(settings, ingest_broker, log, body_timeout_seconds=0.3) as client:
        async with client.post(PATH, data=trickle()) as answer:
            assert answer.status == 408
        assert (await post(client, GOOD, signed(GOOD)))[0] == 200


async def test_endpoint_evicts_slow_bodies_and_no_honest_one(
    settings: IngestSettings, ingest_broker: Broker, log: FilteringBoundLogger
) -> None:
    async def half() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.Event().wait()

    async def in_two() -> AsyncIterator[bytes]:
        yield GOOD[:10]
        yield GOOD[10:]

    async with open_endpoint(
        settings, ingest_broker, log, max_webhooks_in_flight=8, body_timeout_seconds=DEADLINE_SECONDS
    ) as client:
        slow = [asyncio.create_task(post_stream(client, half())) for _ in range(5)]
        assert await next(asyncio.as_completed(slow)) == 503  # the fifth exceeds the limit of four
        async with client.post(PATH, data=in_two(), headers=signed(GOOD)) as answer:
            assert answer.status == 200
        for task in slow:
            task.cancel()
        await asyncio.wait(slow)


async def post_stream(client: aiohttp.ClientSession, stream: AsyncIterator[bytes]) -> int:
    async with client.post(PATH, data=stream) as answer:
        return answer.status


async def test_endpoint_throttles_client_after_several_invalid_signatures(
    settings: IngestSettings, ingest_broker: Broker, log: FilteringBoundLogger
) -> None:
    change = {"failed_signatures_burst": 3, "failed_signatures_per_minute": 1, "throttled_client_delay_seconds": 0.2}
    async with open_endpoint(settings, ingest_broker, log, **change) as client:
        first = asyncio.get_running_loop().time()
        responses = [await post(client, GOOD, FORGED) for _ in range(3)]
        assert responses == [(401, None, "WEBHOOK_SIGNATURE_INVALID")] * 3
        began = asyncio.get_running_loop().time()
        status, retry_after, code = await post(client, GOOD, FORGED)
        assert asyncio.get_running_loop().time() - began >= 0.2
        assert (status, code) == (429, "RATE_LIMITED")
        assert 59 - (asyncio.get_running_loop().time() - first) <= int(retry_after or 0) <= 60


async def test_endpoint_accepts_valid_signature_of_throttled_client(
    settings: IngestSettings, ingest_broker: Broker, log: FilteringBoundLogger
) -> None:
    """Sharegram may share a proxy's address with a forger."""
    change = {"failed_signatures_burst": 1, "failed_signatures_per_minute": 1, "throttled_client_delay_seconds": 0.0}
    async with open_endpoint(settings, ingest_broker, log, **change) as client:
        for _ in range(10):
            await post(client, GOOD, FORGED)
        assert (await post(client, GOOD, signed(GOOD)))[0] == 200
        assert (await post(client, LARGE, signed(LARGE)))[0] == 200


async def test_endpoint_rejects_large_bodies_of_throttled_client_above_the_rate(
    settings: IngestSettings, ingest_broker: Broker, log: FilteringBoundLogger
) -> None:
    change = {
        "failed_signatures_burst": 1,
        "failed_signatures_per_minute": 1,
        "throttled_client_delay_seconds": 0.0,
        "throttled_client_bytes_per_second": 1,
        "trusted_proxies": "127.0.0.0/8",
    }
    forger, other = {"X-Forwarded-For": "203.0.113.9"}, {"X-Forwarded-For": "203.0.113.10"}
    forged_large = signed(LARGE, b"a-secret-of-someone-else")
    async with open_endpoint(settings, ingest_broker, log, **change) as client:
        statuses = [(await post(client, LARGE, forged_large | forger))[0] for _ in range(12)]
        assert statuses[0] == 401
        assert statuses[-1] == 429
        assert (await post(client, LARGE, signed(LARGE) | forger))[::2] == (429, "RATE_LIMITED")
        assert (await post(client, GOOD, signed(GOOD) | forger))[0] == 200
        assert (await post(client, LARGE, signed(LARGE) | other))[0] == 200


async def test_endpoint_closes_new_connections_of_throttled_client_above_the_rate(
    settings: IngestSettings, ingest_broker: Broker, log: FilteringBoundLogger
) -> None:
    change = {
        "failed_signatures_burst": 1,
        "failed_signatures_per_minute": 1,
        "throttled_client_delay_seconds": 0.0,
        "throttled_client_connections_per_second": 1,
    }
    async with open_endpoint(settings, ingest_broker, log, **change) as client, asyncio.timeout(DEADLINE_SECONDS):
        async with client.get("/healthz") as answer:
            port = answer.url.port or 0
        assert await get_on_new_connection(port)
        for _ in range(2):
            await post(client, GOOD, FORGED)
        while await get_on_new_connection(port):
            pass
        assert (await post(client, GOOD, signed(GOOD)))[0] == 200


async def test_endpoint_accepts_all_connections_of_trusted_proxy(
    settings: IngestSettings, ingest_broker: Broker, log: FilteringBoundLogger
) -> None:
    change = {
        "failed_signatures_burst": 1,
        "failed_signatures_per_minute": 1,
        "throttled_client_delay_seconds": 0.0,
        "throttled_client_connections_per_second": 1,
        "trusted_proxies": "127.0.0.0/8",
    }
    async with open_endpoint(settings, ingest_broker, log, **change) as client, asyncio.timeout(DEADLINE_SECONDS):
        async with client.get("/healthz") as answer:
            port = answer.url.port or 0
        for _ in range(2):
            await post(client, GOOD, FORGED)
        assert all([await get_on_new_connection(port) for _ in range(10)])


async def get_on_new_connection(port: int) -> bytes:
    """Return the response on a new connection; no bytes if it is closed unread."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        return await reader.read()
    except ConnectionError:
        return b""
    finally:
        writer.transport.abort()


async def test_metrics_show_stages_secrets_and_last_valid_webhook(
    settings: IngestSettings, ingest_broker: Broker, log: FilteringBoundLogger
) -> None:
    async with open_endpoint(settings, ingest_broker, log) as client:
        await post(client, GOOD, signed(GOOD))
        await post(client, GOOD, FORGED)
        async with client.get("/metrics") as answer:
            lines = (await answer.text()).splitlines()
    values = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    assert values['safevideo_webhooks_total{outcome="accepted"}'] == "1.0"
    assert values['safevideo_webhooks_total{outcome="signature_mismatch"}'] == "1.0"
    assert [value for name, value in values.items() if name.startswith("safevideo_webhook_secret_used_t")] == ["1.0"]
    assert float(values['safevideo_webhook_last_accepted_timestamp_seconds{source="sharegram"}']) > 1.7e9
    for stage, times in {"read": "2.0", "verify": "1.0", "publish": "1.0"}.items():
        assert values[f'safevideo_webhook_stage_duration_seconds_count{{stage="{stage}"}}'] == times


async def test_log_names_the_client_behind_a_trusted_proxy(
    settings: IngestSettings, ingest_broker: Broker, log: FilteringBoundLogger, logs: Path
) -> None:
    async with open_endpoint(settings, ingest_broker, log, trusted_proxies="127.0.0.0/8") as client:
        assert (await post(client, GOOD, FORGED | {"X-Forwarded-For": "198.51.100.7:49152"}))[0] == 401
        assert (await post(client, GOOD, FORGED))[0] == 401
    log.error("The test looks", code="LOOK")  # an ERROR is written at once, with what was gathered before
    lines = [line for line in (logs / "app.log").read_text().splitlines() if "Webhook signature invalid" in line]
    assert ["remote=198.51.100.7" in line for line in lines] == [True, False]
    assert "remote=127.0.0.1" in lines[1]
