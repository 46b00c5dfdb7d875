"""A stream of events as the door writes them into the log: shuffled, some twice, some poisonous."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import zip_longest

import orjson

from safevideo_common.broker.types import Message
from safevideo_common.events.topics import PERFORMER
from safevideo_common.web.correlation import Correlation
from safevideo_common.webhooks.parsing import message_of, parse_webhook
from safevideo_testkit.oracle.expected import BEGINNING, STATUSES, profile_of

UNKNOWN_TYPE = "performer.never.heard.of"
WINDOW_ROUNDS = 8
"""An event is displaced by as many of its own performer's events as this, at most."""
TIES = 0.05
"""The share of events with the stamp of the one before: among those, arrival decides."""
POISON_EVERY = 1000
LATE_EVERY, ORPHAN_EVERY = 20, 60
"""One performer in so many gets its KYC request only after the first verdict on it; one has none at all."""

Word = tuple[str, str]
"""Status in the inbox, and the code of its reason."""


@dataclass
class Stream:
    """`messages` in the order in which they are published."""

    messages: list[Message] = field(default_factory=list)
    performers: list[str] = field(default_factory=list)
    late: set[str] = field(default_factory=set)
    orphans: set[str] = field(default_factory=set)
    poison: dict[str, Word] = field(default_factory=dict)
    """By event id; what has no readable id is known by its place in the log alone."""

    @property
    def requested(self) -> list[str]:
        """Performers with a KYC request from the beginning."""
        return [each for each in self.performers if each not in self.late | self.orphans]


def write_stream(*, performers: int, events: int, seed: int, prefix: str) -> Stream:
    """`events` in all, one in ten twice, one in a thousand poisonous, of each kind one at the least."""
    dice = random.Random(seed)
    stream = Stream([], [f"{prefix}_{number}" for number in range(performers)])
    stream.late = set(stream.performers[LATE_EVERY - 1 :: LATE_EVERY])
    stream.orphans = set(stream.performers[ORPHAN_EVERY // 2 :: ORPHAN_EVERY])
    poisonous = max(len(_POISONS), events // POISON_EVERY)
    rounds, extra = divmod(events - poisonous - len(stream.orphans), performers)
    stories = [
        list(_story(dice, name, number, rounds + (number < extra), has_request=name not in stream.orphans))
        for number, name in enumerate(stream.performers)
    ]
    in_rounds = [event for events_of_round in zip_longest(*stories) for event in events_of_round if event]
    orphaned = [_verdict(dice, name, f"{name}.orphan", _at(0)) for name in sorted(stream.orphans)]
    arrivals = _shuffled(dice, [*orphaned, *in_rounds], performers * WINDOW_ROUNDS)
    for number in range(poisonous):
        poison = _POISONS[number % len(_POISONS)](dice, stream, f"{prefix}.poison-{number}")
        arrivals.insert(dice.randrange(len(arrivals)), poison)
    stream.messages = _some_twice(dice, arrivals)
    return stream


def verification_of(performer_id: str) -> str:
    return f"ver-{performer_id}"


def _story(dice: random.Random, name: str, number: int, events: int, *, has_request: bool) -> Iterator[Message]:
    """A performer's events in the provider's order: of every second one by version, whatever the times say."""
    place = 0
    for step in range(events):
        place = place if step and dice.random() < TIES else step
        version = place if number % 2 else None
        at = _at(dice.randrange(10**6) if number % 2 else place, number)
        event_id, kind = f"{name}.{step}", dice.random()
        if kind < 0.2 and has_request:
            yield _verdict(dice, name, event_id, at, version)
        elif kind < 0.5:
            yield _webhook("performer.status.changed", event_id, at, version, name, status=dice.choice(STATUSES))
        else:
            yield _webhook("performer.profile.updated", event_id, at, version, name, changes=_patch(dice, step))


def _patch(dice: random.Random, step: int) -> dict[str, object]:
    profile = profile_of(dice, step)
    return dict(dice.sample(list(profile.items()), dice.randint(1, len(profile))))


def _verdict(
    dice: random.Random, name: str, event_id: str, at: datetime, version: int | None = None, of: str | None = None
) -> Message:
    status = dice.choice(("passed", "review", "failed"))
    kind = "kyc.verification.failed" if status == "failed" else "kyc.verification.completed"
    result = {"status": status, "riskScore": dice.randrange(101), "checks": {"seen": event_id}}
    return _webhook(kind, event_id, at, version, name, verificationId=verification_of(of or name), result=result)


def _webhook(kind: str, event_id: str, at: datetime, version: int | None, name: str, **data: object) -> Message:
    numbered = {} if version is None else {"version": version}
    whole = {"performerId": name, **data, **numbered}
    body = orjson.dumps({"id": event_id, "event": kind, "timestamp": at.isoformat(), "data": whole})
    return message_of(parse_webhook(body, {}, Correlation(f"request-{event_id}", "")), body)


def _at(second: int, number: int = 0) -> datetime:
    return BEGINNING + timedelta(seconds=second, milliseconds=number)


def _shuffled(dice: random.Random, events: Sequence[Message], window: int) -> list[Message]:
    displaced = [(place + dice.uniform(0, window), place) for place in range(len(events))]
    return [events[place] for _, place in sorted(displaced)]


def _some_twice(dice: random.Random, arrivals: list[Message]) -> list[Message]:
    again = dice.sample(range(len(arrivals)), len(arrivals) // 10)
    later = [(place + dice.uniform(0, len(arrivals) / 5), arrivals[place]) for place in again]
    whole = [*((float(place), each) for place, each in enumerate(arrivals)), *later]
    return [each for _, each in sorted(whole, key=lambda placed: placed[0])]


def _bad_patch(dice: random.Random, stream: Stream, event_id: str) -> Message:
    stream.poison[event_id] = ("dead", "BODY_INVALID")
    return _webhook(
        "performer.profile.updated", event_id, _at(10**6), None, dice.choice(stream.performers), changes={"username": 7}
    )


def _bad_verdict(dice: random.Random, stream: Stream, event_id: str) -> Message:
    stream.poison[event_id] = ("dead", "BODY_INVALID")
    name = dice.choice(stream.performers)
    return _webhook("kyc.verification.completed", event_id, _at(10**6), None, name, verificationId="x", result=[])


def _contradictory_verdict(dice: random.Random, stream: Stream, event_id: str) -> Message:
    stream.poison[event_id] = ("dead", "CONTRADICTORY_RESULT")
    name, result = dice.choice(stream.requested), {"status": "passed", "riskScore": 99, "checks": {}}
    data = {"verificationId": verification_of(name), "result": result}
    return _webhook("kyc.verification.failed", event_id, _at(10**6), None, name, **data)


def _verdict_on_another(dice: random.Random, stream: Stream, event_id: str) -> Message:
    stream.poison[event_id] = ("dead", "PERFORMER_MISMATCH")
    name, other = dice.sample(stream.requested, 2)
    return _verdict(dice, name, event_id, _at(10**6), of=other)


def _unknown_type(dice: random.Random, stream: Stream, event_id: str) -> Message:
    stream.poison[event_id] = ("ignored", "ignored")
    return _webhook(UNKNOWN_TYPE, event_id, _at(10**6), None, dice.choice(stream.performers))


def _without_envelope(dice: random.Random, stream: Stream, event_id: str) -> Message:
    return Message(PERFORMER, dice.choice(stream.performers).encode(), b"no event", (("trace", event_id.encode()),))


_POISONS = (_bad_patch, _bad_verdict, _contradictory_verdict, _verdict_on_another, _unknown_type, _without_envelope)
