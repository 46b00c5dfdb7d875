"""Decoded bodies. A refusal names the field and the reason, and repeats nothing that was sent."""

import json

import msgspec
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from safevideo_common.events.bodies import (
    MAX_DEPTH,
    SCHEMA_MISMATCH,
    decode_body,
    field_and_reason,
    storable_document,
)
from safevideo_common.events.performer import PerformerData


def refusal(body: bytes) -> tuple[str, str]:
    with pytest.raises(SCHEMA_MISMATCH) as caught:
        msgspec.json.decode(body, type=PerformerData)
    return field_and_reason(caught.value)


def test_schema_error_names_the_field_of_a_wrong_type() -> None:
    assert refusal(b'{"performerId":"sg_1","changes":{"bio":5}}') == ("changes.bio", "Expected `str | null`, got `int`")


def test_schema_error_does_not_repeat_an_unknown_enum_value() -> None:
    field, reason = refusal(b'{"performerId":"sg_1","status":"jane@example.com"}')
    assert (field, reason) == ("status", "Invalid enum value")


def test_schema_error_of_no_json_names_the_body() -> None:
    assert refusal(b"{") == ("body", "not JSON")


def test_schema_error_of_deep_nesting_names_the_body() -> None:
    deep = b'{"performerId":"sg_1","junk":' + b"[" * 100_000
    assert refusal(deep) == ("body", "nested too deeply")


class Named(msgspec.Struct):
    name: str


named = msgspec.json.Decoder(Named)


@pytest.mark.parametrize(
    ("sent", "read"),
    [
        (rb"\ud83c", "\ufffd"),
        (rb"a\uDF7Ab", "a\ufffdb"),
        (rb"\ud83c\ud83c\udf7a", "\ufffd🍺"),
        (rb"\\ud83c \ud83c", "\\ud83c \ufffd"),
        (rb"\ud83c\n\"", '\ufffd\n"'),
    ],
)
def test_half_of_a_surrogate_pair_is_read_as_a_replacement_character(sent: bytes, read: str) -> None:
    assert decode_body(named, b'{"name":"%b"}' % sent).name == read
    assert decode_body(named, b'{"name":"x","%b":["%b"]}' % (sent, sent)).name == "x"


def test_a_body_that_is_no_json_stays_none_beside_half_of_a_surrogate_pair() -> None:
    with pytest.raises(msgspec.DecodeError):
        decode_body(named, rb'{"name":"\ud83c"')


json_documents = st.dictionaries(
    st.text(),
    st.recursive(
        st.none() | st.booleans() | st.integers(-(10**40), 10**40) | st.floats(allow_nan=False) | st.text(),
        lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
        max_leaves=5,
    ),
    max_size=3,
)


def depth_of(value: object) -> int:
    if isinstance(value, dict | list):
        return 1 + max(map(depth_of, value.values() if isinstance(value, dict) else value), default=0)
    return 0


@given(json_documents, st.integers(0, 300))
def test_storable_document_is_one_that_every_database_accepts(document: dict[str, object], levels: int) -> None:
    nested: object = document
    for _ in range(levels):
        nested = [nested]
    stored = storable_document(msgspec.Raw(json.dumps({"seen": nested}).encode()))
    assert depth_of(stored) <= MAX_DEPTH
    assert orjson.loads(orjson.dumps(stored)) == stored


@pytest.mark.parametrize("raw", [b"1e400", b"[1]", b"null", b'{"n":1e400}', b'{"n":%b}' % (b"9" * 5000)])
def test_unreadable_document_is_replaced(raw: bytes) -> None:
    assert list(storable_document(msgspec.Raw(raw))) == ["unreadable"]
