"""Comparisons of webhook topics, database, changes and dead letters with the model. Each returns the differences."""

import json
from collections import defaultdict
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import func, select

from safevideo_common.broker.types import Record
from safevideo_common.database import kyc_requests as requests
from safevideo_common.database.engine import Database
from safevideo_common.database.tables import event_inbox, kyc_requests, performers
from safevideo_common.domain.kyc import KycStatus
from safevideo_common.events.topics import CHANGES, CONSUMED, KYC_WORKER, SYNC_WORKER, dead_letters_of
from safevideo_testkit.oracle.model import PERFORMER_DEFAULTS, REQUEST_DEFAULTS, Entry, Expected, Key
from safevideo_testkit.oracle.stream import COLUMNS, Outcome, Webhook, is_positional, verification_id

DEAD_TOPICS = {dead_letters_of(group): group for group in CONSUMED}
PUBLISHED_TOPICS = (CHANGES, *DEAD_TOPICS)
MAX_LINES = 5


async def insert_requests(database: Database, performer_ids: Iterable[str]) -> None:
    """Insert a KYC request in progress for each performer."""
    async with database.transaction() as tx:
        for each in performer_ids:
            await requests.insert_request(tx, each, verification_id(each), KycStatus.IN_PROGRESS, datetime.now(UTC))


async def count_events(database: Database, *, status: str = "%", group: str = "%") -> int:
    """Return the number of rows in the inbox with this status, of this group."""
    c = event_inbox.c
    query = select(func.count()).where(c.status.like(status), c.consumer_group.like(group))
    async with database.read_connection() as connection:
        return int(await connection.scalar(query) or 0)


async def count_deliveries(database: Database) -> int:
    """Return the number of rows in the inbox and of the duplicates that it has recognised."""
    query = select(func.count() + func.coalesce(func.sum(event_inbox.c.duplicates), 0))
    async with database.read_connection() as connection:
        return int(await connection.scalar(query) or 0)


def ingest_differences(
    sent: Mapping[str, Webhook], answered: Iterable[str], records: Sequence[Record]
) -> Sequence[str]:
    """Compare the webhook topics with the events that were sent with a good signature, and `answered` 2xx."""
    found = [(_event_id(record), record) for record in records]
    ids = {event_id for event_id, _ in found}
    return [
        *_first("lost", sorted({*answered} - ids)),
        *_first("never sent", sorted(ids - sent.keys())),
        *_first("altered", [each for each, record in found if each in sent and not _is_intact(sent[each], record)]),
    ]


def order_differences(stories: Iterable[Sequence[Webhook]], records: Sequence[Record]) -> Sequence[str]:
    """Compare the order of first occurrences, by topic and performer, with the order in which stories were sent."""
    rank = {event_id: number for number, event_id in enumerate(dict.fromkeys(map(_event_id, records)))}
    ranks: defaultdict[Key, list[int]] = defaultdict(list)
    for webhook in (each for story in stories for each in story if each.id in rank):
        ranks[webhook.topic, webhook.performer_id].append(rank[webhook.id])
    return _first("out of order", [key for key, each in ranks.items() if each != sorted(each)])


async def database_differences(database: Database, expected: Expected) -> Sequence[str]:
    """Compare all rows of inbox, performers and KYC requests."""
    return [
        *_unequal("inbox", await _inbox(database), expected.inbox),
        *await state_differences(database, expected),
    ]


async def state_differences(
    database: Database, expected: Expected, performer_ids: Container[str] | None = None
) -> Sequence[str]:
    """Compare the performers and KYC requests: all, or those of these performers."""
    async with database.read_connection() as connection:
        found = {
            row.sharegram_id: {name: getattr(row, name) for name in PERFORMER_DEFAULTS}
            for row in await connection.execute(select(performers))
            if performer_ids is None or row.sharegram_id in performer_ids
        }
        found_requests = {
            row.verification_id: {name: getattr(row, name) for name in REQUEST_DEFAULTS}
            for row in await connection.execute(select(kyc_requests))
            if performer_ids is None or row.performer_id in performer_ids
        }
    return [
        *_unequal("performer", found, expected.performers),
        *_unequal("request", found_requests, expected.requests),
    ]


def published_differences(expected: Expected, records: Iterable[Record]) -> Sequence[str]:
    """Compare `records` of `PUBLISHED_TOPICS`, in order within each partition, as a consumer reads them.

    A consumer of the changes remembers the highest `sequence` of each performer or request and nothing else. It must
    end with the rows of the database. The order of the first record of each id must be that of the effects.
    """
    records = [*records]
    changes = _first_changes(records)
    reasons = {_dead_key(each): dict(each.headers)["dlq_reason"] for each in records if each.topic in DEAD_TOPICS}
    dead = {key: True if key in expected.dead else reason.decode() for key, reason in reasons.items()}
    ids: defaultdict[Key, list[str]] = defaultdict(list)
    rows: defaultdict[str, dict[str, object]] = defaultdict(lambda: {**PERFORMER_DEFAULTS})
    results: defaultdict[str, dict[str, object]] = defaultdict(lambda: {**REQUEST_DEFAULTS, "result": ...})
    for (group, event_id), record in changes.items():
        ids[group, record.key.decode()].append(event_id)
    repeats = [each for each in records if each.topic == CHANGES]
    wrong = [f"{key} has two contents" for each in repeats if each.value != changes[key := _change_key(each)].value]
    for (group, event_id), record in _rising_changes(records):
        body, performer_id = json.loads(record.value), record.key.decode()
        if dict(record.headers)["ce_subject"] != record.key or body["performerId"] != performer_id:
            wrong.append(f"change {event_id} of {performer_id} names another performer")
        if group == SYNC_WORKER:
            rows[performer_id] |= {COLUMNS.get(name, name): value for name, value in body["changes"].items()}
        else:
            row = results[body["verificationId"]]
            if body["previousStatus"] != row["status"]:
                wrong.append(f"change {event_id} does not begin with the status {row['status']}")
            row |= {"status": body["status"], "risk_score": body["riskScore"]}
    changed = [verification_id(performer_id) for group, performer_id in expected.changes if group == KYC_WORKER]
    return [
        *_first("change", wrong),
        *_unequal("changes of", ids, expected.changes),
        *_unequal("published performer", rows, expected.performers),
        *_unequal("published request", results, {each: {**expected.requests[each], "result": ...} for each in changed}),
        *_unequal("dead letter", dead, dict.fromkeys(expected.dead, True)),
    ]


def count_repeated_changes(records: Sequence[Record]) -> int:
    """Return the number of records with a change that an earlier record has."""
    return sum(record.topic == CHANGES for record in records) - len(_first_changes(records))


def _first_changes(records: Iterable[Record]) -> Mapping[Key, Record]:
    first: dict[Key, Record] = {}
    for record in records:
        if record.topic == CHANGES:
            first.setdefault(_change_key(record), record)
    return first


def _rising_changes(records: Iterable[Record]) -> Iterator[tuple[Key, Record]]:
    """Yield the changes whose sequence is higher than any before it of the same performer or request."""
    highest: dict[Key, int] = {}
    for record in records:
        if record.topic == CHANGES:
            body, key = json.loads(record.value), _change_key(record)
            subject = key[0], body.get("verificationId", body["performerId"])
            if body["sequence"] > highest.get(subject, 0):
                highest[subject] = body["sequence"]
                yield key, record


def _change_key(record: Record) -> Key:
    headers = dict(record.headers)
    return headers["ce_source"].decode().removeprefix("/safevideo/"), headers["ce_id"].decode()


def _dead_key(record: Record) -> Key:
    headers = {name: value.decode() for name, value in record.headers if name != "trace"}
    position = f"{headers['dlq_topic']}/{headers['dlq_partition']}/{headers['dlq_offset']}"
    event_id = headers.get("ce_id", position)
    return DEAD_TOPICS[record.topic], position if is_positional(event_id) else event_id


def _event_id(record: Record) -> str:
    return dict(record.headers)["ce_id"].decode()


def _is_intact(webhook: Webhook, record: Record) -> bool:
    return (record.topic, record.key.decode(), record.value) == (webhook.topic, webhook.performer_id, webhook.body)


async def _inbox(database: Database) -> Mapping[Key, Entry]:
    c = event_inbox.c
    query = select(c.consumer_group, c.event_id, c.status, c.reason, c.duplicates)
    async with database.read_connection() as connection:
        return {
            (group, event_id): Entry(Outcome(status, _code(status, reason)), repeats)
            for group, event_id, status, reason, repeats in await connection.execute(query)
        }


def _code(status: str, reason: str | None) -> str:
    """Return the code of the reason. What a forced replay has applied is applied like anything else."""
    code = (reason or status).partition(":")[0]
    return status if code == "REPLAYED" else code


def _unequal(what: str, found: Mapping[Any, object], expected: Mapping[Any, object]) -> Sequence[str]:
    keys = [key for key in {**expected, **found} if found.get(key) != expected.get(key)]
    return _first(what, [f"{key}: found {found.get(key)}, expected {expected.get(key)}" for key in keys])


def _first(what: str, wrong: Sequence[object]) -> Sequence[str]:
    lines = [f"{what} {each}" for each in wrong[:MAX_LINES]]
    return [*lines, f"… and {len(wrong) - MAX_LINES} more"] if len(wrong) > MAX_LINES else lines
