"""Where an event stands in the provider's order."""

from datetime import UTC, datetime, timedelta
from typing import Final

from safevideo_common.domain.ordering import Stamp

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


def stamp_of(version: int | None, moment: datetime, arrival: int) -> Stamp:
    """The stamp of an event with this version, where it has one, that happened at `moment`."""
    return Stamp(version, (moment - _EPOCH) // _MICROSECOND, arrival)
