"""The limit on dying: a bad release must not empty a topic into the dead letters."""

from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from safevideo_common.domain.outcomes import Outcome, Status


class TooManyDead(Exception):
    """More than the set share of the latest events would be dead. Nothing of this batch is applied."""


class DeadShare:
    """Counts the dead among the latest outcomes of this process; a new process begins anew.

    So a release that buries everything buries `least` events a start, and the events stay in the log until one comes
    that does not.
    """

    def __init__(self, limit: float, window: int, least: int) -> None:
        """`limit` is a share of the last `window` outcomes; fewer than `least` dead are never too many."""
        self._limit = limit
        self._window = window
        self._least = least
        self._batches: deque[_Counted] = deque()
        self._under_way: dict[object, _Counted] = {}
        self._events = 0
        self._dead = 0

    def admit(self, by: object, outcomes: Sequence[Outcome]) -> None:
        """Raises `TooManyDead` if these outcomes, about to be committed, would be too many.

        They are under way until `note`, or until `by`, who has one batch in hand at a time, comes with another: two
        batches that are admitted side by side must not be too many together.
        """
        self._under_way.pop(by, None)
        counted = _counted(outcomes)
        dead = self._dead + counted.dead + sum(each.dead for each in self._under_way.values())
        events = self._events + counted.events + sum(each.events for each in self._under_way.values())
        if counted.dead and dead >= self._least and dead > self._limit * events:
            raise TooManyDead(f"{dead} of the last {events} events would be dead")
        self._under_way[by] = counted

    def note(self, by: object, outcomes: Sequence[Outcome]) -> None:
        """Count outcomes that are committed; the oldest batches leave the window."""
        self._under_way.pop(by, None)
        self._batches.append(_counted(outcomes))
        self._add(self._batches[-1], sign=1)
        while self._events - self._batches[0].events >= self._window:
            self._add(self._batches.popleft(), sign=-1)

    def _add(self, counted: "_Counted", sign: int) -> None:
        self._dead += sign * counted.dead
        self._events += sign * counted.events


class _Counted(NamedTuple):
    dead: int
    events: int
    """With a final word: what waits may still become anything."""


def _counted(outcomes: Sequence[Outcome]) -> _Counted:
    final = [outcome for outcome in outcomes if outcome.status is not Status.WAITING]
    return _Counted(sum(outcome.status is Status.DEAD for outcome in final), len(final))
