"""Parsing of verified bodies: the id of the envelope, and the field of each rejection."""

import hashlib
import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from safevideo_common.errors import ValidationFailed
from safevideo_common.events.envelope import Envelope, parse_headers
from safevideo_common.web.correlation import Correlation
from safevideo_common.webhooks.parsing import parse_webhook
from safevideo_common.webhooks.signatures import SignedIdentity

CORRELATION = Correlation("request-1", "00-" + "a" * 32 + "-" + "b" * 16 + "-01")
NAMED, WEBHOOK_ID = "X-Sharegram-Event-Id", "webhook-id"


def body(**overrides: object) -> bytes:
    fields = {
        "event": "performer.profile.updated",
        "timestamp": "2026-11-24T12:00:00.123456Z",
        "data": {"performerId": "sg_1", "changes": {"bio": "x"}},
    }
    return json.dumps({**fields, **overrides}).encode()


SHAREGRAM = SignedIdentity(event_id=None, is_body_signed_alone=True)


def parse(raw: bytes, *headers: tuple[str, str], signed: SignedIdentity = SHAREGRAM) -> Envelope:
    return parse_webhook(raw, CIMultiDict(headers), signed, CORRELATION)


def standard(event_id: str) -> SignedIdentity:
    return SignedIdentity(event_id, is_body_signed_alone=False)


def both(event_id: str) -> SignedIdentity:
    return SignedIdentity(event_id, is_body_signed_alone=True)


def rejected_field(raw: bytes, *headers: tuple[str, str], signed: SignedIdentity = SHAREGRAM) -> str:
    with pytest.raises(ValidationFailed) as error:
        parse(raw, *headers, signed=signed)
    (field,) = error.value.details or {"": ""}
    return field


def test_parser_takes_envelope_from_body() -> None:
    envelope = parse(body(id="evt_1"))
    assert (envelope.id, envelope.type, envelope.subject) == ("evt_1", "performer.profile.updated", "sg_1")
    assert envelope.time == datetime(2026, 11, 24, 12, 0, 0, 123456, UTC)
    assert envelope.request_id == "request-1"


@pytest.mark.parametrize("headers", [(), ((NAMED, "a"),)])
def test_envelope_is_restored_from_headers(headers: tuple[tuple[str, str], ...]) -> None:
    envelope = parse(body(), *headers)
    assert parse_headers(envelope.headers()) == envelope


def test_parser_takes_the_signed_id() -> None:
    envelope = parse(body(id="b"), (WEBHOOK_ID, "w"), signed=standard("w"))
    assert (envelope.id, envelope.is_id_signed) == ("w", True)
    assert parse(body(), (WEBHOOK_ID, "w"), (NAMED, "w"), signed=standard("w")).id == "w"


def test_parser_rejects_a_header_that_renames_a_signed_id() -> None:
    assert rejected_field(body(), (WEBHOOK_ID, "w"), (NAMED, "x"), signed=standard("w")) == NAMED


def test_parser_takes_the_id_of_the_body_where_only_the_body_is_signed() -> None:
    envelope = parse(body(id="b"), (NAMED, "b"), (WEBHOOK_ID, "b"))
    assert (envelope.id, envelope.is_id_signed) == ("b", True)


@pytest.mark.parametrize("name", [NAMED, WEBHOOK_ID])
def test_parser_rejects_a_header_that_renames_the_id_of_the_body(name: str) -> None:
    assert rejected_field(body(id="b"), (name, "x")) == name


def test_parser_marks_the_id_of_a_header_as_unsigned() -> None:
    envelope = parse(body(), (NAMED, "x"))
    assert (envelope.id, envelope.is_id_signed) == ("x", False)
    assert rejected_field(body(), (NAMED, "x"), (WEBHOOK_ID, "y")) == WEBHOOK_ID


def test_parser_distrusts_a_signed_id_that_disappears_with_one_of_two_signatures() -> None:
    envelope = parse(body(), (WEBHOOK_ID, "w"), signed=both("w"))
    assert (envelope.id, envelope.is_id_signed) == ("w", False)
    assert parse(body(id="w"), (WEBHOOK_ID, "w"), signed=both("w")).is_id_signed
    assert rejected_field(body(id="b"), (WEBHOOK_ID, "w"), signed=both("w")) == WEBHOOK_ID


@pytest.mark.parametrize("name", [NAMED, WEBHOOK_ID])
def test_parser_rejects_an_id_header_that_is_sent_twice(name: str) -> None:
    assert rejected_field(body(), (name, "x"), (name, "x")) == name


def test_parser_derives_missing_id_from_body() -> None:
    raw = body()
    envelope = parse(raw)
    assert (envelope.id, envelope.is_id_signed) == (f"sha256-{hashlib.sha256(raw).hexdigest()}", False)


def test_parser_accepts_half_an_emoji() -> None:
    raw = body(data={"performerId": "sg_1", "changes": {"bio": "\ud83c"}})
    assert b"\\ud83c" in raw
    assert parse(raw).subject == "sg_1"


def test_parser_accepts_unknown_type_without_performer() -> None:
    envelope = parse(body(event="payout.created", data={}))
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
    assert rejected_field(body(), (NAMED, value)) == NAMED


def test_parser_error_quotes_no_input() -> None:
    with pytest.raises(ValidationFailed) as error:
        parse(body(event="jane@example.com <secret>"))
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
