"""Plays the scene: sends each webhook through the simulator, then asks what became of it."""

from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Final

from aiohttp import ClientSession, ClientTimeout

from safevideo_common.auth.authenticator import CLIENT_HEADER, KEY_HEADER
from safevideo_common.clock import utc_now
from safevideo_common.database.engine import Database
from safevideo_common.database.kyc_requests import insert_request
from safevideo_common.domain.kyc import KycStatus
from safevideo_devstack.run.ports import SIMULATOR
from safevideo_devstack.run.run import API_CLIENT, Run
from safevideo_devstack.run.scene.outcomes import outcome_of
from safevideo_devstack.run.scene.script import Cast, Webhook, script

ASK_SECONDS: Final = 10.0
REFUSED: Final = "refused"


@dataclass(frozen=True, slots=True)
class Played:
    """A webhook with the answer that it got, such as `200`, and what became of it."""

    webhook: Webhook
    answer: str
    outcome: str


async def play(run: Run, database: Database, api_key: str) -> list[Played]:
    """The whole scene, in the order in which it was sent."""
    cast = Cast(utc_now())
    await _ask_for_verification(database, cast)
    async with AsyncExitStack() as stack:
        simulator = await stack.enter_async_context(_session(run.url(SIMULATOR)))
        headers = {CLIENT_HEADER: API_CLIENT, KEY_HEADER: api_key}
        gateway = await stack.enter_async_context(_session(run.url("gateway"), headers))
        sent = [(webhook, await _send(simulator, webhook)) for webhook in script(cast)]
        return [
            Played(webhook, answer, await outcome_of(gateway, webhook) if answer.startswith("2") else REFUSED)
            for webhook, answer in sent
        ]


async def _ask_for_verification(database: Database, cast: Cast) -> None:
    """As if the performer had sent her documents: a verdict on a request that nobody made would wait for it."""
    async with database.transaction() as tx:
        await insert_request(tx, cast.performer("ada"), cast.verification, KycStatus.IN_PROGRESS, cast.began)


async def _send(simulator: ClientSession, webhook: Webhook) -> str:
    async with simulator.post("/_sim/webhooks", json=webhook.order()) as response:
        response.raise_for_status()
        (attempt,) = (await response.json())["answers"]
    if attempt["status"] is None:
        return str(attempt.get("error"))
    code = (attempt["answer"].get("error") or {}).get("code") if isinstance(attempt["answer"], dict) else None
    return f"{attempt['status']} {code}" if code else str(attempt["status"])


def _session(url: str, headers: Mapping[str, str] | None = None) -> ClientSession:
    return ClientSession(url, headers=headers, timeout=ClientTimeout(total=ASK_SECONDS))
