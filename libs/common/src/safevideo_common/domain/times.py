"""The range of times that Python and every database hold in any time zone. A sum of ours never leaves it."""

from datetime import UTC, datetime, timedelta
from typing import Final

EARLIEST: Final = datetime(1001, 1, 1, tzinfo=UTC)
LATEST: Final = datetime(9998, 12, 31, tzinfo=UTC)
EVENT_YEARS: Final = range(2000, 3000)
"""The years that a time may have that somebody else sends: a webhook, Sharegram's API, a query, a body."""

_DAY: Final = timedelta(days=1)


def is_storable(at: datetime) -> bool:
    """Return whether `at`, which has a time zone, is in the range. It may be a day outside of it in UTC."""
    return EARLIEST.year <= at.year <= LATEST.year


def add(at: datetime, by: timedelta) -> datetime:
    """Return `at` and `by` together, or the end of the range that this would leave."""
    if by >= LATEST - at:
        return LATEST
    return EARLIEST if by <= EARLIEST - at else at + by
