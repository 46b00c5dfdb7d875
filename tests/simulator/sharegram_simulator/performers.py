"""The master of performers: what Sharegram knows, in memory and bounded. It sends nothing; `provider.py` does."""

from bisect import bisect_left, bisect_right, insort
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sharegram_simulator.clock import rfc3339
from sharegram_simulator.errors import LimitReached, NotFound
from sharegram_simulator.people import Profile

Place = tuple[datetime, str]
"""Where a performer stands in the list: by its last change, then by id, so that no tie is lost between two pages."""


@dataclass(frozen=True, slots=True)
class Performer:
    """A performer; `version` rises with every change."""

    performer_id: str
    profile: Profile
    status: str
    version: int
    created_at: datetime
    updated_at: datetime

    @property
    def place(self) -> Place:
        """Return its position in the list."""
        return self.updated_at, self.performer_id

    def as_json(self) -> dict[str, object]:
        """Return the JSON that the API and the state show."""
        return {
            "performerId": self.performer_id,
            "profile": self.profile,
            "status": self.status,
            "version": self.version,
            "createdAt": rfc3339(self.created_at),
            "updatedAt": rfc3339(self.updated_at),
        }


class Performers:
    """All performers, by id and in the order of their last change."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._by_id: dict[str, Performer] = {}
        self._places: list[Place] = []

    def __len__(self) -> int:
        return len(self._by_id)

    def find(self, performer_id: str) -> Performer | None:
        """The performer, if there is one of this id."""
        return self._by_id.get(performer_id)

    def get(self, performer_id: str) -> Performer:
        """The performer. Raises `NotFound`."""
        found = self._by_id.get(performer_id)
        if found is None:
            raise NotFound("There is no such performer.")
        return found

    def put(self, performer: Performer) -> None:
        """Create or replace. Raises `LimitReached`."""
        known = self._by_id.get(performer.performer_id)
        if known is None:
            self.reserve(1)
        else:
            self._forget_place(known)
        self._by_id[performer.performer_id] = performer
        insort(self._places, performer.place)

    def reserve(self, count: int) -> None:
        """Raise `LimitReached` when there is no room for `count` more."""
        if len(self._by_id) + count > self._limit:
            raise LimitReached(f"The simulator keeps at most {self._limit} performers.")

    def remove(self, performer_id: str) -> None:
        """Forget the performer. Raises `NotFound`."""
        self._forget_place(self.get(performer_id))
        del self._by_id[performer_id]

    def all(self) -> Sequence[Performer]:
        """Everyone, least recently changed first."""
        return [self._by_id[performer_id] for _, performer_id in self._places]

    def page(self, since: datetime | None, after: Place | None, limit: int) -> Sequence[Performer]:
        """At most `limit` performers changed at or after `since` and standing behind `after`."""
        start = 0 if since is None else bisect_left(self._places, (since, ""))
        if after is not None:
            start = max(start, bisect_right(self._places, after))
        return [self._by_id[performer_id] for _, performer_id in self._places[start : start + limit]]

    def _forget_place(self, performer: Performer) -> None:
        del self._places[bisect_left(self._places, performer.place)]
