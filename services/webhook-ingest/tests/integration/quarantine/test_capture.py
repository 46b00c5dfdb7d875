"""Rejected webhooks are stored encrypted and within limits, on both kinds of database."""

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

PATH = "/webhooks/sharegram"
FORGED = {"X-Sharegram-Signature": "sha256=" + "00" * 32}
BODY = b'{"event": "performer.profile.updated", "data": {"email": "jane@example.com"}}'
FLOOD = 3_000
"""Three times what the queue takes of one address in a minute, and fifteen times the rows that the table may hold."""


class Endpoint(Protocol):
    database: Database

    def count(self, outcome: str) -> float: ...
    async def client(self, address: str = "127.0.0.1") -> aiohttp.ClientSession: ...
    async def bodies(self) -> list[bytes]: ...


OpenEndpoint = Callable[[Database, RetentionLimits], AbstractAsyncContextManager[Endpoint]]


async def post_rejected(client: aiohttp.ClientSession, body: bytes, headers: dict[str, str] | None = None) -> None:
    async with client.post(PATH, data=body, headers=headers or FORGED) as answer:
        assert answer.status == 401
        await answer.read()


async def until_count(endpoint: Endpoint, outcome: str, number: float) -> None:
    async with asyncio.timeout(30):
        while endpoint.count(outcome) < number:
            await asyncio.sleep(0.02)


async def test_quarantine_stores_reason_and_encrypted_body(endpoint: Endpoint, client: aiohttp.ClientSession) -> None:
    await post_rejected(client, BODY, {**FORGED, "X-Request-Id": "incident-7", "X-Sharegram-Event-Id": "evt_1"})
    await until_count(endpoint, "kept", 1)
    assert await endpoint.bodies() == [BODY]
    async with endpoint.database.read_connection() as reading:
        (row,) = (await reading.execute(select(table))).all()
    assert (row.reason, row.code) == ("signature_mismatch", "WEBHOOK_SIGNATURE_INVALID")
    assert (row.scheme, row.remote, row.request_id) == ("sharegram", "127.0.0.1", "incident-7")
    assert (row.body_bytes, row.times_seen, row.released_at) == (len(BODY), 1, None)
    assert row.headers["X-Sharegram-Event-Id"] == ["evt_1"]
    assert "jane" not in repr(row)


async def test_quarantine_ignores_implausible_requests(endpoint: Endpoint, client: aiohttp.ClientSession) -> None:
    await post_rejected(client, b'{"test": true}', {"Content-Type": "application/json"})
    await post_rejected(client, b"user=admin&password=x", FORGED)
    await post_rejected(client, BODY)
    await until_count(endpoint, "kept", 1)
    assert await endpoint.bodies() == [BODY]


async def test_quarantine_counts_repeats(endpoint: Endpoint, client: aiohttp.ClientSession) -> None:
    await post_rejected(client, BODY)
    await until_count(endpoint, "kept", 1)
    await post_rejected(client, BODY)
    await post_rejected(client, BODY)
    await until_count(endpoint, "repeated", 2)
    async with endpoint.database.read_connection() as reading:
        assert list(await reading.scalars(select(table.c.times_seen))) == [3]


async def test_quarantine_stores_largest_webhook(endpoint: Endpoint, client: aiohttp.ClientSession) -> None:
    body = b"{" + b" " * ((1 << 20) - 1)
    await post_rejected(client, body)
    await until_count(endpoint, "kept", 1)
    assert await endpoint.bodies() == [body]


async def test_quarantine_writes_rest_of_queue_at_the_end(open_endpoint: OpenEndpoint, database: Database) -> None:
    async with open_endpoint(database, RetentionLimits()) as endpoint:
        client = await endpoint.client()
        for number in range(150):
            await post_rejected(client, b'{"number": %d}' % number)
    assert await endpoint.bodies() == [b'{"number": %d}' % number for number in range(150)]


async def test_quarantine_keeps_other_addresses_and_limits_in_a_flood(
    open_endpoint: OpenEndpoint, database: Database
) -> None:
    limits = RetentionLimits(rows=200)
    honest = [b'{"honest": %d}' % number for number in range(10)]
    async with open_endpoint(database, limits) as endpoint:
        forger, sender = await endpoint.client("127.0.0.2"), await endpoint.client()

        async def forge(first: int) -> None:
            for number in range(first, FLOOD, 32):
                await post_rejected(forger, b'{"forged": %d}' % number)

        async def send() -> None:
            for index, body in enumerate(honest):
                await settled(endpoint, index * FLOOD // len(honest))
                await post_rejected(sender, body)

        await asyncio.gather(send(), *map(forge, range(32)))
        await settled(endpoint, FLOOD + len(honest))
    stored = await endpoint.bodies()
    assert limits.rows * 0.95 <= len(stored) <= limits.rows
    assert [body for body in stored if body in honest] == honest
    assert endpoint.count("evicted") == endpoint.count("kept") - len(stored)


async def settled(endpoint: Endpoint, number: int) -> None:
    """Wait until this number of webhooks was written or dropped."""
    async with asyncio.timeout(60):
        while endpoint.count("kept") + endpoint.count("over_address_limit") < number:
            await asyncio.sleep(0.01)


async def test_quarantine_drops_webhooks_while_database_is_unavailable_and_delays_no_request(
    open_endpoint: OpenEndpoint, tmp_path: Path, logs: Path, log: FilteringBoundLogger
) -> None:
    nowhere = f"sqlite+aiosqlite:///{tmp_path / 'missing' / 'folder.db'}"
    async with Database.open(nowhere) as database, open_endpoint(database, RetentionLimits()) as endpoint:
        client = await endpoint.client()
        for number in range(5):
            async with asyncio.timeout(10):
                await post_rejected(client, b'{"number": %d}' % number)
        await until_count(endpoint, "database_unavailable", 5)
        await post_rejected(client, BODY)
        await until_count(endpoint, "database_unavailable", 6)
    log.error("The test looks", code="LOOK")  # an ERROR is written at once, with what was gathered before
    text = (logs / "app.log").read_text()
    assert text.count("Quarantine unavailable, rejected webhooks dropped") == 1


async def test_quarantine_logs_no_personal_data(
    endpoint: Endpoint, client: aiohttp.ClientSession, logs: Path, log: FilteringBoundLogger
) -> None:
    await post_rejected(client, BODY, {**FORGED, "X-Sharegram-Event-Id": "jane@example.com"})
    await until_count(endpoint, "kept", 1)
    log.error("The test looks", code="LOOK")
    text = (logs / "app.log").read_text()
    assert "Webhooks quarantined" in text
    assert "jane" not in text
    assert "00" * 32 not in text
