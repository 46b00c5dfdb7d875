"""A sender of webhooks that signs them, sends many at once, and repeats each until it is answered 200."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime

import aiohttp

from safevideo_testkit.oracle.stream import Webhook
from sharegram_simulator.signing import sign_sharegram

CONCURRENT_REQUESTS = 32
RETRY_SECONDS = 0.2
GIVE_UP_SECONDS = 180.0


async def send_all(url: str, secret: str, webhooks: Sequence[Webhook]) -> None:
    """Return when each webhook was answered 200. Raises `TimeoutError` if one is not, for three minutes."""
    queue = asyncio.Queue[Webhook]()
    for webhook in webhooks:
        queue.put_nowait(webhook)
    timeout = aiohttp.ClientTimeout(total=60)
    async with aiohttp.ClientSession(timeout=timeout) as session, asyncio.TaskGroup() as senders:
        for _ in range(CONCURRENT_REQUESTS):
            senders.create_task(_send_from(queue, session, url, secret))


async def post(session: aiohttp.ClientSession, url: str, secret: str, webhook: Webhook) -> int:
    """Send a webhook once and return the status of the answer."""
    headers = sign_sharegram(webhook.body, secret, datetime.now(UTC), webhook.id) | {"Content-Type": "application/json"}
    async with session.post(url, data=webhook.body, headers=headers) as answer:
        await answer.read()
        return answer.status


async def _send_from(queue: "asyncio.Queue[Webhook]", session: aiohttp.ClientSession, url: str, secret: str) -> None:
    while not queue.empty():
        webhook = queue.get_nowait()
        async with asyncio.timeout(GIVE_UP_SECONDS):
            while not await _is_accepted(session, url, secret, webhook):
                await asyncio.sleep(RETRY_SECONDS)


async def _is_accepted(session: aiohttp.ClientSession, url: str, secret: str, webhook: Webhook) -> bool:
    try:
        return await post(session, url, secret, webhook) == 200
    except (aiohttp.ClientError, TimeoutError):
        return False
