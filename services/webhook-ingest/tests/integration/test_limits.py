"""The door's bounds on real sockets: overload is answered early, slow senders are not waited for, forgers pay."""

import asyncio
import hmac
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager

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
from safevideo_testkit.eventually import DEADLINE_SECONDS, ticking
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
    """The embedded log, whose acknowledgements wait until they are let go."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self.let_go = asyncio.Event()
        self.waiting = 0
        self.acknowledged_within = 0.0
        """What its publisher was told."""

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
        async with self._broker.producer(client_id) as publisher:
            yield _PausedPublisher(self, publisher)


class _PausedPublisher:
    def __init__(self, broker: PausedBroker, publisher: BatchProducer) -> None:
        self._broker = broker
        self._publisher = publisher

    async def publish(self, message: Message) -> tuple[TopicPartition, int]:
        self._broker.waiting += 1
        written = await self._publisher.publish(message)
        await self._broker.let_go.wait()
        return written

    async def publish_batch(self, messages: Sequence[Message]) -> None:
        await self._publisher.publish_batch(messages)


@pytest.fixture
def paused_broker(ingest_broker: Broker) -> PausedBroker:
    return PausedBroker(ingest_broker)


@asynccontextmanager
async def opened(
    settings: IngestSettings, broker: Broker, to: FilteringBoundLogger, **change: object
) -> AsyncIterator[aiohttp.ClientSession]:
    """The door with some settings changed, and a client without a bound of its own."""
    known = IngestSettings.model_validate(settings.model_dump() | change)
    async with (
        run_until_failure(build_app(known, broker, to), known) as (port, _),
        aiohttp.ClientSession(
            f"http://127.0.0.1:{port}",
            timeout=aiohttp.ClientTimeout(total=DEADLINE_SECONDS),
            connector=aiohttp.TCPConnector(limit=0),
        ) as client,
    ):
        yield client


async def said(client: aiohttp.ClientSession, body: bytes, headers: dict[str, str]) -> tuple[int, str | None, str]:
    """Status, `Retry-After` and code."""
    async with client.post(PATH, data=body, headers=headers) as answer:
        error = (await answer.json()).get("error", {})
        return answer.status, answer.headers.get("Retry-After"), error.get("code", "")


async def test_one_too_many_is_refused_before_its_body_is_read_and_the_others_are_answered(
    settings: IngestSettings, paused_broker: PausedBroker, log: FilteringBoundLogger
) -> None:
    async with (
        opened(settings, paused_broker, log, max_webhooks_in_flight=3) as client,
        asyncio.timeout(DEADLINE_SECONDS),
    ):
        held = [asyncio.create_task(said(client, GOOD, signed(GOOD))) for _ in range(3)]
        while paused_broker.waiting < 3:
            await asyncio.sleep(0.01)

        async def never() -> AsyncIterator[bytes]:
            yield b"{"
            await asyncio.Event().wait()

        async with client.post(PATH, data=never()) as answer:
            assert answer.status == 503
            assert answer.headers["Retry-After"] == "1"
            assert (await answer.json())["error"]["code"] == "SERVICE_UNAVAILABLE"
        paused_broker.let_go.set()
        assert [status for status, _, _ in await asyncio.gather(*held)] == [200] * 3
        assert (await said(client, GOOD, signed(GOOD)))[0] == 200


async def test_a_log_that_gives_no_acknowledgement_is_waited_for_as_long_as_is_set(
    settings: IngestSettings, paused_broker: PausedBroker, log: FilteringBoundLogger
) -> None:
    async with opened(settings, paused_broker, log, produce_seconds=0.5) as client:
        began = asyncio.get_running_loop().time()
        async with ticking() as ticks:
            assert (await said(client, GOOD, signed(GOOD)))[0] == 200
        assert asyncio.get_running_loop().time() - began >= 0.4
        assert ticks.seconds < ACKNOWLEDGED_WITHIN_SECONDS - 0.1
        assert paused_broker.acknowledged_within == 0.5
        paused_broker.let_go.set()


async def test_a_body_that_trickles_has_its_seconds_in_all(
    settings: IngestSettings, ingest_broker: Broker, log: FilteringBoundLogger
) -> None:
    async def trickle() -> AsyncIterator[bytes]:
        while True:
            yield b" "
            await asyncio.sleep(0.02)

    async with opened(settings, ingest_broker, log, body_timeout_seconds=0.3) as client:
        async with client.post(PATH, data=trickle()) as answer:
            assert answer.status == 408
        assert (await said(client, GOOD, signed(GOOD)))[0] == 200


async def test_slow_bodies_push_out_each_other_and_no_honest_one(
    settings: IngestSettings, ingest_broker: Broker, log: FilteringBoundLogger
) -> None:
    async def half() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.Event().wait()

    async def in_two() -> AsyncIterator[bytes]:
        yield GOOD[:10]
        yield GOOD[10:]

    async with opened(
        settings, ingest_broker, log, max_webhooks_in_flight=8, body_timeout_seconds=DEADLINE_SECONDS
    ) as client:
        slow = [asyncio.create_task(said_to_stream(client, half())) for _ in range(5)]
        assert await next(asyncio.as_completed(slow)) == 503  # the fifth found four on their way
        async with client.post(PATH, data=in_two(), headers=signed(GOOD)) as answer:
            assert answer.status == 200
        for task in slow:
            task.cancel()
        await asyncio.wait(slow)


async def said_to_stream(client: aiohttp.ClientSession, stream: AsyncIterator[bytes]) -> int:
    async with client.post(PATH, data=stream) as answer:
        return answer.status


async def test_a_forger_is_told_why_a_few_times_and_then_to_slow_down(
    settings: IngestSettings, ingest_broker: Broker, log: FilteringBoundLogger
) -> None:
    change = {"failed_signatures_burst": 3, "failed_signatures_per_minute": 1, "suspects_wait_seconds": 0.2}
    async with opened(settings, ingest_broker, log, **change) as client:
        first = asyncio.get_running_loop().time()
        told = [await said(client, GOOD, FORGED) for _ in range(3)]
        assert told == [(401, None, "WEBHOOK_SIGNATURE_INVALID")] * 3
        began = asyncio.get_running_loop().time()
        status, retry_after, code = await said(client, GOOD, FORGED)
        assert asyncio.get_running_loop().time() - began >= 0.2
        assert (status, code) == (429, "RATE_LIMITED")
        assert 59 - (asyncio.get_running_loop().time() - first) <= int(retry_after or 0) <= 60


async def test_a_good_signature_from_a_suspects_address_passes(
    settings: IngestSettings, ingest_broker: Broker, log: FilteringBoundLogger
) -> None:
    """Sharegram may share a proxy's address with a forger."""
    change = {"failed_signatures_burst": 1, "failed_signatures_per_minute": 1, "suspects_wait_seconds": 0.0}
    async with opened(settings, ingest_broker, log, **change) as client:
        for _ in range(10):
            await said(client, GOOD, FORGED)
        assert (await said(client, GOOD, signed(GOOD)))[0] == 200
        assert (await said(client, LARGE, signed(LARGE)))[0] == 200


async def test_a_suspects_large_bodies_are_refused_unread_beyond_their_share(
    settings: IngestSettings, ingest_broker: Broker, log: FilteringBoundLogger
) -> None:
    change = {
        "failed_signatures_burst": 1,
        "failed_signatures_per_minute": 1,
        "suspects_wait_seconds": 0.0,
        "suspects_bytes_per_second": 1,
        "trusted_proxies": "127.0.0.0/8",
    }
    forger, other = {"X-Forwarded-For": "203.0.113.9"}, {"X-Forwarded-For": "203.0.113.10"}
    forged_large = signed(LARGE, b"a-secret-of-someone-else")
    async with opened(settings, ingest_broker, log, **change) as client:
        statuses = [(await said(client, LARGE, forged_large | forger))[0] for _ in range(12)]
        assert statuses[0] == 401
        assert statuses[-1] == 429
        assert (await said(client, LARGE, signed(LARGE) | forger))[::2] == (429, "RATE_LIMITED")
        assert (await said(client, GOOD, signed(GOOD) | forger))[0] == 200
        assert (await said(client, LARGE, signed(LARGE) | other))[0] == 200


async def test_new_connections_of_a_suspect_are_closed_unread_beyond_their_share_and_open_ones_served(
    settings: IngestSettings, ingest_broker: Broker, log: FilteringBoundLogger
) -> None:
    change = {
        "failed_signatures_burst": 1,
        "failed_signatures_per_minute": 1,
        "suspects_wait_seconds": 0.0,
        "suspects_connections_per_second": 1,
    }
    async with opened(settings, ingest_broker, log, **change) as client, asyncio.timeout(DEADLINE_SECONDS):
        async with client.get("/healthz") as answer:
            port = answer.url.port or 0
        assert await said_to_a_newcomer(port)
        for _ in range(2):
            await said(client, GOOD, FORGED)
        while await said_to_a_newcomer(port):
            pass
        assert (await said(client, GOOD, signed(GOOD)))[0] == 200


async def test_a_proxy_that_is_trusted_may_open_what_it_likes(
    settings: IngestSettings, ingest_broker: Broker, log: FilteringBoundLogger
) -> None:
    change = {
        "failed_signatures_burst": 1,
        "failed_signatures_per_minute": 1,
        "suspects_wait_seconds": 0.0,
        "suspects_connections_per_second": 1,
        "trusted_proxies": "127.0.0.0/8",
    }
    async with opened(settings, ingest_broker, log, **change) as client, asyncio.timeout(DEADLINE_SECONDS):
        async with client.get("/healthz") as answer:
            port = answer.url.port or 0
        for _ in range(2):
            await said(client, GOOD, FORGED)
        assert all([await said_to_a_newcomer(port) for _ in range(10)])


async def said_to_a_newcomer(port: int) -> bytes:
    """What a new connection is answered; nothing when it is closed unread."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        return await reader.read()
    except ConnectionError:
        return b""
    finally:
        writer.transport.abort()


async def test_the_metrics_tell_stages_secrets_and_the_last_good_event(
    settings: IngestSettings, ingest_broker: Broker, log: FilteringBoundLogger
) -> None:
    async with opened(settings, ingest_broker, log) as client:
        await said(client, GOOD, signed(GOOD))
        await said(client, GOOD, FORGED)
        async with client.get("/metrics") as answer:
            lines = (await answer.text()).splitlines()
    figures = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    assert figures['safevideo_webhooks_total{outcome="accepted"}'] == "1.0"
    assert figures['safevideo_webhooks_total{outcome="signature_mismatch"}'] == "1.0"
    assert [value for name, value in figures.items() if name.startswith("safevideo_webhook_secret_used_t")] == ["1.0"]
    assert float(figures['safevideo_webhook_last_accepted_timestamp_seconds{source="sharegram"}']) > 1.7e9
    for stage, times in {"read": "2.0", "verify": "1.0", "publish": "1.0"}.items():
        assert figures[f'safevideo_webhook_stage_seconds_count{{stage="{stage}"}}'] == times
