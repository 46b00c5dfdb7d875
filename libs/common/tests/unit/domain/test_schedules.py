"""When periodic jobs are due, daylight saving included."""

from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest

from safevideo_common.jobs.scheduler import Daily, Interval

BERLIN = ZoneInfo("Europe/Berlin")  # clocks: on from 02:00 on 29 March 2026, back from 03:00 on 25 October 2026


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def slots(when: Daily | Interval, first: str, last: str) -> list[str]:
    """The distinct slots that somebody sees who looks every minute."""
    now = at(first)
    seen: list[datetime] = []
    while now <= at(last):
        slot = when.slot_at(now)
        assert slot <= now
        seen += [] if seen and seen[-1] == slot else [slot]
        now += timedelta(minutes=1)
    return [f"{slot:%d %H:%M:%S}" for slot in seen]


def test_an_interval_has_a_slot_every_so_often_whatever_the_clocks_do() -> None:
    hourly = Interval(timedelta(hours=1))
    assert hourly.slot_at(at("2026-03-29T01:00:00")) == at("2026-03-29T01:00:00")
    assert len(slots(hourly, "2026-10-24T12:00", "2026-10-25T11:59")) == 24


def test_a_daily_slot_is_at_the_same_hour_of_the_place() -> None:
    daily = Daily(time(4, 30), BERLIN)
    assert slots(daily, "2026-03-28T12:00", "2026-03-30T12:00") == ["28 03:30:00", "29 02:30:00", "30 02:30:00"]
    assert slots(daily, "2026-10-24T12:00", "2026-10-26T12:00") == ["24 02:30:00", "25 03:30:00", "26 03:30:00"]


def test_a_time_that_does_not_exist_is_the_moment_at_which_the_clocks_go_forward() -> None:
    daily = Daily(time(2, 30), BERLIN)
    assert slots(daily, "2026-03-28T12:00", "2026-03-30T12:00") == ["28 01:30:00", "29 01:00:00", "30 00:30:00"]


def test_a_time_that_comes_twice_is_the_first_one_alone() -> None:
    daily = Daily(time(2, 30), BERLIN)
    assert slots(daily, "2026-10-24T12:00", "2026-10-26T12:00") == ["24 00:30:00", "25 00:30:00", "26 01:30:00"]


@pytest.mark.parametrize("zone", ["UTC", "Asia/Kathmandu", "America/Sao_Paulo", "Pacific/Kiritimati"])
def test_there_is_one_slot_a_day_in_every_zone(zone: str) -> None:
    """In Sao Paulo the clocks went forward at midnight, on 4 November 2018."""
    seen = slots(Daily(time(0, 0), ZoneInfo(zone)), "2018-11-01T12:00", "2018-11-08T11:59")
    assert len(seen) in (7, 8)
    assert len(set(seen)) == len(seen)
