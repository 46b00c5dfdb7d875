"""When a periodic job is due. A slot is the moment at which it is; of slots that were missed only the last counts."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta, tzinfo

from safevideo_common.domain.jobs import Priority

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Interval:
    """Again and again after so long, counted in UTC from 1970: it knows no daylight saving."""

    every: timedelta

    def slot_at(self, now: datetime) -> datetime:
        """The last slot that is not after `now`."""
        return now - (now - _EPOCH) % self.every


@dataclass(frozen=True, slots=True)
class Daily:
    """Once a day by the clocks of a place.

    Where clocks go forward over the time, it is the moment at which they do; where they show it twice, the first.
    """

    at: time
    zone: tzinfo = UTC
    """A `ZoneInfo`, for any other."""

    def slot_at(self, now: datetime) -> datetime:
        """The last slot that is not after `now`."""
        today = now.astimezone(self.zone).date()
        days = (today + _DAY, today, today - _DAY)  # a slot of another date where clocks jump over midnight
        return next(slot for slot in map(self._slot_of, days) if slot <= now)

    def _slot_of(self, day: date) -> datetime:
        there = datetime.combine(day, self.at, self.zone)
        before, after = (there.replace(fold=fold).astimezone(UTC) for fold in (0, 1))
        return before if before <= after else _change_between(after, before, self.zone)


def _change_between(early: datetime, late: datetime, zone: tzinfo) -> datetime:
    """The moment at which the clocks of `zone` change; they do once between the two."""
    offset = late.astimezone(zone).utcoffset()
    while late - early > timedelta(seconds=1):
        middle = early + (late - early) // 2
        if middle.astimezone(zone).utcoffset() == offset:
            late = middle
        else:
            early = middle
    return late.replace(microsecond=0)


@dataclass(frozen=True, slots=True)
class Every:
    """An entry of the schedule: a job to be queued once a slot, whatever number of processes look at the clock."""

    name: str
    """At most 64 characters, and never used for another entry."""
    job_type: str
    when: Interval | Daily
    parameters: Mapping[str, object] = field(default_factory=dict)
    priority: Priority = Priority.LOW
