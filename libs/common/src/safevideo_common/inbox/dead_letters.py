"""Dead letters: the message for the topic `<group>.dlq.v1`, and the limit on their rate."""

from collections import deque
from collections.abc import Sequence
from typing import Final, NamedTuple

from safevideo_common.broker.types import MAX_RECORD_BYTES, Headers, Message
from safevideo_common.domain.outcomes import Outcome, Status
from safevideo_common.events.topics import dead_letters_of
from safevideo_common.inbox.handler import Delivery

MAX_KEY_BYTES: Final = 1 << 15
"""A longer key of another producer is cut. So its dead letter fits into the outbox."""
MAX_HEADER_BYTES: Final = 1 << 16
"""Of all headers of the record. The others are left out: so 500 dead letters fit into the memory of the relay."""
MAX_COPY_BYTES: Final = MAX_RECORD_BYTES - 2 * (MAX_KEY_BYTES + MAX_HEADER_BYTES)
"""A longer value is cut: with its key and headers the dead letter would be too large for its topic."""


def to_dead_letter(group: str, delivery: Delivery, outcome: Outcome, attempts: int) -> Message:
    """Return the record with its key, body and headers, and headers for its position, the reason and the attempts.

    The inbox does not keep the headers of a record. A retried event gets the headers of its envelope. What is too large
    to copy is cut, and `dlq_cut` names it: the topic of the record has the rest.
    """
    record = delivery.record
    key = record.key if record else (delivery.envelope.subject or "").encode()
    whole = record.headers if record else delivery.envelope.headers()
    headers = _first_headers(whole)
    sizes = {
        "key": len(key) > MAX_KEY_BYTES,
        "headers": len(headers) < len(whole),
        "value": len(delivery.body) > MAX_COPY_BYTES,
    }
    origin: Headers = (
        ("dlq_group", group.encode()),
        ("dlq_topic", delivery.topic.encode()),
        ("dlq_partition", b"%d" % delivery.partition),
        ("dlq_offset", b"%d" % delivery.offset),
        ("dlq_reason", (outcome.reason or "").encode()),
        ("dlq_tries", b"%d" % attempts),
    )
    if cut := ",".join(part for part, is_cut in sizes.items() if is_cut):
        origin += (("dlq_cut", cut.encode()),)
    return Message(dead_letters_of(group), key[:MAX_KEY_BYTES], delivery.body[:MAX_COPY_BYTES], headers + origin)


def _first_headers(headers: Headers) -> Headers:
    total = 0
    for position, (name, value) in enumerate(headers):
        total += len(name.encode()) + len(value)
        if total > MAX_HEADER_BYTES:
            return headers[:position]
    return headers


class DlqRateExceeded(Exception):
    """The dead letters of the recent events would exceed the limit. Nothing of this batch is applied."""


class DlqLimit:
    """The maximum rate of dead letters among the recent events of this process.

    A broken release dead-letters fewer than `minimum` events per start. The rest stay in the broker until a fixed
    release runs.
    """

    def __init__(self, limit: float, window: int, minimum: int) -> None:
        """`limit` is a fraction of the last `window` outcomes. Fewer than `minimum` dead letters never exceed it."""
        self._limit = limit
        self._window = window
        self._minimum = minimum
        self._committed: deque[_Counts] = deque()
        self._uncommitted: dict[object, _Counts] = {}
        self._events = 0
        self._dead = 0

    def reset(self) -> None:
        """Forget all outcomes."""
        self._committed.clear()
        self._uncommitted.clear()
        self._events = self._dead = 0

    def check(self, owner: object, outcomes: Sequence[Outcome]) -> None:
        """Raise `DlqRateExceeded` if these outcomes, which are to be committed, would exceed the limit.

        They count until `record`, or until the next `check` of this `owner`, who has one batch at a time. So two
        concurrent batches do not exceed the limit together.
        """
        self._uncommitted.pop(owner, None)
        counts = _count(outcomes)
        dead = self._dead + counts.dead + sum(each.dead for each in self._uncommitted.values())
        events = self._events + counts.events + sum(each.events for each in self._uncommitted.values())
        if counts.dead and dead >= self._minimum and dead > self._limit * events:
            raise DlqRateExceeded(f"{dead} of the last {events} events would be dead")
        self._uncommitted[owner] = counts

    def record(self, owner: object, outcomes: Sequence[Outcome]) -> None:
        """Count committed outcomes and remove the oldest batches from the window."""
        self._uncommitted.pop(owner, None)
        self._committed.append(_count(outcomes))
        self._add(self._committed[-1], sign=1)
        while self._events - self._committed[0].events >= self._window:
            self._add(self._committed.popleft(), sign=-1)

    def _add(self, counts: "_Counts", sign: int) -> None:
        self._dead += sign * counts.dead
        self._events += sign * counts.events


class _Counts(NamedTuple):
    dead: int
    events: int
    """Events with a final outcome. A waiting event is not counted."""


def _count(outcomes: Sequence[Outcome]) -> _Counts:
    final = [outcome for outcome in outcomes if outcome.status is not Status.WAITING]
    return _Counts(sum(outcome.status is Status.DEAD for outcome in final), len(final))
