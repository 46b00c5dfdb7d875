"""Parsing of verified bodies: the id of the envelope, and the field of each rejection."""

import hashlib
import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safevideo_common.errors import ValidationFailed
from safevideo_common.events.envelope import parse_headers
from safevideo_common.web.correlation import Correlation
from safevideo_common.webhooks.parsing import parse_webhook

CORRELATION = Correlation("request-1", "00-" + "a" * 32 + "-" + "b" * 16 + "-01")


def body(**overrides: object) -> bytes:
    fields = {
        "event": "performer.profile.updated",
        "timestamp": "2026-11-24T12:00:00.123456Z",
        "data": {"performerId": "sg_1", "changes": {"bio": "x"}},
    }
    return json.dumps({**fields, **overrides}).encode()


def rejected_field(raw: bytes, headers: dict[str, str] | None = None) -> str:
    with pytest.raises(ValidationFailed) as error:
        parse_webhook(raw, headers or {}, CORRELATION)
    (field,) = error.value.details or {"": ""}
    return field


def test_parser_takes_envelope_from_body() -> None:
    envelope = parse_webhook(body(id="evt_1"), {}, CORRELATION)
    assert (envelope.id, envelope.type, envelope.subject) == ("evt_1", "performer.profile.updated", "sg_1")
    assert envelope.time == datetime(2026, 11, 24, 12, 0, 0, 123456, UTC)
    assert envelope.request_id == "request-1"


def test_envelope_is_restored_from_headers() -> None:
    envelope = parse_webhook(body(), {}, CORRELATION)
    assert parse_headers(envelope.headers()) == envelope


def test_parser_prefers_id_of_header() -> None:
    assert parse_webhook(body(id="b"), {"X-Sharegram-Event-Id": "a"}, CORRELATION).id == "a"
    assert parse_webhook(body(id="b"), {"webhook-id": "w"}, CORRELATION).id == "w"


def test_parser_derives_missing_id_from_body() -> None:
    raw = body()
    assert parse_webhook(raw, {}, CORRELATION).id == f"sha256-{hashlib.sha256(raw).hexdigest()}"


def test_parser_accepts_unknown_type_without_performer() -> None:
    envelope = parse_webhook(body(event="payout.created", data={}), {}, CORRELATION)
    assert (envelope.type, envelope.subject) == ("payout.created", None)


@pytest.mark.parametrize(
    ("raw", "field"),
    [
        (b"", "body"),
        (b"{", "body"),
        (b"null", "body"),
        (b"[]", "body"),
        (b"\xff\xfe", "body"),
        (b'{"event": "x\xff"}', "body"),
        (b"[" * 1_000_000, "body"),
        (
            b'{"event":"x","timestamp":"2026-11-24T12:00:00Z","data":' + b'{"a":' * 1_000_00 + b"1" + b"}" * 1_000_00,
            "body",
        ),
        (body(event=""), "event"),
        (body(event=7), "event"),
        (body(event="x\x00y"), "event"),
        (body(timestamp="yesterday"), "timestamp"),
        (body(timestamp=1763985600), "timestamp"),
        (body(timestamp="2026-11-24T12:00:00"), "timestamp"),
        (body(timestamp="0001-01-01T00:00:00Z"), "timestamp"),
        (body(data=[]), "data"),
        (body(data={}), "data.performerId"),
        (body(data={"performerId": "a\x00b"}), "data.performerId"),
        (body(data={"performerId": "x" * 10_000}), "data.performerId"),
        (body(data={"performerId": "sg_1", "verificationId": "x" * 10_000}), "data.verificationId"),
        (body(id=""), "id"),
        (body(id="x" * 10_000), "id"),
        (body(id="a\x00b"), "id"),
        (body(id="a\n"), "id"),
        (body(id=12), "id"),
    ],
)
def test_parser_names_invalid_field_of_body(raw: bytes, field: str) -> None:
    assert rejected_field(raw) == field


@pytest.mark.parametrize("value", ["", "x" * 10_000, "a b", "é", "a\n"])
def test_parser_names_header_of_invalid_id(value: str) -> None:
    assert rejected_field(body(), {"X-Sharegram-Event-Id": value}) == "X-Sharegram-Event-Id"


def test_parser_error_quotes_no_input() -> None:
    with pytest.raises(ValidationFailed) as error:
        parse_webhook(body(event="jane@example.com <secret>"), {}, CORRELATION)
    assert "jane" not in f"{error.value} {error.value.details}"


@given(st.binary(max_size=200))
def test_parser_rejects_random_bytes(raw: bytes) -> None:
    assert rejected_field(raw)


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(st.fixed_dictionaries({}, optional={"event": _json, "timestamp": _json, "data": _json, "id": _json}))
def test_parser_rejects_random_json(document: dict[str, object]) -> None:
    assert rejected_field(json.dumps(document).encode())
