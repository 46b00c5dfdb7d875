"""What the door refuses is kept, encrypted and within bounds, on both kinds of database."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Protocol

import aiohttp
from sqlalchemy import select

from safevideo_common.database.engine import Database
from safevideo_common.database.tables import rejected_webhooks as table
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_common.quarantine.limits import RetentionLimits
from safevideo_testkit.eventually import DEADLINE_SECONDS

PATH = "/webhooks/sharegram"
FORGED = {"X-Sharegram-Signature": "sha256=" + "00" * 32}
BODY = b'{"event": "performer.profile.updated", "data": {"email": "jane@example.com"}}'
FLOOD = 20_000


class Door(Protocol):
    database: Database

    def counted(self, outcome: str) -> float: ...
    async def client(self, address: str = "127.0.0.1") -> aiohttp.ClientSession: ...
    async def bodies(self) -> list[bytes]: ...


OpenDoor = Callable[[Database, RetentionLimits], AbstractAsyncContextManager[Door]]


async def refused(client: aiohttp.ClientSession, body: bytes, headers: dict[str, str] | None = None) -> None:
    async with client.post(PATH, data=body, headers=headers or FORGED) as answer:
        assert answer.status == 401
        await answer.read()


async def until_counted(door: Door, outcome: str, number: float) -> None:
    async with asyncio.timeout(DEADLINE_SECONDS):
        while door.counted(outcome) < number:
            await asyncio.sleep(0.02)


async def test_a_refused_webhook_is_kept_with_its_reason_and_its_body_unreadable(
    door: Door, client: aiohttp.ClientSession
) -> None:
    await refused(client, BODY, {**FORGED, "X-Request-Id": "incident-7", "X-Sharegram-Event-Id": "evt_1"})
    await until_counted(door, "kept", 1)
    assert await door.bodies() == [BODY]
    async with door.database.read_connection() as reading:
        (row,) = (await reading.execute(select(table))).all()
    assert (row.reason, row.code) == ("signature_mismatch", "WEBHOOK_SIGNATURE_INVALID")
    assert (row.scheme, row.remote, row.request_id) == ("sharegram", "127.0.0.1", "incident-7")
    assert (row.body_bytes, row.times_seen, row.released_at) == (len(BODY), 1, None)
    assert row.headers["X-Sharegram-Event-Id"] == ["evt_1"]
    assert "jane" not in repr(row)


async def test_what_does_not_look_like_ours_is_not_kept(door: Door, client: aiohttp.ClientSession) -> None:
    await refused(client, b'{"test": true}', {"Content-Type": "application/json"})
    await refused(client, b"user=admin&password=x", FORGED)
    await refused(client, BODY)
    await until_counted(door, "kept", 1)
    assert await door.bodies() == [BODY]


async def test_a_webhook_that_is_tried_again_is_counted(door: Door, client: aiohttp.ClientSession) -> None:
    await refused(client, BODY)
    await until_counted(door, "kept", 1)
    await refused(client, BODY)
    await refused(client, BODY)
    await until_counted(door, "repeated", 2)
    async with door.database.read_connection() as reading:
        assert list(await reading.scalars(select(table.c.times_seen))) == [3]


async def test_the_largest_webhook_is_kept(door: Door, client: aiohttp.ClientSession) -> None:
    body = b"{" + b" " * ((1 << 20) - 1)
    await refused(client, body)
    await until_counted(door, "kept", 1)
    assert await door.bodies() == [body]


async def test_what_still_waits_when_the_door_closes_is_written(open_door: OpenDoor, database: Database) -> None:
    async with open_door(database, RetentionLimits()) as door:
        client = await door.client()
        for number in range(150):
            await refused(client, b'{"number": %d}' % number)
    assert await door.bodies() == [b'{"number": %d}' % number for number in range(150)]


async def test_a_flood_from_one_address_pushes_out_nobody_else_and_the_bounds_hold(
    open_door: OpenDoor, database: Database
) -> None:
    bounds = RetentionLimits(rows=200)
    honest = [b'{"honest": %d}' % number for number in range(10)]
    async with open_door(database, bounds) as door:
        forger, sender = await door.client("127.0.0.2"), await door.client()

        async def forge(first: int) -> None:
            for number in range(first, FLOOD, 32):
                await refused(forger, b'{"forged": %d}' % number)

        async def send() -> None:
            for place, body in enumerate(honest):
                await settled(door, place * FLOOD // len(honest))
                await refused(sender, body)

        await asyncio.gather(send(), *map(forge, range(32)))
        await settled(door, FLOOD + len(honest))
    held = await door.bodies()
    assert bounds.rows * 0.95 <= len(held) <= bounds.rows
    assert [body for body in held if body in honest] == honest
    assert door.counted("evicted") == door.counted("kept") - len(held)


async def settled(door: Door, number: int) -> None:
    """Until so many have been written or dropped."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        while door.counted("kept") + door.counted("over_address_limit") < number:
            await asyncio.sleep(0.01)


async def test_a_database_that_is_away_costs_the_webhooks_and_slows_no_request(
    open_door: OpenDoor, tmp_path: Path, logs: Path, log: FilteringBoundLogger
) -> None:
    nowhere = f"sqlite+aiosqlite:///{tmp_path / 'missing' / 'folder.db'}"
    async with Database.open(nowhere) as database, open_door(database, RetentionLimits()) as door:
        client = await door.client()
        for number in range(5):
            async with asyncio.timeout(DEADLINE_SECONDS):
                await refused(client, b'{"number": %d}' % number)
        await until_counted(door, "database_away", 5)
        await refused(client, BODY)
        await until_counted(door, "database_away", 6)
    log.error("The test looks", code="LOOK")  # an ERROR is written at once, with what was gathered before
    text = (logs / "app.log").read_text()
    assert text.count("Quarantine cannot be written") == 1


async def test_no_body_signature_or_address_of_a_person_reaches_a_log(
    door: Door, client: aiohttp.ClientSession, logs: Path, log: FilteringBoundLogger
) -> None:
    await refused(client, BODY, {**FORGED, "X-Sharegram-Event-Id": "jane@example.com"})
    await until_counted(door, "kept", 1)
    log.error("The test looks", code="LOOK")
    text = (logs / "app.log").read_text()
    assert "Webhooks quarantined" in text
    assert "jane" not in text
    assert "00" * 32 not in text
