"""Sends stories as the provider does: a performer's events one after the other, each until it is answered 2xx."""

import asyncio
import math
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

import aiohttp

from safevideo_testkit.eventually import eventually
from safevideo_testkit.oracle.ingest_oracle import Stories, Webhook, body_of
from sharegram_simulator.signing import SIGNATURE_HEADERS, sign_sharegram, sign_standard

ANSWERS_SECONDS = 60.0
RETRY_SECONDS = 0.2
PATIENCE_SECONDS = 180.0
EVERY = 10
"""One in so many has a forged one before it."""

REFUSED = "503 Retry-After"

Sent = tuple[Mapping[str, str], bytes]


class Provider:
    """`answered` is the ledger: the ids that were answered 2xx, in the order of the answers."""

    def __init__(self, url: str, secret: str, stories: Stories, *, per_second: float) -> None:
        """It begins so many a second at most, however much an outage has held up."""
        self.answered: list[str] = []
        self.untaken = Counter[str]()
        """Tries of good ones without a 2xx, by status (and whether it said when to come again) or kind of failure."""
        self.forged = Counter[str]()
        """Forged ones, likewise."""
        self.slowest_seconds = 0.0
        """Of all good ones that were answered 2xx."""
        self._url = url
        self._secret = secret
        self._stories = stories
        self._between_seconds = 1 / per_second
        self._turns = 0
        self._next_at = 0.0
        self._most = math.inf
        self._more = asyncio.Event()

    async def send_all(self) -> None:
        """Return once each was answered 2xx. Raises `TimeoutError` for one that is not, for three minutes."""
        timeout = aiohttp.ClientTimeout(total=ANSWERS_SECONDS)
        async with (
            aiohttp.ClientSession(timeout=timeout, connector=aiohttp.TCPConnector(limit=0)) as session,
            asyncio.TaskGroup() as lanes,
        ):
            for story in self._stories:
                lanes.create_task(self._tell(session, story))

    def allow(self, webhooks: float) -> None:
        """Begin no more than so many in all: a fault that takes its time must not find the stream at its end."""
        self._most = webhooks
        self._more.set()
        self._more = asyncio.Event()

    async def until_answered(self, webhooks: int) -> None:
        """Return once so many were. Raises `TimeoutError` when that takes three minutes."""

        async def is_so() -> bool:
            return len(self.answered) >= webhooks

        await eventually(is_so, PATIENCE_SECONDS)

    async def until_refused(self, times: int) -> None:
        """Return once good ones got so many more 503. Raises `TimeoutError` when that takes three minutes."""
        wanted = self.untaken[REFUSED] + times

        async def is_so() -> bool:
            return self.untaken[REFUSED] >= wanted

        await eventually(is_so, PATIENCE_SECONDS)

    async def _tell(self, session: aiohttp.ClientSession, story: Sequence[Webhook]) -> None:
        for number, webhook in enumerate(story):
            if await self._turn() % EVERY == 0:
                self.forged[await self._post(session, forged(webhook, self._secret, number))] += 1
            async with asyncio.timeout(PATIENCE_SECONDS):
                while not await self._is_taken(session, webhook):
                    await asyncio.sleep(RETRY_SECONDS)
            self.answered.append(webhook.id)

    async def _turn(self) -> int:
        """Whose it is, once it has come."""
        self._turns += 1
        turn = self._turns
        while turn > self._most:
            await self._more.wait()
        now = time.monotonic()
        at = max(now, self._next_at)
        self._next_at = at + self._between_seconds
        await asyncio.sleep(at - now)
        return turn

    async def _is_taken(self, session: aiohttp.ClientSession, webhook: Webhook) -> bool:
        began = time.monotonic()
        answer = await self._post(session, (webhook.signed(self._secret), webhook.body))
        if answer == "200":
            self.slowest_seconds = max(self.slowest_seconds, time.monotonic() - began)
            return True
        assert not answer.startswith("4"), f"{answer} for {webhook}"
        self.untaken[answer] += 1
        return False

    async def _post(self, session: aiohttp.ClientSession, sent: Sent) -> str:
        headers, body = sent
        try:
            async with session.post(self._url, data=body, headers=headers) as answer:
                await answer.read()
                return f"{answer.status} Retry-After" if "Retry-After" in answer.headers else str(answer.status)
        except (aiohttp.ClientError, TimeoutError) as error:
            return type(error).__name__


def forged(webhook: Webhook, secret: str, number: int) -> Sent:
    """One that only somebody without the secret would send, about the same performer; `number` chooses the way."""
    forged_id, now = f"forged-{webhook.id}", datetime.now(UTC)
    body = body_of(forged_id, webhook.performer, webhook.event, "forged")
    good = sign_standard(body, secret, now, forged_id)
    ways: Sequence[Sent] = (
        (sign_sharegram(body, "another secret", now, forged_id), body),
        (sign_sharegram(webhook.body, secret, now, forged_id), body),
        (sign_sharegram(body, secret, now - timedelta(minutes=6), forged_id), body),
        (good | {"webhook-id": f"{forged_id}-too"}, body),
        (good | sign_sharegram(body, "another secret", now, forged_id), body),
        (good | {SIGNATURE_HEADERS["standard"]: "v1,"}, body),
        ({}, body),
    )
    return ways[number % len(ways)]
