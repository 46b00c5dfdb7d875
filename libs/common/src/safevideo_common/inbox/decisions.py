"""Deciding a run of deliveries in order, in memory. Pure but for the states that the handler changes."""

from collections.abc import Iterable, Sequence
from typing import Final, Generic, NamedTuple

from safevideo_common.domain.outcomes import Outcome, Status, waiting
from safevideo_common.inbox.handler import Delivery, Event, EventHandler, States

BLOCKED_BY_EARLIER_EVENT: Final = waiting("BLOCKED_BY_EARLIER_EVENT", "an earlier event of this performer is waiting")
"""Undecided. Such an event has no time of its own: it is due as soon as it is the first of its queue."""


class Parsed(NamedTuple, Generic[Event]):
    """A delivery with its event, or with the outcome that it has without one."""

    delivery: Delivery
    result: Event | Outcome


class Decided(NamedTuple):
    """A delivery and what became of it."""

    delivery: Delivery
    outcome: Outcome


def parse_all(handler: EventHandler[Event, States], deliveries: Iterable[Delivery]) -> list[Parsed[Event]]:
    """Read every body, before any lock is taken."""
    return [Parsed(delivery, delivery.fault or handler.parse(delivery)) for delivery in deliveries]


def events_of(parsed: Sequence[Parsed[Event]]) -> list[Event]:
    """The events among them: those whose states are needed."""
    return [each.result for each in parsed if not isinstance(each.result, Outcome)]


def decide_in_order(
    handler: EventHandler[Event, States], states: States, parsed: Iterable[Parsed[Event]], parked: set[str]
) -> list[Decided]:
    """The outcome of each, in order.

    `parked` are the performers that have an event waiting: theirs queue behind it. A performer whose event must wait
    joins them, so that the rest of this very run queues too.
    """
    decided = []
    for each in parsed:
        subject = each.delivery.envelope.subject
        outcome = BLOCKED_BY_EARLIER_EVENT if subject in parked else decide(handler, states, each)
        if subject is not None and outcome.status is Status.WAITING:
            parked.add(subject)
        decided.append(Decided(each.delivery, outcome))
    return decided


def decide(handler: EventHandler[Event, States], states: States, parsed: Parsed[Event]) -> Outcome:
    """The outcome of one."""
    return parsed.result if isinstance(parsed.result, Outcome) else handler.decide(states, parsed.result)
