"""A refusal names the field and the reason, and repeats nothing that was sent."""

import msgspec
import pytest

from safevideo_common.events.performer import PerformerData
from safevideo_common.events.schema_errors import SCHEMA_MISMATCH, field_and_reason


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
