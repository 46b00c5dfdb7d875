"""A refusal names the field and the reason, and repeats nothing that was sent."""

import msgspec
import pytest

from safevideo_common.events.performer import PerformerData
from safevideo_common.events.schema_errors import SCHEMA_MISMATCH, field_and_reason


def refusal(body: bytes) -> tuple[str, str]:
    with pytest.raises(SCHEMA_MISMATCH) as caught:
        msgspec.json.decode(body, type=PerformerData)
    return field_and_reason(caught.value)


def test_a_value_of_another_type_is_named_by_its_place() -> None:
    assert refusal(b'{"performerId":"sg_1","changes":{"bio":5}}') == ("changes.bio", "Expected `str | null`, got `int`")


def test_an_unknown_word_is_not_repeated() -> None:
    field, reason = refusal(b'{"performerId":"sg_1","status":"jane@example.com"}')
    assert (field, reason) == ("status", "Invalid enum value")


def test_what_is_no_json_is_the_body() -> None:
    assert refusal(b"{") == ("body", "not JSON")


def test_what_is_nested_too_deeply_is_the_body() -> None:
    deep = b'{"performerId":"sg_1","junk":' + b"[" * 100_000
    assert refusal(deep) == ("body", "nested too deeply")
