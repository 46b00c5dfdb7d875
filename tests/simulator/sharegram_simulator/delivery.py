"""The record of a webhook: every try with its answer. The queue bounds the open ones, a history the finished."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import count
from typing import Literal

from sharegram_simulator.clock import rfc3339
from sharegram_simulator.webhooks import Event

State = Literal["queued", "retrying", "delivered", "failed"]


@dataclass(frozen=True, slots=True)
class Try:
    """A request and its result: a status with an answer, or an error."""

    at: datetime
    status: int | None = None
    answer: object = None
    """The answer's JSON; its text where it is none."""
    error: str | None = None

    @property
    def accepted(self) -> bool:
        """Return True if the receiver accepted it: 2xx only."""
        return self.status is not None and 200 <= self.status < 300

    def as_json(self) -> dict[str, object]:
        """Return the JSON that the state shows."""
        outcome = {"at": rfc3339(self.at), "status": self.status, "answer": self.answer}
        return outcome if self.error is None else outcome | {"error": self.error}


@dataclass(slots=True, eq=False)
class Delivery:
    """An event on its way. It changes only in the hands of the courier."""

    number: int
    event: Event
    created_at: datetime
    state: State = "queued"
    tries: list[Try] = field(default_factory=list)
    held_back: bool = False
    duplicated: bool = False

    def as_json(self) -> dict[str, object]:
        """Return the JSON that the state shows."""
        return {
            "id": self.event.id,
            "event": self.event.type,
            "performerId": self.event.subject,
            "data": self.event.data,
            "createdAt": rfc3339(self.created_at),
            "state": self.state,
            "tries": [attempt.as_json() for attempt in self.tries],
        }


class DeliveryLog:
    """Every open delivery and the newest finished ones."""

    def __init__(self, history_limit: int) -> None:
        self._numbers = count()
        self._open: dict[int, Delivery] = {}
        self._finished: deque[Delivery] = deque(maxlen=history_limit)

    @property
    def open_count(self) -> int:
        """Deliveries that are not finished."""
        return len(self._open)

    def open(self, event: Event, at: datetime) -> Delivery:
        """Begin a record."""
        delivery = Delivery(next(self._numbers), event, at)
        self._open[delivery.number] = delivery
        return delivery

    def finish(self, delivery: Delivery, state: Literal["delivered", "failed"]) -> None:
        """End a record; the oldest finished one may fall out."""
        delivery.state = state
        del self._open[delivery.number]
        self._finished.append(delivery)

    def all(self) -> Sequence[Delivery]:
        """Return all deliveries, oldest first."""
        return sorted((*self._finished, *self._open.values()), key=lambda delivery: delivery.number)
