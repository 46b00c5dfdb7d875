"""From a verified body to its envelope: which id it gets, and what is refused under which name."""

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
    whole = {
        "event": "performer.profile.updated",
        "timestamp": "2026-11-24T12:00:00.123456Z",
        "data": {"performerId": "sg_1", "changes": {"bio": "x"}},
    }
    return json.dumps({**whole, **overrides}).encode()


def refused_field(raw: bytes, headers: dict[str, str] | None = None) -> str:
    with pytest.raises(ValidationFailed) as refusal:
        parse_webhook(raw, headers or {}, CORRELATION)
    (field,) = refusal.value.details or {"": ""}
    return field


def test_the_envelope_says_what_the_body_says() -> None:
    envelope = parse_webhook(body(id="evt_1"), {}, CORRELATION)
    assert (envelope.id, envelope.type, envelope.subject) == ("evt_1", "performer.profile.updated", "sg_1")
    assert envelope.time == datetime(2026, 11, 24, 12, 0, 0, 123456, UTC)
    assert envelope.request_id == "request-1"


def test_the_envelope_survives_the_trip_through_headers() -> None:
    envelope = parse_webhook(body(), {}, CORRELATION)
    assert parse_headers(envelope.headers()) == envelope


def test_an_id_in_a_header_comes_before_one_in_the_body() -> None:
    assert parse_webhook(body(id="b"), {"X-Sharegram-Event-Id": "a"}, CORRELATION).id == "a"
    assert parse_webhook(body(id="b"), {"webhook-id": "w"}, CORRELATION).id == "w"


def test_without_any_id_it_is_derived_from_the_body_so_that_a_redelivery_is_recognised() -> None:
    raw = body()
    assert parse_webhook(raw, {}, CORRELATION).id == f"sha256-{hashlib.sha256(raw).hexdigest()}"


def test_an_unknown_type_needs_no_performer() -> None:
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
def test_a_body_of_another_shape_is_refused_by_the_name_of_the_field(raw: bytes, field: str) -> None:
    assert refused_field(raw) == field


@pytest.mark.parametrize("value", ["", "x" * 10_000, "a b", "é", "a\n"])
def test_a_header_id_of_another_form_is_refused_by_the_headers_name(value: str) -> None:
    assert refused_field(body(), {"X-Sharegram-Event-Id": value}) == "X-Sharegram-Event-Id"


def test_no_message_repeats_what_was_sent() -> None:
    with pytest.raises(ValidationFailed) as refusal:
        parse_webhook(body(event="jane@example.com <secret>"), {}, CORRELATION)
    assert "jane" not in f"{refusal.value} {refusal.value.details}"


@given(st.binary(max_size=200))
def test_no_bytes_break_the_parser(raw: bytes) -> None:
    assert refused_field(raw)


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(st.fixed_dictionaries({}, optional={"event": _json, "timestamp": _json, "data": _json, "id": _json}))
def test_no_json_breaks_the_parser(document: dict[str, object]) -> None:
    assert refused_field(json.dumps(document).encode())
