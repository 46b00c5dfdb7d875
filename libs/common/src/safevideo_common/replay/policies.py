"""The processing policies of a replay: `MissingOnly`, and `Force`."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar

from sqlalchemy.ext.asyncio import AsyncConnection

from safevideo_common.broker.types import Message
from safevideo_common.domain.outcomes import Outcome, Status
from safevideo_common.events.envelope import id_with_suffix
from safevideo_common.inbox.handler import Event, ReplayableHandler, States
from safevideo_common.inbox.processor import (
    KEEPS_PAYLOAD,
    Decided,
    Decisions,
    LivePolicy,
    LoadedBatch,
    Parsed,
    decide,
    decide_in_order,
    events_of,
    identify_all,
    parsed_as_first,
    subjects_of,
)
from safevideo_common.inbox.store import rows as inbox_rows
from safevideo_common.inbox.store.rows import ExistingRow
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
    """Decide every event again, with the write version that it had first.

    - An event that has had its effect keeps its row. What differs now is published as a correction.
    - An event without a row, or whose row is waiting or dead, has its effect now. So has an ignored or stale event
      that is applied now. Its row says so and names the job, and its change is published under its own id, as by the
      live flow. So no later retry applies or publishes it again.
    """

    handler: ReplayableHandler[Event, States]
    job_id: int
    counts_duplicates: ClassVar[bool] = False
    holds_locked_events: ClassVar[bool] = False
    """An event that the inbox has cannot wait for its correction."""

    async def load(self, tx: AsyncConnection, parsed: Sequence[Parsed[Event]]) -> LoadedBatch[Event, States]:
        """Load the states of all events first: no other transaction decides a waiting event after its row was read."""
        states = await self.handler.load(tx, events_of(parsed))
        parsed, existing = await identify_all(tx, self.consumer, parsed)
        first = [parsed_as_first(self.handler, each, existing.get(each.delivery.envelope.id)) for each in parsed]
        new = [each for each in first if each.delivery.envelope.id not in existing]
        blocked = await inbox_rows.blocked_subjects(tx, self.consumer.group, subjects_of(new))
        return LoadedBatch(first, states, existing, blocked)

    def decide(self, batch: LoadedBatch[Event, States]) -> Decisions:
        """Decide all events of the batch."""
        decide_one = partial(decide, self.handler, batch.states)
        decisions = decide_in_order(
            decide_one, batch.parsed, set(batch.existing), batch.blocked_subjects, decide_again=True
        )
        again = decisions.unchanged
        settled = [each for each in again if _is_settled(each, batch.existing[each.delivery.envelope.id])]
        unchanged = [each for each in again if each not in settled]
        return replace(decisions, unchanged=unchanged, settled=settled)

    async def write_rows(self, tx: AsyncConnection, decisions: Decisions) -> None:
        """Insert the missing events, and complete those that were waiting or dead."""
        await LivePolicy.write_rows(self, tx, decisions)
        now = self.consumer.clock()
        for each in decisions.settled:
            outcome = _with_job(each.outcome, self.job_id)
            await inbox_rows.settle(tx, self.consumer.group, each.delivery.envelope.id, outcome, now)

    def messages(self, states: States, decisions: Decisions) -> Sequence[Message]:
        """Return the changes of events that have their effect now, and corrections with an id of this replay."""
        first = {each.delivery.envelope.id for each in (*decisions.new, *decisions.settled)}
        corrections = {_cause_of(each): each for each in self.handler.corrections(states)}
        changes = ((_cause_of(each), each) for each in self.handler.changes(states))
        return [
            change if cause in first else with_job_id(corrections[cause], self.job_id)
            for cause, change in changes
            if cause in first or cause in corrections
        ]


def _is_settled(decided: Decided, row: ExistingRow) -> bool:
    """Return True if the event has its final outcome only now."""
    if row.status in KEEPS_PAYLOAD:
        return decided.outcome.status not in KEEPS_PAYLOAD
    return row.status is not Status.APPLIED and decided.outcome.status is Status.APPLIED


def _with_job(outcome: Outcome, job_id: int) -> Outcome:
    return replace(outcome, reason=outcome.reason or f"REPLAYED: by job {job_id}")


def _cause_of(message: Message) -> str:
    return dict(message.headers)["ce_id"].decode()


def with_job_id(correction: Message, job_id: int) -> Message:
    """Give a correction its own id: a different change may be published under the id of its cause."""
    own_id = id_with_suffix(_cause_of(correction), f"#replay-{job_id}").encode()
    headers = ((name, own_id if name == "ce_id" else value) for name, value in correction.headers)
    return correction._replace(headers=tuple(headers))


def count_outcomes(decisions: Decisions) -> Counter[str]:
    """Count the events of a batch by outcome."""
    outcomes = Counter(str(each.outcome.status) for each in (*decisions.new, *decisions.unchanged, *decisions.settled))
    outcomes[KNOWN_OUTCOME] += len(decisions.repeated)
    return +outcomes
