"""Holds the tables against what the log demands."""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from sqlalchemy import func, select

from safevideo_common.database import kyc_requests as requests
from safevideo_common.database.engine import Database
from safevideo_common.database.tables import event_inbox, kyc_requests, outbox, performers
from safevideo_common.domain.kyc import KycStatus
from safevideo_common.errors import DatabaseConflict, ServiceUnavailable
from safevideo_testkit.chaos.event_stream import Stream, verification_of
from safevideo_testkit.oracle.expected import COLUMN
from safevideo_testkit.oracle.reference_model import Entry, Expected, Key, first_differences

ASK_SECONDS = 0.25


async def insert_requests(database: Database, names: Sequence[str]) -> None:
    """KYC requests under way for these performers."""
    async with database.transaction() as tx:
        for name in names:
            now = datetime.now(UTC)
            await requests.insert_request(tx, name, verification_of(name), KycStatus.IN_PROGRESS, now)


async def insert_late_requests(database: Database, stream: Stream) -> None:
    """Each once a verdict waits for it. Until cancelled; the database may be away meanwhile."""
    waiting = select(event_inbox.c.performer_id).distinct().where(event_inbox.c.status == "waiting")
    missing = set(stream.late)
    while missing:
        try:
            async with database.read_connection() as connection:
                due = missing.intersection(await connection.scalars(waiting))
            for name in due:
                await insert_requests(database, [name])
                missing.discard(name)
        except DatabaseConflict:
            missing.discard(name)  # a commit whose answer was lost
        except ServiceUnavailable:
            pass
        await asyncio.sleep(ASK_SECONDS)


async def messages_in_outbox(database: Database) -> int:
    """What has still to be told."""
    async with database.read_connection() as connection:
        return int(await connection.scalar(select(func.count()).select_from(outbox)) or 0)


async def events_in_inbox(database: Database, *, status: str = "%", group: str = "%") -> int:
    """How many there are with this status, in this group."""
    c = event_inbox.c
    query = select(func.count()).where(c.status.like(status), c.consumer_group.like(group))
    async with database.read_connection() as connection:
        return int(await connection.scalar(query) or 0)


async def differences(database: Database, expected: Expected) -> list[str]:
    """What is not as it must be; of each kind the first few."""
    return [
        *first_differences("inbox", await _inbox(database), expected.inbox),
        *first_differences("performer", await _performers(database), expected.performers),
        *first_differences("request", await _requests(database), expected.requests),
    ]


async def _inbox(database: Database) -> dict[Key, Entry]:
    c = event_inbox.c
    query = select(c.consumer_group, c.event_id, c.status, c.reason, c.duplicates)
    async with database.read_connection() as connection:
        rows = await connection.execute(query)
        return {
            (group, event_id): Entry(status, (reason or status).partition(":")[0], repeats)
            for group, event_id, status, reason, repeats in rows
        }


async def _performers(database: Database) -> dict[str, Mapping[str, object]]:
    columns = [*COLUMN.values(), "status"]
    async with database.read_connection() as connection:
        rows = await connection.execute(select(performers))
        return {row.sharegram_id: {name: getattr(row, name) for name in columns} for row in rows}


async def _requests(database: Database) -> dict[str, Mapping[str, object]]:
    async with database.read_connection() as connection:
        rows = await connection.execute(select(kyc_requests))
        return {
            row.verification_id: {"status": row.status, "risk_score": row.risk_score, "result": row.result}
            for row in rows
        }
