"""Holds what was told to others against a ledger: `integration.events.v1`, read as a stranger would."""

import json
from collections.abc import Mapping
from typing import NamedTuple

from sqlalchemy import select

from safevideo_common.broker.port import Broker
from safevideo_common.broker.types import Record
from safevideo_common.database.engine import Database
from safevideo_common.database.tables import event_inbox
from safevideo_common.errors import DatabaseUnavailable
from safevideo_common.outbox import store as outbox_store
from safevideo_testkit.eventually import eventually
from safevideo_testkit.oracle.expected import COLUMN, Ledger

TOPIC = "integration.events.v1"
SOURCES = {"sync-worker": "/safevideo/sync-worker", "kyc-worker": "/safevideo/kyc-worker"}
SETTLES_SECONDS = 300.0


class Change(NamedTuple):
    source: str
    id: str
    performer_id: str
    body: Mapping[str, object]


async def check_changes(broker: Broker, database: Database, ledger: Ledger) -> int:
    """Each applied event is told once by source and id, and in an order that ends in the rows; gives the repeats."""
    await eventually(lambda: _is_all_told(database), SETTLES_SECONDS)
    told = [_change(record) for record in await _records(broker) if record.key.decode() in ledger.performers]
    firsts = list({(each.source, each.id): each for each in reversed(told)}.values())[::-1]
    assert sorted((each.source, each.id) for each in firsts) == await _applied(database, ledger)
    assert _performers(firsts) == ledger.performers
    assert _verdicts(firsts) == ledger.verdicts
    return len(told) - len(firsts)


async def _is_all_told(database: Database) -> bool:
    try:
        async with database.read_connection() as reading:
            return not (await outbox_store.depth(reading)).rows
    except DatabaseUnavailable:
        return False


async def _records(broker: Broker) -> list[Record]:
    """The whole topic, in order within each partition."""
    found: list[Record] = []
    async with broker.reader("changes") as reader:
        for partition, end in (await reader.end_offsets(TOPIC)).items():
            offset = 0
            while offset < end and (records := await reader.read(partition, offset, 1000)):
                found += records
                offset = records[-1].offset + 1
    return found


def _change(record: Record) -> Change:
    headers = dict(record.headers)
    body = json.loads(record.value)
    assert headers["ce_subject"] == record.key == body["performerId"].encode()
    return Change(headers["ce_source"].decode(), headers["ce_id"].decode(), record.key.decode(), body)


async def _applied(database: Database, ledger: Ledger) -> list[tuple[str, str]]:
    query = select(event_inbox.c.consumer_group, event_inbox.c.event_id).where(
        event_inbox.c.performer_id.in_(list(ledger.performers)), event_inbox.c.status == "applied"
    )
    async with database.read_connection() as reading:
        return sorted((SOURCES[group], event_id) for group, event_id in await reading.execute(query))


def _performers(changes: list[Change]) -> dict[str, dict[str, object]]:
    rows: dict[str, dict[str, object]] = {}
    for each in changes:
        if each.source == SOURCES["sync-worker"]:
            row = rows.setdefault(each.performer_id, {**dict.fromkeys(COLUMN.values()), "verified": False})
            row.setdefault("status", "pending")
            fields = each.body["changes"]
            assert isinstance(fields, dict)
            row.update((COLUMN.get(str(name), str(name)), value) for name, value in fields.items())
    return rows


def _verdicts(changes: list[Change]) -> dict[str, str]:
    """The last status of each request; each change begins where the one before has ended."""
    found: dict[str, str] = {}
    for each in changes:
        if each.source == SOURCES["kyc-worker"]:
            verification_id, before = str(each.body["verificationId"]), str(each.body["previousStatus"])
            assert before == found.get(verification_id, "in_progress")
            found[verification_id] = str(each.body["status"])
    return found
