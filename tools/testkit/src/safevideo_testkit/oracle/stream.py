"""Streams of webhooks that record, beside each body, the values that it must write.

A new webhook type is one entry in `TYPES`. Then each stream contains it, and the model and the checks cover it.
"""

import json
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import zip_longest
from types import MappingProxyType
from typing import NamedTuple

from multidict import CIMultiDict
from sqlalchemy import text

from safevideo_common.broker.types import Message
from safevideo_common.database.engine import Database
from safevideo_common.events.topics import KYC, OTHER, PERFORMER
from safevideo_common.web.correlation import Correlation
from safevideo_common.webhooks.parsing import message_of, parse_webhook
from safevideo_common.webhooks.signatures import SignedIdentity

BEGINNING = datetime(2026, 11, 1, tzinfo=UTC)
STATUSES = ("pending", "under_review", "active", "suspended", "rejected")
AUTO_APPROVE_SCORE = 80
COLUMNS = {
    "username": "username",
    "displayName": "display_name",
    "email": "email",
    "profileImage": "profile_image",
    "bio": "bio",
    "verified": "verified",
}
"""The column of each field of a profile."""
WINDOW = 8
"""In a poisonous stream this many events of the same performer can overtake an event."""
TIES = 0.05
"""The part of the events of a poisonous stream that have the version of the event before: there, arrival decides."""
POISON_EVERY = 1000
LATE_EVERY, ORPHAN_EVERY = 20, 60
"""One performer in so many gets its KYC request after the first result for it; one in so many gets none."""

RENAMED_EVERY = 5
"""In a poisonous stream the events of one performer in so many have no signed id: each delivery names another one."""
REFUSED_EFFECT, REFUSED_ROW, REFUSED_COPY = "refused effect", "refused-row", "refused-copy"
"""A bio, and parts of ids, with which `refuse_poison` lets the database refuse a row, the event's and the copy's."""

SIGNED_BODY = SignedIdentity(event_id=None, is_body_signed_alone=True)

Values = Mapping[str, object]


class Outcome(NamedTuple):
    """A status of the inbox and the code of its reason, which is the status again where there is no reason."""

    status: str
    code: str


IGNORED = Outcome("ignored", "ignored")


class Order(NamedTuple):
    """The position of an event in the provider's order: all with a version are after all without one."""

    has_version: bool
    number: float
    """The version, or the time."""


NO_ORDER = Order(has_version=False, number=0)


class WebhookType(NamedTuple):
    """A topic, a function that writes an example of `data` and the row that it leads to, and a frequency."""

    topic: str
    write: Callable[[random.Random, str], tuple[Values, Values]]
    weight: int


@dataclass(frozen=True, slots=True)
class Webhook:
    """An event. It has the same body each time it is sent."""

    id: str
    topic: str
    performer_id: str
    body: bytes
    order: Order
    values: Values
    """The columns that it writes, unless an event that is later in the order has written them."""
    outcome: Outcome | None = None
    """The outcome of an event that writes nothing, at whatever time it arrives."""
    is_id_signed: bool = True
    """False if only a header has the id: the event is recognised by its body."""

    @property
    def message(self) -> Message:
        """Return the message that webhook-ingest publishes."""
        if not self.id:
            return Message(self.topic, self.performer_id.encode(), self.body)
        correlation = Correlation(f"request-{self.id}", "")
        headers = CIMultiDict[str]() if self.is_id_signed else CIMultiDict({"X-Sharegram-Event-Id": self.id})
        return message_of(parse_webhook(self.body, headers, SIGNED_BODY, correlation), self.body)


@dataclass(frozen=True, slots=True)
class Stream:
    """Webhooks in two orders: `stories` has one list a performer, as the provider made it; `webhooks` is as sent."""

    stories: Sequence[Sequence[Webhook]]
    webhooks: Sequence[Webhook]
    performers: Sequence[str]
    late: frozenset[str] = frozenset()
    orphans: frozenset[str] = frozenset()

    @property
    def requested(self) -> list[str]:
        """Return the performers with a KYC request from the beginning."""
        return [each for each in self.performers if each not in self.late | self.orphans]

    @property
    def by_id(self) -> dict[str, Webhook]:
        """Return each event once."""
        return {webhook.id: webhook for webhook in self.webhooks}

    @property
    def messages(self) -> list[Message]:
        """Return the messages that webhook-ingest publishes, in the order of `webhooks`."""
        return [webhook.message for webhook in self.webhooks]


def write_stream(*, performers: int, events: int, seed: int, prefix: str) -> Stream:
    """Write `events` webhooks, shuffled, and one in ten of them twice. No two of a performer have one version."""
    dice, names = random.Random(seed), [f"{prefix}_{number}" for number in range(performers)]
    stories = _stories(dice, names, events)
    webhooks = [each for story in stories for each in (*story, *dice.sample(story, len(story) // 10))]
    return Stream(stories, dice.sample(webhooks, len(webhooks)), names)


def write_poisonous_stream(*, performers: int, events: int, seed: int, prefix: str) -> Stream:
    """Write a stream with equal versions, late and missing KYC requests, and one poisonous event in a thousand.

    Some events come again under another id. Call `refuse_poison` before the stream is consumed.
    """
    dice, names = random.Random(seed), [f"{prefix}_{number}" for number in range(performers)]
    late, orphans = frozenset(names[LATE_EVERY - 1 :: LATE_EVERY]), frozenset(names[ORPHAN_EVERY // 2 :: ORPHAN_EVERY])
    poisonous = max(len(_POISONS), events // POISON_EVERY)
    stories = [
        [_unsigned(each) for each in story] if number % RENAMED_EVERY == 0 else story
        for number, story in enumerate(_stories(dice, names, events - poisonous - len(orphans), orphans, TIES))
    ]
    in_turn = [each for step in zip_longest(*stories) for each in step if each]
    orphaned = [
        replace(_webhook(dice, "kyc.verification.completed", name, f"{name}-orphan"), outcome=_dead("TRIES_EXHAUSTED"))
        for name in sorted(orphans)
    ]
    arrivals = _displaced(dice, [*orphaned, *in_turn], performers * WINDOW)
    stream = Stream(stories, arrivals, names, late, orphans)
    for number in range(poisonous):
        poison = _POISONS[number % len(_POISONS)](dice, stream, f"{prefix}-poison-{number}")
        arrivals.insert(dice.randrange(len(arrivals)), poison)
    return replace(stream, webhooks=_some_twice(dice, arrivals))


def verification_id(performer_id: str) -> str:
    """Return the id of the only KYC request of a performer."""
    return f"ver-{performer_id}"


def example(event_type: str, performer_id: str) -> Values:
    """Return the `data` of a webhook of this type."""
    return TYPES[event_type].write(random.Random(1), performer_id)[0]


def write_webhook(
    event_type: str,
    event_id: str,
    performer_id: str,
    data: Values,
    values: Values = MappingProxyType({}),
    *,
    at: datetime = BEGINNING,
    version: int | None = None,
    indent: int | None = None,
    outcome: Outcome | None = None,
) -> Webhook:
    """Write a webhook. Its JSON has a layout that no serializer produces, so a test finds a body that was rewritten."""
    numbered = {} if version is None else {"version": version}
    whole = {"timestamp": at.isoformat(), "data": {"performerId": performer_id, **data, **numbered}}
    written = json.dumps(whole | {"event": event_type, "id": event_id}, indent=indent, ensure_ascii=indent == 1)
    topic = TYPES[event_type].topic
    order = Order(version is not None, at.timestamp() if version is None else version)
    return Webhook(event_id, topic, performer_id, written.encode() + b" \n", order, values, outcome)


def _stories(
    dice: random.Random, names: Sequence[str], events: int, orphans: frozenset[str] = frozenset(), ties: float = 0
) -> list[list[Webhook]]:
    steps, extra = divmod(events, len(names))
    return [
        list(_story(dice, name, number, steps + (number < extra), name not in orphans, ties))
        for number, name in enumerate(names)
    ]


def _story(
    dice: random.Random, name: str, number: int, events: int, has_request: bool, ties: float
) -> Iterator[Webhook]:
    """Write the events of a performer in order.

    One performer in three has times only. One has versions, and its times say nothing. One has both kinds, mixed.
    """
    kinds = [kind for kind, each in TYPES.items() if has_request or each.topic != KYC]
    order = 0
    for step in range(events):
        order = order if step and dice.random() < ties else step
        (kind,) = dice.choices(kinds, [TYPES[each].weight for each in kinds])
        has_version = number % 3 == 1 or (number % 3 == 2 and dice.random() < 0.5)
        version = order if has_version else None
        second = dice.randrange(10**6) if has_version else order
        yield _webhook(dice, kind, name, f"{name}-{step}", second, number, version)


def _webhook(
    dice: random.Random,
    kind: str,
    name: str,
    event_id: str,
    second: int = 0,
    number: int = 0,
    version: int | None = None,
) -> Webhook:
    data, values = TYPES[kind].write(dice, name)
    outcome = IGNORED if kind == UNKNOWN_TYPE else None
    at, indent = BEGINNING + timedelta(seconds=second, milliseconds=number), dice.choice((None, 1, 3))
    return write_webhook(kind, event_id, name, data, values, at=at, version=version, indent=indent, outcome=outcome)


def _displaced(dice: random.Random, events: Sequence[Webhook], window: int) -> list[Webhook]:
    positions = [(number + dice.uniform(0, window), number) for number in range(len(events))]
    return [events[number] for _, number in sorted(positions)]


def _some_twice(dice: random.Random, arrivals: Sequence[Webhook]) -> list[Webhook]:
    again = dice.sample(range(len(arrivals)), len(arrivals) // 10)
    later = [(number + dice.uniform(0, len(arrivals) / 5), _renamed(arrivals[number])) for number in again]
    whole = [*((float(number), each) for number, each in enumerate(arrivals)), *later]
    return [each for _, each in sorted(whole, key=lambda pair: pair[0])]


def _unsigned(webhook: Webhook) -> Webhook:
    """Return the event with its id in a header alone. Its body differs from all others."""
    document = json.loads(webhook.body)
    document["sent"] = document.pop("id")
    return replace(webhook, body=json.dumps(document).encode(), is_id_signed=False)


def _renamed(webhook: Webhook) -> Webhook:
    return webhook if webhook.is_id_signed else replace(webhook, id=f"{webhook.id}-renamed")


def _profile(dice: random.Random, _performer_id: str) -> tuple[Values, Values]:
    name = dice.randrange(10**6)
    profile = {
        "username": f"user-{name}",
        "displayName": f"Näme {name} 🎬",
        "email": f"{name}@example.test",
        "profileImage": f"https://img.example.test/{name}.jpg",
        "bio": None if dice.random() < 0.2 else "Zoë 🎬 " * dice.randrange(5, 100),
        "verified": dice.random() < 0.5,
    }
    changes = dict(dice.sample(list(profile.items()), dice.randint(1, len(profile))))
    return {"changes": changes}, {COLUMNS[name]: value for name, value in changes.items()}


def _status(dice: random.Random, _performer_id: str) -> tuple[Values, Values]:
    data = {"status": dice.choice(STATUSES)}
    return data, data


def _completed(dice: random.Random, performer_id: str) -> tuple[Values, Values]:
    score, status = dice.randrange(101), dice.choice(("passed", "review"))
    is_approved = status == "passed" and score >= AUTO_APPROVE_SCORE
    return _verification(performer_id, status, score, "verified" if is_approved else "in_review")


def _failed(dice: random.Random, performer_id: str) -> tuple[Values, Values]:
    return _verification(performer_id, "failed", dice.randrange(101), "rejected")


def _verification(performer_id: str, result_status: str, score: int, status: str) -> tuple[Values, Values]:
    result = {"status": result_status, "riskScore": score, "checks": {"document": f"{result_status} {score}"}}
    data = {"verificationId": verification_id(performer_id), "result": result}
    return data, {"status": status, "risk_score": score, "result": result}


def _nothing(_dice: random.Random, _performer_id: str) -> tuple[Values, Values]:
    return {}, {}


UNKNOWN_TYPE = "performer.never.heard.of"
TYPES: Mapping[str, WebhookType] = {
    "performer.profile.updated": WebhookType(PERFORMER, _profile, 50),
    "performer.status.changed": WebhookType(PERFORMER, _status, 25),
    "kyc.verification.completed": WebhookType(KYC, _completed, 14),
    "kyc.verification.failed": WebhookType(KYC, _failed, 6),
    UNKNOWN_TYPE: WebhookType(OTHER, _nothing, 5),
}


def _dead(code: str) -> Outcome:
    return Outcome("dead", code)


def _bad_patch(dice: random.Random, stream: Stream, event_id: str) -> Webhook:
    name, data = dice.choice(stream.performers), {"changes": {"username": 7}}
    return write_webhook("performer.profile.updated", event_id, name, data, outcome=_dead("BODY_INVALID"))


def _bad_result(dice: random.Random, stream: Stream, event_id: str) -> Webhook:
    name, data = dice.choice(stream.performers), {"verificationId": "x", "result": []}
    return write_webhook("kyc.verification.completed", event_id, name, data, outcome=_dead("BODY_INVALID"))


def _contradictory_result(dice: random.Random, stream: Stream, event_id: str) -> Webhook:
    name = dice.choice(stream.requested)
    data, _ = _verification(name, "passed", 99, "")
    return write_webhook("kyc.verification.failed", event_id, name, data, outcome=_dead("CONTRADICTORY_RESULT"))


def _result_of_other_performer(dice: random.Random, stream: Stream, event_id: str) -> Webhook:
    name, other = dice.sample(stream.requested, 2)
    data, _ = _verification(other, "failed", 1, "")
    return write_webhook("kyc.verification.failed", event_id, name, data, outcome=_dead("PERFORMER_MISMATCH"))


def _without_envelope(dice: random.Random, stream: Stream, event_id: str) -> Webhook:
    return Webhook("", PERFORMER, dice.choice(stream.performers), f"no event {event_id}".encode(), NO_ORDER, {})


def _refused_effect(dice: random.Random, stream: Stream, event_id: str) -> Webhook:
    name, data = dice.choice(stream.performers), {"changes": {"bio": REFUSED_EFFECT}}
    # The newest of all: what is older is stale, and its effect is not written.
    return write_webhook(
        "performer.profile.updated", event_id, name, data, version=NEWEST, outcome=_dead("DATA_REJECTED")
    )


def _refused_row(dice: random.Random, stream: Stream, event_id: str) -> Webhook:
    name, data = dice.choice(stream.performers), {"status": "active"}
    return write_webhook("performer.status.changed", f"{event_id}-{REFUSED_ROW}", name, data)


def _refused_copy(dice: random.Random, stream: Stream, event_id: str) -> Webhook:
    return _bad_patch(dice, stream, f"{event_id}-{REFUSED_COPY}")


NEWEST = 2**62
_POISONS = (
    _bad_patch,
    _bad_result,
    _contradictory_result,
    _result_of_other_performer,
    _without_envelope,
    _refused_effect,
    _refused_row,
    _refused_copy,
)


def is_positional(event_id: str) -> bool:
    """Return True if the inbox has the event under the position of its record: it refuses the row or the copy."""
    return event_id.endswith((REFUSED_ROW, REFUSED_COPY))


async def refuse_poison(database: Database) -> None:
    """Let a MySQL-family database refuse what poisonous events write, as if it did not fit its column."""
    async with database.transaction() as tx:
        for table, condition in {
            "performers": f"bio IS NULL OR bio <> '{REFUSED_EFFECT}'",
            "event_inbox": f"event_id NOT LIKE '%{REFUSED_ROW}'",
            "outbox": f"LOCATE('{REFUSED_COPY}', payload) = 0",
        }.items():
            await tx.execute(text(f"ALTER TABLE {table} ADD CONSTRAINT refused_{table} CHECK ({condition})"))
