"""What the tables must hold once a log has been consumed, computed from its records in the plainest way.

It shares no code with the services: an event's field is won by the greatest stamp, and among equal ones by the last to
arrive. An event arrives with its first record; a further record of it is a repetition.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from safevideo_common.broker.types import Record
from safevideo_common.events.topics import KYC
from safevideo_testkit.chaos.event_stream import Stream, Word, verification_of
from safevideo_testkit.oracle.expected import COLUMN

GROUP_OF_TOPIC = {"sharegram.kyc.v1": "kyc-worker"}
EVERYTHING_ELSE = "sync-worker"
DEFAULTS: Mapping[str, object] = dict.fromkeys((*COLUMN.values(), "status")) | {"verified": False, "status": "pending"}
REQUEST_DEFAULTS: Mapping[str, object] = {"status": "in_progress", "risk_score": None, "result": None}

Key = tuple[str, str]
"""Consumer group and event id."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A row of the inbox. `code` is the stable part of its reason, or its status."""

    status: str
    code: str
    repeats: int


@dataclass
class Expected:
    """All that must be there at the end."""

    inbox: dict[Key, Entry] = field(default_factory=dict)
    performers: dict[str, Mapping[str, object]] = field(default_factory=dict)
    requests: dict[str, Mapping[str, object]] = field(default_factory=dict)
    changes: dict[Key, list[str]] = field(default_factory=dict)
    """Ids of applied events by group and performer, in the order in which they took effect."""

    @property
    def dead(self) -> set[Key]:
        return {key for key, entry in self.inbox.items() if entry.status == "dead"}


@dataclass
class _Arrived:
    """One event: the body of its first record, and how often it came after that."""

    record: Record
    repeats: int = 0


def fold(stream: Stream, records: Iterable[Record]) -> Expected:
    """`records` are all of the topics of webhooks, in order within each partition."""
    expected = Expected()
    expected.requests = {verification_of(name): REQUEST_DEFAULTS for name in stream.requested}
    for (group, performer_id), events in _arrived(records).items():
        words = _words_of_performer(group, performer_id, events, stream, expected)
        for event_id, (status, code) in words.items():
            expected.inbox[group, event_id] = Entry(status, code, events[event_id].repeats)
        applied = [event_id for event_id, (status, _) in words.items() if status == "applied"]
        if applied:
            expected.changes[group, performer_id] = applied
    return expected


def _arrived(records: Iterable[Record]) -> Mapping[Key, dict[str, _Arrived]]:
    """By group and performer the events in the order of their arrival."""
    found: defaultdict[Key, dict[str, _Arrived]] = defaultdict(dict)
    for record in records:
        events = found[GROUP_OF_TOPIC.get(record.topic, EVERYTHING_ELSE), record.key.decode()]
        if (event_id := _id_of(record)) in events:
            events[event_id].repeats += 1
        else:
            events[event_id] = _Arrived(record)
    return found


def _id_of(record: Record) -> str:
    place = f"{record.topic}/{record.partition}/{record.offset}"
    return dict(record.headers).get("ce_id", place.encode()).decode()


def _words_of_performer(
    group: str, performer_id: str, events: Mapping[str, _Arrived], stream: Stream, expected: Expected
) -> dict[str, Word]:
    values: dict[str, object] = {}
    last: dict[str, object] = {}
    words: dict[str, Word] = {}
    for event_id, event in events.items():
        if word := _word_of_poison(event_id, event, performer_id, stream):
            words[event_id] = word
            continue
        stamp, patch = _stamp_and_patch(event.record)
        won = {name: value for name, value in patch.items() if name not in last or last[name] <= stamp}  # type: ignore[operator]
        values |= won
        last |= dict.fromkeys(won, stamp)
        words[event_id] = ("applied", "applied") if won else ("stale", "stale")
    if values and group == "kyc-worker":
        expected.requests[verification_of(performer_id)] = _request(values["verdict"])
    elif values:
        expected.performers[performer_id] = {**DEFAULTS, **values}
    return words


def _word_of_poison(event_id: str, event: _Arrived, performer_id: str, stream: Stream) -> Word | None:
    if "ce_id" not in dict(event.record.headers):
        return "dead", "ENVELOPE_INVALID"
    if event.record.topic == KYC and performer_id in stream.orphans and event_id not in stream.poison:
        return "dead", "TRIES_EXHAUSTED"
    return stream.poison.get(event_id)


def _stamp_and_patch(record: Record) -> tuple[object, Mapping[str, object]]:
    webhook = json.loads(record.value)
    data = webhook["data"]
    stamp = data.get("version", datetime.fromisoformat(webhook["timestamp"]).timestamp())
    if "result" in data:
        return stamp, {"verdict": data["result"]}
    if "status" in data:
        return stamp, {"status": data["status"]}
    return stamp, {COLUMN[name]: value for name, value in data["changes"].items()}


def _request(verdict: object) -> Mapping[str, object]:
    assert isinstance(verdict, dict)
    passed = "verified" if verdict["riskScore"] >= 80 else "in_review"
    status = {"passed": passed, "review": "in_review", "failed": "rejected"}[verdict["status"]]
    return {"status": status, "risk_score": verdict["riskScore"], "result": verdict}


def first_differences(
    what: str, found: Mapping[Any, object], wanted: Mapping[Any, object], most: int = 5
) -> Sequence[str]:
    """The first keys of which the two do not hold the same, with both."""
    keys = [key for key in {**wanted, **found} if found.get(key) != wanted.get(key)]
    lines = [f"{what} {key}: found {found.get(key)}, wanted {wanted.get(key)}" for key in keys[:most]]
    return [*lines, f"… and {len(keys) - most} more"] if len(keys) > most else lines
