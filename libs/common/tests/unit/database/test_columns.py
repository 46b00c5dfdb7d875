"""Column types that mean the same on every database."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from sqlalchemy.dialects import mysql, sqlite
from sqlalchemy.engine import Dialect

from safevideo_common.database.dialect import UtcDateTime

DIALECTS: list[Dialect] = [mysql.dialect(), sqlite.dialect()]
MOMENT = datetime(2026, 11, 24, 20, 58, 25, 120, tzinfo=UTC)


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
@pytest.mark.parametrize("hours", [0, -8, 14])
def test_utc_datetime_keeps_microseconds_in_utc(dialect: Dialect, hours: int) -> None:
    to_driver = UtcDateTime().bind_processor(dialect)
    from_driver = UtcDateTime().result_processor(dialect, None)
    held = to_driver(MOMENT.astimezone(timezone(timedelta(hours=hours))))
    assert held is not None
    assert held.replace("T", " ") == "2026-11-24 20:58:25.000120"
    assert from_driver(held) == from_driver(MOMENT.replace(tzinfo=None)) == MOMENT


def test_sqlite_text_of_a_datetime_sorts_like_time() -> None:
    assert UtcDateTime().bind_processor(DIALECTS[1])(MOMENT.replace(microsecond=0)) == "2026-11-24 20:58:25.000000"


def test_utc_datetime_keeps_none() -> None:
    assert UtcDateTime().bind_processor(DIALECTS[0])(None) is None
    assert UtcDateTime().result_processor(DIALECTS[0], None)(None) is None


def test_utc_datetime_rejects_a_value_without_a_timezone() -> None:
    with pytest.raises(ValueError, match="timezone"):
        UtcDateTime().bind_processor(DIALECTS[0])(MOMENT.replace(tzinfo=None))
