"""Webhooks with one value at an end of its type, and their way to a worker without a socket, a broker or a database."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import Any, Final

import msgspec
from multidict import CIMultiDict, CIMultiDictProxy

from safevideo_common.broker.types import Record
from safevideo_common.errors import ValidationFailed
from safevideo_common.events import kyc, performer
from safevideo_common.events.envelope import ExternalId, Timestamp
from safevideo_common.inbox.handler import Delivery, delivery_of
from safevideo_common.web.correlation import Correlation
from safevideo_common.webhooks.parsing import message_of, parse_webhook
from safevideo_common.webhooks.signatures.scheme import SignedIdentity
from safevideo_testkit.fuzz.ends import End, ends_of

VERIFICATION: Final[Mapping[str, object]] = {
    "verificationId": "ver_1",
    "performerId": "sg_1",
    "result": {"status": "passed", "riskScore": 93.5, "checks": {"face": "match"}},
    "version": 3,
}
PERFORMER: Final[Mapping[str, object]] = {
    "performerId": "sg_1",
    "profile": {"username": "ada", "displayName": "Ada", "email": "ada@example.com", "verified": True},
    "changes": {"bio": "A life.", "profileImage": "https://example.com/ada.png"},
    "status": "active",
    "version": 3,
}
TIMES: Final = ("2000-01-01T00:00:00+23:59", "2026-11-24T12:00:00Z", "2999-12-31T23:59:59-23:59")
"""The earliest time that webhook-ingest takes, a usual one, and the latest."""
_UNSIGNED: Final = SignedIdentity(None, is_body_signed_alone=True)
_HEADERS: Final = CIMultiDictProxy(CIMultiDict[str]())


def verification_ends(times: Sequence[str] = TIMES, types: Sequence[str] = kyc.TYPES) -> Iterator[End]:
    """Yield verification webhooks of each of `types`, at each of `times`."""
    return _webhooks(types, times, kyc.Verification, VERIFICATION)


def performer_ends(times: Sequence[str] = TIMES, types: Sequence[str] = performer.TYPES) -> Iterator[End]:
    """Yield performer webhooks of each of `types`, at each of `times`."""
    return _webhooks(types, times, performer.PerformerData, PERFORMER)


def delivered(body: bytes, offset: int = 0) -> Delivery | None:
    """Return what a worker gets of a signed webhook, or None if webhook-ingest refuses it with a code."""
    try:
        envelope = parse_webhook(body, _HEADERS, _UNSIGNED, Correlation("req_1", ""))
    except ValidationFailed:
        return None
    sent = message_of(envelope, body)
    record = Record(sent.topic, 0, offset, 1_764_000_000_000, sent.key, sent.value, sent.headers)
    delivery = delivery_of(record)
    assert delivery.fault is None, "what webhook-ingest accepts is an event for the worker"
    return delivery


def _webhooks(types: Sequence[str], times: Sequence[str], data: type, example: Mapping[str, object]) -> Iterator[End]:
    fields: list[tuple[str, Any] | tuple[str, Any, Any]] = [
        ("event", str),
        ("timestamp", Timestamp),
        ("data", data),
        ("id", ExternalId | None, None),
    ]
    kind = msgspec.defstruct("Webhook", fields)
    for event, timestamp in product(types, times):
        yield from ends_of(kind, {"event": event, "timestamp": timestamp, "data": example, "id": "evt_1"})
