"""When periodic jobs are due."""

from datetime import UTC, datetime, time, timedelta, timezone

import pytest

from safevideo_common.jobs.scheduler import Daily, Interval

HOURLY, DAILY = Interval(timedelta(hours=1)), Daily(time(3, 30))


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("when", "now", "slot"),
    [
        (HOURLY, "2026-03-29T01:00:00", "2026-03-29T01:00:00"),
        (HOURLY, "2026-03-29T01:59:59.999999", "2026-03-29T01:00:00"),
        (DAILY, "2026-03-29T03:30:00", "2026-03-29T03:30:00"),
        (DAILY, "2026-03-29T23:59:59.999999", "2026-03-29T03:30:00"),
        (DAILY, "2026-03-29T03:29:59.999999", "2026-03-28T03:30:00"),
        (DAILY, "2026-01-01T00:00:00", "2025-12-31T03:30:00"),
    ],
)
def test_slot_is_the_last_that_is_not_after_now(when: Daily | Interval, now: str, slot: str) -> None:
    assert when.fire_time_at(at(now)) == at(slot)


def test_daily_slot_is_in_utc_whatever_the_zone_of_now() -> None:
    now = datetime(2026, 3, 29, 1, 0, tzinfo=timezone(timedelta(hours=9)))
    slot = DAILY.fire_time_at(now)
    assert (slot, slot.utcoffset()) == (at("2026-03-28T03:30:00"), timedelta(0))


@pytest.mark.parametrize(("when", "slots"), [(HOURLY, 24), (DAILY, 1)])
def test_a_day_has_its_number_of_slots(when: Daily | Interval, slots: int) -> None:
    begin = at("2026-10-24T12:00:00")
    seen = {when.fire_time_at(begin + timedelta(minutes=minute)) for minute in range(24 * 60)}
    assert len({slot for slot in seen if slot >= begin}) == slots
