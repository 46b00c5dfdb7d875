"""Performer events at the ends of every type: each is refused with a code, or decided and told of.

`make fuzz` sends the same through webhook-ingest and a database.
"""

from datetime import UTC, datetime
from typing import Final

from safevideo_common.domain.outcomes import Outcome, Status
from safevideo_testkit.fuzz.webhook_ends import delivered, performer_ends
from sync_worker.performers.handler import PerformerHandler, PerformerStates

AT: Final = datetime(2026, 11, 24, tzinfo=UTC)
CODES: Final = {"BODY_INVALID"}


class NoCache:
    async def invalidate(self, performer_ids: object) -> None:
        raise AssertionError("nothing is stored")


def test_every_performer_event_at_an_end_of_a_type_is_decided_or_refused_with_a_code() -> None:
    seen = set[Status]()
    handler = PerformerHandler(lambda: AT, NoCache())
    for end in performer_ends():
        delivery = delivered(end.document)
        if delivery is None:
            continue
        event = handler.parse(delivery)
        if isinstance(event, Outcome):
            assert event.status is not Status.DEAD or event.code in CODES, (end.path, event)
            seen.add(event.status)
            continue
        states = PerformerStates({}, {})
        outcome = handler.decide(states, event)
        assert outcome.status is Status.APPLIED, (end.path, outcome)
        assert len(handler.changes(states)) == 1
        handler.diff(states)
        seen.add(outcome.status)
    assert seen == {Status.APPLIED, Status.DEAD, Status.IGNORED}
