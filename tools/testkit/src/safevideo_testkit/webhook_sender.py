"""Sends a ledger's webhooks as the provider does: signed, many at once, and again until each is answered 2xx."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime

import aiohttp

from sharegram_simulator.signing import sign_sharegram
from sharegram_simulator.webhooks import Event

AT_ONCE = 32
RETRY_SECONDS = 0.2
GIVE_UP_SECONDS = 180.0


async def send_all(url: str, secret: str, events: Sequence[Event]) -> None:
    """Return once each of `events` was answered 2xx. Raises `TimeoutError` for one that is not, for three minutes."""
    queue = asyncio.Queue[Event]()
    for event in events:
        queue.put_nowait(event)
    timeout = aiohttp.ClientTimeout(total=60)
    async with aiohttp.ClientSession(timeout=timeout) as session, asyncio.TaskGroup() as senders:
        for _ in range(AT_ONCE):
            senders.create_task(_send_from(queue, session, url, secret))


async def _send_from(queue: "asyncio.Queue[Event]", session: aiohttp.ClientSession, url: str, secret: str) -> None:
    while not queue.empty():
        event = queue.get_nowait()
        async with asyncio.timeout(GIVE_UP_SECONDS):
            while not await _is_taken(session, url, secret, event):
                await asyncio.sleep(RETRY_SECONDS)


async def _is_taken(session: aiohttp.ClientSession, url: str, secret: str, event: Event) -> bool:
    body = event.body()
    headers = sign_sharegram(body, secret, datetime.now(UTC), event.id) | {"Content-Type": "application/json"}
    try:
        async with session.post(url, data=body, headers=headers) as answer:
            await answer.read()
            return answer.status == 200
    except (aiohttp.ClientError, TimeoutError):
        return False
