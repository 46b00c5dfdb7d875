"""What becomes of events that are replayed, decided in order: the same for a real run and for a dry one."""

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple, Protocol

from safevideo_common.domain.outcomes import Outcome, Status
from safevideo_common.messaging.consuming.deciding import BEHIND_ANOTHER, Parsed
from safevideo_common.messaging.consuming.delivery import Delivery
from safevideo_common.messaging.consuming.handler import Event


class Verdict(NamedTuple):
    """A delivery, what became of it, and whether that is the first word on its event."""

    delivery: Delivery
    outcome: Outcome | None
    """None: it was passed over, for the inbox has it."""
    is_first: bool


class Seen(Protocol):
    """Ids of events that the inbox has, or will have by then."""

    def __contains__(self, event_id: object) -> bool: ...

    def add(self, event_id: str) -> None:
        """One more."""
        ...


def verdicts(
    decide: Callable[[Parsed[Event]], Outcome],
    parsed: Iterable[Parsed[Event]],
    seen: Seen,
    parked: set[str],
    *,
    is_forced: bool,
) -> Iterator[Verdict]:
    """In order. `parked` are the performers with an event that waits: new ones of theirs queue behind it, as ever.

    What the inbox has waits in no queue here: when it is decided again, the stamps say what is left of it.
    """
    for each in parsed:
        event_id, subject = each.delivery.envelope.id, each.delivery.envelope.subject
        is_first = event_id not in seen
        seen.add(event_id)
        if not is_first:
            yield Verdict(each.delivery, decide(each) if is_forced else None, is_first=False)
            continue
        outcome = BEHIND_ANOTHER if subject in parked else decide(each)
        if subject is not None and outcome.status is Status.WAITING:
            parked.add(subject)
        yield Verdict(each.delivery, outcome, is_first=True)
