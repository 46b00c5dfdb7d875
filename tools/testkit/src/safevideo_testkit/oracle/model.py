"""The state that webhooks must lead to, computed in the plainest way and without the code of the services.

The event with the greatest version writes a field; among equal versions it is the last to arrive. An event without a
version writes it if none with a version does, then by time. An event arrives with
its first record. Any further record of it is a repeat, also under another id that nobody signed.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from safevideo_common.broker.types import Record
from safevideo_common.events.topics import CONSUMED, KYC_WORKER, SYNC_WORKER
from safevideo_testkit.oracle.stream import (
    COLUMNS,
    NO_ORDER,
    Order,
    Outcome,
    Stream,
    Values,
    Webhook,
    is_positional,
    verification_id,
)

GROUP = {topic: group for group, topics in CONSUMED.items() for topic in topics}
PERFORMER_DEFAULTS: Values = dict.fromkeys((*COLUMNS.values(), "status")) | {"verified": False, "status": "pending"}
REQUEST_DEFAULTS: Values = {"status": "in_progress", "risk_score": None, "result": None}
APPLIED, STALE = Outcome("applied", "applied"), Outcome("stale", "OVERTAKEN")
VERSION_MISSING = Outcome("stale", "VERSION_MISSING")

Key = tuple[str, str]
"""A consumer group, and the id of an event or performer."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A row of the inbox."""

    outcome: Outcome
    repeats: int = 0


@dataclass(frozen=True, slots=True)
class Expected:
    """All that the database and the topics must contain in the end."""

    inbox: dict[Key, Entry] = field(default_factory=dict)
    performers: dict[str, dict[str, object]] = field(default_factory=dict)
    requests: dict[str, dict[str, object]] = field(default_factory=dict)
    changes: dict[Key, list[str]] = field(default_factory=dict)
    """The ids of applied events by group and performer, in the order in which they took effect."""

    @property
    def dead(self) -> set[Key]:
        """Return the events that must have a dead letter."""
        return {key for key, entry in self.inbox.items() if entry.outcome.status == "dead"}


def expect(stream: Stream, arrivals: Iterable[Webhook]) -> Expected:
    """Apply `arrivals`, of which those about one performer and topic are in order."""
    expected = Expected(requests={verification_id(name): {**REQUEST_DEFAULTS} for name in stream.requested})
    orders: defaultdict[Key, dict[str, Order]] = defaultdict(dict)
    first_ids: dict[tuple[str, bytes], str] = {}
    for webhook in arrivals:
        group, event_id = GROUP[webhook.topic], webhook.id
        if not webhook.is_id_signed:
            event_id = first_ids.setdefault((group, webhook.body), event_id)
        key, subject = (group, event_id), (group, webhook.performer_id)
        if entry := expected.inbox.get(key):
            expected.inbox[key] = replace(entry, repeats=entry.repeats + 1)
            continue
        if not (outcome := webhook.outcome):
            written, order = orders[subject], webhook.order
            won = {name: value for name, value in webhook.values.items() if written.get(name, order) <= order}
            stale = VERSION_MISSING if _is_unversioned(webhook, written) else STALE
            written |= dict.fromkeys(won, order)
            _row(expected, group, webhook.performer_id).update(won)
            if won:
                expected.changes.setdefault(subject, []).append(event_id)
            outcome = APPLIED if won else stale
        expected.inbox[key] = Entry(outcome)
    return expected


def arrivals_of(stream: Stream, records: Iterable[Record]) -> list[Webhook]:
    """Return the events of the stream that the records contain.

    A record without an id has that of its position, and so has one that the database refuses.
    """
    events, found = stream.by_id, []
    for record in records:
        headers: Mapping[str, bytes] = dict(record.headers)
        event_id = headers.get("ce_id", b"").decode()
        if event_id and not is_positional(event_id):
            found += [events[event_id]] if event_id in events else []
        else:
            position = f"{record.topic}/{record.partition}/{record.offset}"
            outcome = Outcome("dead", "ENVELOPE_INVALID")
            found.append(Webhook(position, record.topic, record.key.decode(), record.value, NO_ORDER, {}, outcome))
    return found


def _is_unversioned(webhook: Webhook, written: Mapping[str, Order]) -> bool:
    """Return True if writes with a version own all that the event would write, and it has none."""
    owned = all(name in written and written[name].has_version for name in webhook.values)
    return owned and not webhook.order.has_version


def _row(expected: Expected, group: str, performer_id: str) -> dict[str, object]:
    if group == SYNC_WORKER:
        return expected.performers.setdefault(performer_id, {**PERFORMER_DEFAULTS})
    assert group == KYC_WORKER
    return expected.requests.setdefault(verification_id(performer_id), {**REQUEST_DEFAULTS})
