"""A stream of webhooks for the front door, and what the log must hold once each of them was answered 2xx."""

import json
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from safevideo_common.broker.port import Broker
from safevideo_common.broker.types import Record, TopicPartition
from safevideo_common.events.topics import KYC, OTHER, PERFORMER
from sharegram_simulator.signing import SCHEMES, SchemeName

TOPICS = {
    "performer.profile.updated": PERFORMER,
    "performer.status.changed": PERFORMER,
    "kyc.verification.completed": KYC,
    "performer.never.heard.of": OTHER,
}
PAGE = 2000

Place = tuple[str, str]
"""Topic and key: what has an order."""


@dataclass(frozen=True, slots=True)
class Webhook:
    """One event. Its body is the same bytes each time it is sent, in a layout that nobody would write twice."""

    id: str
    performer: str
    event: str
    scheme: SchemeName
    body: bytes

    @property
    def place(self) -> Place:
        return TOPICS[self.event], self.performer

    def signed(self, secret: str) -> dict[str, str]:
        """Its headers if it were sent now."""
        return SCHEMES[self.scheme](self.body, secret, datetime.now(UTC), self.id)


Stories = Sequence[Sequence[Webhook]]
"""One a performer, in the order in which they are sent."""


def write_stories(*, performers: int, webhooks: int, seed: int, prefix: str) -> Stories:
    """`webhooks` in all, in both schemes, of known and unknown types, from 200 bytes to 2 kB."""
    dice = random.Random(seed)
    lengths = [webhooks // performers + (number < webhooks % performers) for number in range(performers)]
    return [list(_story(dice, f"{prefix}_{number}", length)) for number, length in enumerate(lengths)]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is wrong with the log; all of it empty but for `duplicates` when the door has kept its promise."""

    lost: Sequence[str]
    """Ids that were answered 2xx and are not there."""
    foreign: Sequence[str]
    """Ids that are there and were never sent with a good signature."""
    altered: Sequence[str]
    disordered: Sequence[Place]
    """Where the first occurrences are not in the order in which they were sent."""
    duplicates: int


def judge(stories: Stories, answered: Sequence[str], records: Sequence[Record]) -> Verdict:
    """Hold the log's `records` against the ids that were `answered` 2xx."""
    sent = {webhook.id: webhook for story in stories for webhook in story}
    found = [(_id_of(record), record) for record in records]
    first = dict.fromkeys(each for each, _ in found)
    known = [(each, record) for each, record in found if each in sent]
    return Verdict(
        lost=sorted(set(answered) - first.keys()),
        foreign=sorted(first.keys() - sent.keys()),
        altered=[each for each, record in known if not _is_untouched(sent[each], record)],
        disordered=_disordered(stories, first),
        duplicates=len(found) - len(first),
    )


async def ends_of(broker: Broker) -> Mapping[TopicPartition, int]:
    """Where the topics of webhooks end now."""
    async with broker.reader("door-ledger") as reader:
        ends = [await reader.end_offsets(topic) for topic in (PERFORMER, KYC, OTHER)]
    return {place: end for each in ends for place, end in each.items()}


async def records_since(broker: Broker, begins: Mapping[TopicPartition, int]) -> Sequence[Record]:
    """All records from `begins` on, in order within each partition."""
    found: list[Record] = []
    ends = await ends_of(broker)
    async with broker.reader("door-ledger") as reader:
        for place, begin in begins.items():
            at = begin
            while at < ends[place]:
                found += await reader.read(place, at, PAGE)
                at = found[-1].offset + 1
    return found


def _story(dice: random.Random, performer: str, webhooks: int) -> Iterator[Webhook]:
    for step in range(webhooks):
        event, scheme = dice.choice(list(TOPICS)), dice.choice(list(SCHEMES))
        webhook_id = f"{performer}-{step}"
        body = body_of(webhook_id, performer, event, "Zoë 🎬 " * dice.randrange(5, 100), dice.choice((None, 1, 3)))
        yield Webhook(webhook_id, performer, event, scheme, body)


def body_of(webhook_id: str, performer: str, event: str, bio: str, indent: int | None = None) -> bytes:
    """A webhook's JSON; not the shortest, so that whoever writes it anew is found out."""
    data = {"performerId": performer, "changes": {"bio": bio}, "status": "active", "verificationId": "ver-1"}
    whole = {"timestamp": "2026-11-24T12:00:00.120Z", "data": data, "event": event, "id": webhook_id}
    return json.dumps(whole, indent=indent, ensure_ascii=indent == 1).encode() + b" \n"


def _id_of(record: Record) -> str:
    return dict(record.headers)["ce_id"].decode()


def _is_untouched(webhook: Webhook, record: Record) -> bool:
    return (record.topic, record.key.decode()) == webhook.place and record.value == webhook.body


def _disordered(stories: Stories, in_order: Mapping[str, None]) -> list[Place]:
    # Records of one key are in one partition, and those of a partition are in their order here.
    rank = {each: number for number, each in enumerate(in_order)}
    wrong = []
    for story in stories:
        for topic in dict.fromkeys(TOPICS.values()):
            ranks = [rank[each.id] for each in story if each.place[0] == topic and each.id in rank]
            if ranks != sorted(ranks):
                wrong.append((topic, story[0].performer))
    return wrong
