"""The copy of a dead event for the topic `<group>.dlq.v1`: the record as it was, and where it came from."""

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from safevideo_common.broker.types import Headers, Message
from safevideo_common.domain.outcomes import Outcome, Status
from safevideo_common.events.topics import dead_letters_of
from safevideo_common.inbox.decisions import Decided
from safevideo_common.inbox.handler import Delivery

KEY_BYTES: Final = 1 << 15
"""Of a key of another program's that is longer, so much is copied: the copy must never be what fails."""


def to_dead_letters(group: str, decided: Iterable[Decided]) -> list[Message]:
    """Of those that died at their first try."""
    return [to_dead_letter(group, *each, tries=1) for each in decided if each.outcome.status is Status.DEAD]


def to_dead_letter(group: str, delivery: Delivery, outcome: Outcome, tries: int) -> Message:
    """Key, bytes and headers as they came, with headers that say whence, why and after how many tries.

    Of an event that had waited in the inbox the headers are those of its envelope.
    """
    record = delivery.record
    key = record.key if record else (delivery.envelope.subject or "").encode()
    headers = record.headers if record else delivery.envelope.headers()
    copied = headers + _origin(group, delivery, outcome, tries)
    return Message(dead_letters_of(group), key[:KEY_BYTES], delivery.body, copied)


def _origin(group: str, delivery: Delivery, outcome: Outcome, tries: int) -> Headers:
    return (
        ("dlq_group", group.encode()),
        ("dlq_topic", delivery.topic.encode()),
        ("dlq_partition", b"%d" % delivery.partition),
        ("dlq_offset", b"%d" % delivery.offset),
        ("dlq_reason", (outcome.reason or "").encode()),
        ("dlq_tries", b"%d" % tries),
    )


# The limit on dying: a bad release must not empty a topic into the dead letters.


class DlqRateExceeded(Exception):
    """More than the set share of the latest events would be dead. Nothing of this batch is applied."""


class DlqLimit:
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
        """Raises `DlqRateExceeded` if these outcomes, about to be committed, would be too many.

        They are under way until `note`, or until `by`, who has one batch in hand at a time, comes with another: two
        batches that are admitted side by side must not be too many together.
        """
        self._under_way.pop(by, None)
        counted = _counted(outcomes)
        dead = self._dead + counted.dead + sum(each.dead for each in self._under_way.values())
        events = self._events + counted.events + sum(each.events for each in self._under_way.values())
        if counted.dead and dead >= self._least and dead > self._limit * events:
            raise DlqRateExceeded(f"{dead} of the last {events} events would be dead")
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
