"""What became of a webhook, as the gateway's event browser shows it."""

import asyncio
from typing import Final

from aiohttp import ClientSession

from safevideo_devstack.run.scene.script import Webhook

DEADLINE_SECONDS: Final = 60.0
"""After a `kill -9` Kafka waits for the dead consumers' session to run out before it lets new ones in."""

LOOK_SECONDS: Final = 0.05
UNDECIDED: Final = "not decided yet"


async def outcome_of(gateway: ClientSession, webhook: Webhook) -> str:
    """The word for it; waits for the decision up to `DEADLINE_SECONDS`. `gateway` carries the API key."""
    try:
        async with asyncio.timeout(DEADLINE_SECONDS):
            while (outcome := await _outcome(gateway, webhook)) is None:  # noqa: ASYNC110 - another process decides
                await asyncio.sleep(LOOK_SECONDS)
            return outcome
    except TimeoutError:
        return UNDECIDED


async def _outcome(gateway: ClientSession, webhook: Webhook) -> str | None:
    async with gateway.get(f"/api/v1/admin/events/{webhook.id}") as response:
        if response.status == 404:
            return None
        response.raise_for_status()
        event = (await response.json())["data"]
    if webhook.repeated:
        return "duplicate" if event["duplicates"] else None
    return f"{event['status']} ({event['reason']})" if event["reason"] else str(event["status"])
