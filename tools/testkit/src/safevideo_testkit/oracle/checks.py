"""Holds the database against a ledger."""

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime

from sqlalchemy import func, select

from safevideo_common.database import kyc_requests as requests
from safevideo_common.database.engine import Database
from safevideo_common.database.tables import event_inbox, kyc_requests, performers
from safevideo_common.domain.kyc import KycStatus
from safevideo_common.errors import DatabaseUnavailable
from safevideo_testkit.oracle.expected import COLUMN, Ledger

SETTLES_SECONDS = 300.0
ASK_SECONDS = 0.1


async def insert_requests(database: Database, ledger: Ledger) -> None:
    """The KYC requests whose verdicts the stream brings."""
    async with database.transaction() as tx:
        for verification_id in ledger.verdicts:
            performer_id = verification_id.removeprefix("ver-")
            await requests.insert_request(tx, performer_id, verification_id, KycStatus.IN_PROGRESS, datetime.now(UTC))


async def wait_until_settled(database: Database, ledger: Ledger) -> None:
    """Return once the inbox has each event of the ledger and none of them waits. The database may be away meanwhile."""
    async with asyncio.timeout(SETTLES_SECONDS):
        while not await _is_settled(database, ledger):
            await asyncio.sleep(ASK_SECONDS)


async def _is_settled(database: Database, ledger: Ledger) -> bool:
    try:
        found = await outcomes(database, ledger)
    except DatabaseUnavailable:
        return False
    return "waiting" not in found and sum(found.values()) == len(ledger.events)


async def outcomes(database: Database, ledger: Ledger) -> Mapping[str, int]:
    """How many of the ledger's events have each status."""
    chosen = event_inbox.c.performer_id.in_(list(ledger.performers))
    query = select(event_inbox.c.status, func.count()).where(chosen).group_by(event_inbox.c.status)
    async with database.read_connection() as connection:
        return {row[0]: row[1] for row in await connection.execute(query)}


async def check(database: Database, ledger: Ledger) -> None:
    """Every row is as the ledger says, and each event is in the inbox once, applied or stale."""
    found = await outcomes(database, ledger)
    assert set(found) <= {"applied", "stale"}, found
    assert await _event_ids(database, ledger) == sorted(ledger.events)
    assert await _performers(database, ledger) == ledger.performers
    assert await _verdicts(database, ledger) == ledger.verdicts


async def duplicates(database: Database, ledger: Ledger) -> int:
    """Deliveries that the inbox recognised as repeated."""
    chosen = event_inbox.c.performer_id.in_(list(ledger.performers))
    async with database.read_connection() as connection:
        return int(await connection.scalar(select(func.sum(event_inbox.c.duplicates)).where(chosen)) or 0)


async def _event_ids(database: Database, ledger: Ledger) -> list[str]:
    chosen = event_inbox.c.performer_id.in_(list(ledger.performers))
    async with database.read_connection() as connection:
        return sorted(await connection.scalars(select(event_inbox.c.event_id).where(chosen)))


async def _performers(database: Database, ledger: Ledger) -> dict[str, dict[str, object]]:
    columns = [*COLUMN.values(), "status"]
    query = select(performers).where(performers.c.sharegram_id.in_(list(ledger.performers)))
    async with database.read_connection() as connection:
        rows = await connection.execute(query)
        return {row.sharegram_id: {name: getattr(row, name) for name in columns} for row in rows}


async def _verdicts(database: Database, ledger: Ledger) -> dict[str, str]:
    query = select(kyc_requests).where(kyc_requests.c.verification_id.in_(list(ledger.verdicts)))
    async with database.read_connection() as connection:
        return {row.verification_id: row.status for row in await connection.execute(query)}
