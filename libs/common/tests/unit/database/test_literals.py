"""Values as they stand in the text of a statement for MySQL."""

from datetime import UTC, datetime
from enum import StrEnum

import pytest
from sqlalchemy import Boolean, Double, Integer, LargeBinary, String
from sqlalchemy.dialects import mysql
from sqlalchemy.types import TypeEngine

from safevideo_common.database.dialect import UtcDateTime
from safevideo_common.database.dialect.literals import literal_of


class Colour(StrEnum):
    RED = "red"


def written(kind: TypeEngine[object], value: object) -> str:
    return literal_of(kind, mysql.dialect())(value)


@pytest.mark.parametrize(
    ("kind", "value", "literal"),
    [
        (String(), 'it\'s 100% \\ "fine"\n', "'it''s 100% \\\\ \"fine\"\n'"),
        (String(), "\\'; DROP TABLE performers; --", "'\\\\''; DROP TABLE performers; --'"),
        (String(), Colour.RED, "'red'"),
        (Integer(), -(2**63), "-9223372036854775808"),
        (Boolean(), True, "1"),
        (Double(), 0.1, "0.1e0"),
        (Double(), 1e300, "1e+300"),
        (Double(), 7, "7.0e0"),
        (LargeBinary(), b"\x00'\xff", "x'0027ff'"),
        (LargeBinary(), b"", "_binary''"),
        (LargeBinary(), b"it's \\ \x00", "_binary'it''s \\\\ \x00'"),
        (UtcDateTime(), datetime(2026, 11, 24, tzinfo=UTC), "'2026-11-24T00:00:00'"),
    ],
)
def test_literal_matches_its_column_type(kind: TypeEngine[object], value: object, literal: str) -> None:
    assert written(kind, value) == literal


@pytest.mark.parametrize("kind", [String(), Integer(), Boolean(), Double(), LargeBinary(), UtcDateTime()])
def test_literal_of_none_is_null_in_every_column(kind: TypeEngine[object]) -> None:
    assert written(kind, None) == "NULL"


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (String(), 1),
        (String(), ["x"]),
        (String(), b"x"),
        (Integer(), "1); DROP TABLE performers; --"),
        (Integer(), 1.5),
        (Boolean(), "true"),
        (Double(), "one"),
        (Double(), float("nan")),
        (LargeBinary(), "x"),
    ],
)
def test_literal_raises_for_a_value_of_another_type(kind: TypeEngine[object], value: object) -> None:
    with pytest.raises((TypeError, ValueError)):
        written(kind, value)
