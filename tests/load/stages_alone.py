"""What each stage costs alone: the service's own function, called as the service calls it, and the least it could cost.

CPU time in microseconds a webhook, of the best of some repetitions.
"""

import asyncio
import hmac
import os
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from time import process_time
from typing import Final, NamedTuple

import msgspec
import orjson
import uvloop
from aiokafka.producer.message_accumulator import BatchBuilder
from multidict import CIMultiDict, CIMultiDictProxy
from payloads import SECRET, Keys, bodies, messages, signature
from prometheus_client import CollectorRegistry
from stages import EVENT, IDS, LOG_LINE, METRICS, PUBLISH, SIGNATURE

from safevideo_common.broker.open import open_broker
from safevideo_common.broker.port import Producer
from safevideo_common.broker.types import Message
from safevideo_common.clock import utc_now
from safevideo_common.observability.http_metrics import HttpMetrics
from safevideo_common.observability.logs import LogSink, build_logger
from safevideo_common.web.correlation import correlate
from safevideo_common.webhooks.parsing import message_of, parse_webhook
from safevideo_common.webhooks.signatures import SCHEMES, environment_secrets
from webhook_ingest.metrics import IngestMetrics

TIMES: Final = 5000
REPEATS: Final = 5
BATCH: Final = 50
AT_ONCE: Final = 256
EACH: Final = 40
PUBLISH_SECONDS: Final = 30.0
STDOUT: Final = 1
PERFORMER, BODY = next(bodies(range(1), Keys()))


class Alone(NamedTuple):
    """Microseconds of a stage's own function and of the least that it could be, and what that least is."""

    micros: float
    least: float
    least_is: str


class Least(msgspec.Struct):
    """What must be known of a body."""

    event: str
    timestamp: datetime
    data: dict[str, msgspec.Raw]


def stages_alone(bootstrap_servers: str, folder: Path) -> Mapping[str, Alone]:
    """All but HTTP, whose measure is the bare server."""
    message = next(messages(range(1), Keys()))
    return {
        IDS: Alone(_micros(_ids()), _micros(lambda: f"{random.getrandbits(192):048x}"), "48 random digits"),
        SIGNATURE: Alone(_micros(_verify()), _micros(_digest()), "one HMAC of 1 kB, compared"),
        EVENT: Alone(_micros(_parse()), _micros(_decode()), "one msgspec decode"),
        PUBLISH: Alone(
            uvloop.run(_published(bootstrap_servers)),
            _micros(lambda: _batch(message), TIMES // BATCH) / BATCH,
            "append to a full batch, no future, no broker",
        ),
        LOG_LINE: Alone(
            asyncio.run(_log_line(folder / "lines")), _micros(lambda: orjson.dumps(_LINE)), "one orjson dump, no write"
        ),
        METRICS: Alone(_micros(_metrics()), _micros(_count), "six counts in a list"),
    }


def _micros(call: Callable[[], object], times: int = TIMES) -> float:
    def once() -> float:
        began = process_time()
        for _ in range(times):
            call()
        return (process_time() - began) / times * 1e6

    return min(once() for _ in range(REPEATS))


def _headers() -> CIMultiDictProxy[str]:
    values = {"Host": "x", "Content-Type": "application/json", "Content-Length": str(len(BODY))}
    return CIMultiDictProxy(CIMultiDict({**values, "X-Sharegram-Signature": signature(BODY)}))


def _ids() -> Callable[[], object]:
    headers = _headers()
    return lambda: correlate(headers)


def _verify() -> Callable[[], object]:
    headers, secrets = _headers(), environment_secrets(SECRET)
    return lambda: SCHEMES["any"].verify(headers, BODY, secrets, utc_now())


def _digest() -> Callable[[], object]:
    key = SECRET.encode()
    given = hmac.digest(key, BODY, "sha256")
    return lambda: hmac.compare_digest(hmac.digest(key, BODY, "sha256"), given)


def _parse() -> Callable[[], object]:
    headers = _headers()
    correlation = correlate(headers)
    identity = SCHEMES["any"].identity(headers)
    return lambda: message_of(parse_webhook(BODY, headers, identity, correlation), BODY)


def _decode() -> Callable[[], object]:
    decoder = msgspec.json.Decoder(Least)
    return lambda: decoder.decode(BODY)


def _batch(message: Message) -> None:
    builder, headers = BatchBuilder(1 << 20, 0), list(message.headers)
    for _ in range(BATCH):
        builder.append(timestamp=None, key=message.key, value=message.value, headers=headers)


_LINE: Final = {
    "timestamp": "2026-11-24T12:00:00.000Z",
    "level": "info",
    "service": "webhook-ingest",
    "event": "Webhook signature valid",
    "outcome": "accepted",
    "event_id": "evt-1",
    "type": "performer.profile.updated",
    "performer": PERFORMER,
    "key": "env-000000",
    "request_id": "0" * 32,
}
_FIELDS: Final = {name: _LINE[name] for name in ("outcome", "event_id", "type", "performer", "key", "request_id")}


async def _log_line(file: Path) -> float:
    # In a loop, since without one nobody would write lines together later; and to stdout, as the door's go.
    log = build_logger("webhook-ingest", LogSink(None))
    with _stdout_to(file):
        return _micros(lambda: log.info("Webhook signature valid", **_FIELDS))


@contextmanager
def _stdout_to(file: Path) -> Iterator[None]:
    ours = os.dup(STDOUT)
    with file.open("ab") as sink:
        os.dup2(sink.fileno(), STDOUT)
    try:
        yield
    finally:
        os.dup2(ours, STDOUT)
        os.close(ours)


def _metrics() -> Callable[[], object]:
    registry = CollectorRegistry()
    metrics, http = IngestMetrics(registry), HttpMetrics(registry)

    def count() -> None:
        metrics.read.observe(0.00001)
        metrics.verify.observe(0.0001)
        metrics.publish.observe(0.01)
        metrics.accepted("sharegram", "env-000000")
        http.observe("POST", "/webhooks/sharegram", 200, 0.01)

    return count


_counts = [0] * 6


def _count() -> None:
    for place in range(6):
        _counts[place] += 1


async def _published(bootstrap_servers: str) -> float:
    """By the door's own publisher, as many at once as there are connections, each acknowledged before its next."""
    all_ = list(messages(range(AT_ONCE), Keys()))
    async with open_broker(bootstrap_servers, None) as broker, broker.producer("stages") as publisher:
        await publisher.publish(all_[0])
        async with asyncio.timeout(PUBLISH_SECONDS):
            times = [await _publish_batch(publisher, all_) for _ in range(REPEATS)]
    return min(times)


async def _publish_batch(publisher: Producer, all_: list[Message]) -> float:
    async def publish(message: Message) -> None:
        for _ in range(EACH):
            await publisher.publish(message)

    began = process_time()
    await asyncio.gather(*map(publish, all_))
    return (process_time() - began) / len(all_) / EACH * 1e6
