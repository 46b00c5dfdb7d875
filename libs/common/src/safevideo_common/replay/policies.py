"""The processing policies of a replay: `MissingOnly`, and `Force`."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from sqlalchemy.ext.asyncio import AsyncConnection

from safevideo_common.broker.types import Message
from safevideo_common.events.envelope import id_with_suffix
from safevideo_common.inbox.handler import Event, ReplayableHandler, States
from safevideo_common.inbox.processor import (
    Decisions,
    LivePolicy,
    LoadedBatch,
    Parsed,
    decide,
    decide_in_order,
    events_of,
    identify_all,
    subjects_of,
)
from safevideo_common.inbox.store import rows as inbox_rows
from safevideo_common.replay.plan import KNOWN_OUTCOME


@dataclass(frozen=True, slots=True)
class MissingOnly(LivePolicy[Event, States]):
    """Apply the events that the inbox lacks, like new ones. Lock nothing for the others and count no duplicates."""

    counts_duplicates: ClassVar[bool] = False

    async def load(self, tx: AsyncConnection, parsed: Sequence[Parsed[Event]]) -> LoadedBatch[Event, States]:
        """Load the states of missing events.

        If the live flow processes one of them at the same time, its row is inserted first: a `DatabaseConflict`.
        """
        parsed, existing = await identify_all(tx, self.consumer, parsed)
        missing = [each for each in parsed if each.delivery.envelope.id not in existing]
        states = await self.consumer.handler.load(tx, events_of(missing))
        blocked = await inbox_rows.blocked_subjects(tx, self.consumer.group, subjects_of(missing))
        return LoadedBatch(parsed, states, existing, blocked)


@dataclass(frozen=True, slots=True)
class Force(LivePolicy[Event, States]):
    """Decide every event again. Add missing inbox rows, leave existing ones, and publish corrections only."""

    handler: ReplayableHandler[Event, States]
    job_id: int
    counts_duplicates: ClassVar[bool] = False

    def decide(self, batch: LoadedBatch[Event, States]) -> Decisions:
        """Decide all events of the batch."""
        decide_one = partial(decide, self.handler, batch.states)
        return decide_in_order(decide_one, batch.parsed, set(batch.existing), batch.blocked_subjects, decide_again=True)

    def messages(self, states: States) -> Sequence[Message]:
        """Return the corrections, each with an id of this replay."""
        return list(with_job_id(self.handler.corrections(states), self.job_id))


def with_job_id(corrections: Iterable[Message], job_id: int) -> Iterator[Message]:
    """Give each correction its own id: a different change may be published under the id of its cause."""
    suffix = f"#replay-{job_id}"
    for message in corrections:
        headers = (
            (name, id_with_suffix(value.decode(), suffix).encode() if name == "ce_id" else value)
            for name, value in message.headers
        )
        yield message._replace(headers=tuple(headers))


def count_outcomes(decisions: Decisions) -> Counter[str]:
    """Count the events of a batch by outcome."""
    outcomes = Counter(str(each.outcome.status) for each in (*decisions.new, *decisions.unchanged))
    outcomes[KNOWN_OUTCOME] += len(decisions.repeated)
    return +outcomes
