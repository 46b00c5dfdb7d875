"""A provider that sends the events of a performer one after the other, each until it is answered 2xx."""

import asyncio
import math
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

import aiohttp

from safevideo_testkit.eventually import eventually
from safevideo_testkit.oracle.stream import Webhook, write_webhook
from sharegram_simulator.signing import SCHEMES, SIGNATURE_HEADERS, sign_sharegram, sign_standard

ANSWER_SECONDS = 60.0
RETRY_SECONDS = 0.2
PATIENCE_SECONDS = 180.0
FORGED_EVERY = 10
"""One webhook in so many has a forged one before it."""

REJECTED = "503 Retry-After"

Request = tuple[Mapping[str, str], bytes]


class Provider:
    """A sender of stories. `answered` has the ids that were answered 2xx, in the order of the answers."""

    def __init__(self, url: str, secret: str, stories: Sequence[Sequence[Webhook]], *, per_second: float) -> None:
        """Send at most `per_second` new webhooks, also after an outage."""
        self.answered: list[str] = []
        self.failures = Counter[str]()
        """Failed attempts of genuine webhooks, by status (and whether it has Retry-After) or error."""
        self.failed_twice: list[str] = []
        """The genuine webhooks of which two attempts in a row failed."""
        self.forged = Counter[str]()
        """Forged webhooks, likewise."""
        self.slowest_seconds = 0.0
        """The longest time until a 2xx."""
        self.events = {webhook.id: webhook for story in stories for webhook in story}
        self._url = url
        self._secret = secret
        self._stories = stories
        self._interval_seconds = 1 / per_second
        self._begun = 0
        self._next_at = 0.0
        self._limit = math.inf
        self._limit_changed = asyncio.Event()

    async def send_all(self) -> None:
        """Return when each webhook was answered 2xx. Raises `TimeoutError` if one is not, for three minutes."""
        timeout = aiohttp.ClientTimeout(total=ANSWER_SECONDS)
        async with (
            aiohttp.ClientSession(timeout=timeout, connector=aiohttp.TCPConnector(limit=0)) as session,
            asyncio.TaskGroup() as senders,
        ):
            for story in self._stories:
                senders.create_task(self._send_story(session, story))

    def allow(self, webhooks: float) -> None:
        """Begin at most so many webhooks, so that the stream does not end before a long fault does."""
        self._limit = webhooks
        self._limit_changed.set()
        self._limit_changed = asyncio.Event()

    def allow_more(self, webhooks: int) -> None:
        """Begin so many webhooks more than allowed before."""
        self.allow(self._limit + webhooks)

    async def until_answered(self, webhooks: int) -> None:
        """Return when so many are answered. Raises `TimeoutError`."""

        async def is_reached() -> bool:
            return len(self.answered) >= webhooks

        await eventually(is_reached, PATIENCE_SECONDS)

    async def until_rejected(self, times: int) -> None:
        """Return after so many further 503. Raises `TimeoutError`."""
        target = self.failures[REJECTED] + times

        async def is_reached() -> bool:
            return self.failures[REJECTED] >= target

        await eventually(is_reached, PATIENCE_SECONDS)

    async def _send_story(self, session: aiohttp.ClientSession, story: Sequence[Webhook]) -> None:
        for number, webhook in enumerate(story):
            if await self._begin() % FORGED_EVERY == 0:
                self.forged[await self._post(session, forged(webhook, self._secret, number))] += 1
            attempts = 1
            async with asyncio.timeout(PATIENCE_SECONDS):
                while not await self._is_accepted(session, webhook, number):
                    attempts += 1
                    await asyncio.sleep(RETRY_SECONDS)
            if attempts > 2:
                self.failed_twice.append(webhook.id)
            self.answered.append(webhook.id)

    async def _begin(self) -> int:
        """Wait for the limit and the rate; return the number of this webhook."""
        self._begun += 1
        number = self._begun
        while number > self._limit:
            await self._limit_changed.wait()
        now = time.monotonic()
        at = max(now, self._next_at)
        self._next_at = at + self._interval_seconds
        await asyncio.sleep(at - now)
        return number

    async def _is_accepted(self, session: aiohttp.ClientSession, webhook: Webhook, number: int) -> bool:
        began, sign = time.monotonic(), [*SCHEMES.values()][number % len(SCHEMES)]
        headers = sign(webhook.body, self._secret, datetime.now(UTC), webhook.id)
        answer = await self._post(session, (headers, webhook.body))
        if answer == "200":
            self.slowest_seconds = max(self.slowest_seconds, time.monotonic() - began)
            return True
        assert not answer.startswith("4"), f"{answer} for {webhook}"
        self.failures[answer] += 1
        return False

    async def _post(self, session: aiohttp.ClientSession, request: Request) -> str:
        headers, body = request
        try:
            async with session.post(self._url, data=body, headers=headers) as answer:
                await answer.read()
                return f"{answer.status} Retry-After" if "Retry-After" in answer.headers else str(answer.status)
        except (aiohttp.ClientError, TimeoutError) as error:
            return type(error).__name__


def forged(webhook: Webhook, secret: str, number: int) -> Request:
    """Return a request about the same performer that only a sender without the secret makes; `number` selects it."""
    forged_id, now = f"forged-{webhook.id}", datetime.now(UTC)
    data = {"changes": {"bio": "forged"}}
    body = write_webhook("performer.profile.updated", forged_id, webhook.performer_id, data).body
    good = sign_standard(body, secret, now, forged_id)
    requests: Sequence[Request] = (
        (sign_sharegram(body, "another secret", now, forged_id), body),
        (sign_sharegram(webhook.body, secret, now, forged_id), body),
        (sign_sharegram(body, secret, now - timedelta(minutes=6), forged_id), body),
        (good | {"webhook-id": f"{forged_id}-too"}, body),
        (good | sign_sharegram(body, "another secret", now, forged_id), body),
        (good | {SIGNATURE_HEADERS["standard"]: "v1,"}, body),
        ({}, body),
    )
    return requests[number % len(requests)]
