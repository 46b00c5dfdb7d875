"""The way in which most people write a worker: aiokafka and SQLAlchemy, a transaction an event."""

import json
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import uvloop
from aiokafka import AIOKafkaConsumer
from sqlalchemy import insert, select
from sqlalchemy.dialects import mysql
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from safevideo_common.database.tables import event_inbox, outbox, performers

TOPIC = "sharegram.performer.v1"
COLUMNS = {"username": "username", "displayName": "display_name", "bio": "bio", "verified": "verified"}


async def main() -> None:
    engine = create_async_engine(os.environ["DATABASE_URL"])
    consumer = AIOKafkaConsumer(
        TOPIC,
        bootstrap_servers=os.environ["KAFKA_BOOTSTRAP_SERVERS"],
        group_id=f"row-by-row-{os.getpid()}",
        auto_offset_reset="earliest",
    )
    async with consumer:
        async for record in consumer:
            await handle(engine, json.loads(record.value), dict(record.headers)["ce_id"].decode())


async def handle(engine: AsyncEngine, webhook: Mapping[str, Any], event_id: str) -> None:
    """The event's row, its performer and the change, committed together."""
    now = datetime.now(UTC)
    data = webhook["data"]
    async with engine.begin() as tx:
        found = await tx.execute(
            select(performers).where(performers.c.sharegram_id == data["performerId"]).with_for_update()
        )
        stored = found.mappings().one_or_none()
        values = _merged(dict(stored) if stored else {}, data)
        upsert = mysql.insert(performers).values(
            sharegram_id=data["performerId"], status="pending", created_at=now, updated_at=now, **values
        )
        await tx.execute(upsert.on_duplicate_key_update(**values, updated_at=now))
        await tx.execute(insert(event_inbox).values(**_inbox_row(webhook, event_id, now)))
        await tx.execute(insert(outbox).values(**_outbox_row(webhook, event_id, now)))


def _merged(stored: Mapping[str, Any], data: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that are newer than what is stored, and their versions."""
    versions = dict(stored.get("field_versions", {}))
    values = {}
    for name, value in data["changes"].items():
        column = COLUMNS[name]
        if versions.get(column, [-1])[0] <= data["version"]:
            values[column] = value
            versions[column] = [data["version"], 0]
    return {**values, "field_versions": versions}


def _inbox_row(webhook: Mapping[str, Any], event_id: str, now: datetime) -> dict[str, Any]:
    return {
        "consumer_group": "row-by-row",
        "event_id": event_id,
        "event_type": webhook["event"],
        "performer_id": webhook["data"]["performerId"],
        "source_topic": TOPIC,
        "source_partition": 0,
        "source_offset": 0,
        "last_offset": 0,
        "occurred_at": datetime.fromisoformat(webhook["timestamp"]),
        "received_at": now,
        "decided_at": now,
        "status": "applied",
    }


def _outbox_row(webhook: Mapping[str, Any], event_id: str, now: datetime) -> dict[str, Any]:
    return {
        "topic": "integration.events.v1",
        "message_key": webhook["data"]["performerId"].encode(),
        "headers": json.dumps({"ce_id": event_id, "ce_type": "integration.performer.changed"}).encode(),
        "payload": json.dumps(webhook["data"]).encode(),
        "created_at": now,
    }


if __name__ == "__main__":
    uvloop.run(main())
