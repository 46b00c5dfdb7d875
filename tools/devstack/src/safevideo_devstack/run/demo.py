"""What Sharegram sends in the opening scene: ten webhooks and a forged one, about three performers."""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from secrets import token_hex
from typing import Final

from aiohttp import ClientSession, ClientTimeout
from rich.table import Table
from rich.text import Text

from safevideo_common.auth.authenticator import CLIENT_HEADER, KEY_HEADER
from safevideo_common.clock import utc_now
from safevideo_common.database.engine import Database
from safevideo_common.database.kyc_requests import insert_request
from safevideo_common.domain.kyc import KycStatus
from safevideo_devstack.run.config import SIMULATOR
from safevideo_devstack.run.context import API_CLIENT, RunContext

PROFILE: Final = "performer.profile.updated"
STATUS: Final = "performer.status.changed"
VERIFIED: Final = "kyc.verification.completed"
UNKNOWN: Final = "performer.badge.awarded"


@dataclass(frozen=True, slots=True)
class Webhook:
    """One line of the script. `about` says to the audience what it is."""

    about: str
    event: str
    performer: str
    data: Mapping[str, object]
    at: datetime
    id: str
    repeated: bool = False
    """The same event was sent before."""
    forged: bool = False

    def order(self) -> dict[str, object]:
        """As `POST /_sim/webhooks` takes it."""
        data = {"performerId": self.performer, **self.data}
        return {
            "id": self.id, "event": self.event, "timestamp": self.at.isoformat(), "data": data, "forge": self.forged,
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class DemoData:
    """New performers each time, so that a scene can be played again on the same database."""

    began: datetime
    tag: str = field(default_factory=lambda: token_hex(3))

    def performer(self, name: str) -> str:
        """Sharegram's id of a performer of this scene."""
        return f"sg_{name}_{self.tag}"

    @property
    def verification(self) -> str:
        """The verification that ends well."""
        return f"ver_{self.tag}"

    def webhook(self, about: str, event: str, name: str, place: int, data: Mapping[str, object]) -> Webhook:
        """`place` is the event's own in the provider's order, whenever it is sent."""
        at = self.began + timedelta(milliseconds=place)
        return Webhook(about, event, self.performer(name), data, at, f"evt_{self.tag}_{place}")


def demo_webhooks(cast: DemoData) -> list[Webhook]:
    """All of it, in the order in which it is sent."""
    ada = cast.webhook("a new performer", PROFILE, "ada", 1, _created("Ada"))
    bela = cast.webhook("a new performer", PROFILE, "bela", 2, _created("Bela"))
    cleo = cast.webhook("a new performer", PROFILE, "cleo", 3, _created("Cleo"))
    bio = cast.webhook("a patch of one field", PROFILE, "ada", 4, _changed(2, bio="Dances."))
    late = cast.webhook("late: an older patch", PROFILE, "bela", 5, _changed(2, displayName="Bela B."))
    newer = cast.webhook("a newer patch", PROFILE, "bela", 6, _changed(3, displayName="Bela Bright"))
    active = cast.webhook("a change of status", STATUS, "cleo", 7, {"status": "active", "version": 2})
    verified = cast.webhook("identity verified", VERIFIED, "ada", 8, _passed(cast.verification))
    badge = cast.webhook("a type not known here", UNKNOWN, "cleo", 9, {"badge": "gold"})
    forged = cast.webhook("forged", STATUS, "bela", 10, {"status": "suspended", "version": 9})
    return [
        ada, bela, cleo, bio, replace(bio, about="the same once more", repeated=True), newer, late, active, verified,
        badge, replace(forged, forged=True),
    ]  # fmt: skip


def _created(name: str) -> dict[str, object]:
    profile = {"username": name.lower(), "displayName": name, "bio": None, "verified": False}
    return {"profile": profile, "status": "pending", "version": 1}


def _changed(version: int, **changes: object) -> dict[str, object]:
    return {"changes": changes, "version": version}


def _passed(verification: str) -> dict[str, object]:
    checks = dict.fromkeys(("documentAuthenticity", "faceMatch", "ageCheck"), "passed")
    return {"verificationId": verification, "result": {"status": "passed", "riskScore": 93, "checks": checks}}


# What became of a webhook, as the gateway's event browser shows it.


DEADLINE_SECONDS: Final = 60.0
"""After a `kill -9` Kafka waits for the dead consumers' session to run out before it lets new ones in."""

POLL_SECONDS: Final = 0.05
UNDECIDED: Final = "not decided yet"


async def outcome_of(gateway: ClientSession, webhook: Webhook) -> str:
    """The word for it; waits for the decision up to `DEADLINE_SECONDS`. `gateway` carries the API key."""
    try:
        async with asyncio.timeout(DEADLINE_SECONDS):
            while (outcome := await _outcome(gateway, webhook)) is None:  # noqa: ASYNC110 - another process decides
                await asyncio.sleep(POLL_SECONDS)
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


# Plays the scene: sends each webhook through the simulator, then asks what became of it.


REQUEST_SECONDS: Final = 10.0
REFUSED: Final = "refused"


@dataclass(frozen=True, slots=True)
class DemoResult:
    """A webhook with the answer that it got, such as `200`, and what became of it."""

    webhook: Webhook
    answer: str
    outcome: str


async def send_all(run: RunContext, database: Database, api_key: str) -> list[DemoResult]:
    """The whole scene, in the order in which it was sent."""
    cast = DemoData(utc_now())
    await _ask_for_verification(database, cast)
    async with AsyncExitStack() as stack:
        simulator = await stack.enter_async_context(_session(run.url(SIMULATOR)))
        headers = {CLIENT_HEADER: API_CLIENT, KEY_HEADER: api_key}
        gateway = await stack.enter_async_context(_session(run.url("gateway"), headers))
        sent = [(webhook, await _send(simulator, webhook)) for webhook in demo_webhooks(cast)]
        return [
            DemoResult(webhook, answer, await outcome_of(gateway, webhook) if answer.startswith("2") else REFUSED)
            for webhook, answer in sent
        ]


async def _ask_for_verification(database: Database, cast: DemoData) -> None:
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
    return ClientSession(url, headers=headers, timeout=ClientTimeout(total=REQUEST_SECONDS))


# The table of the opening scene.


_STYLES: Final = {"applied": "green", "duplicate": "cyan", "stale": "yellow", "ignored": "dim"}
_OTHER_STYLE: Final = "red"


def table_of(scene: Sequence[DemoResult]) -> Table:
    """A row for each webhook: what it was, what was answered, what became of it."""
    table = Table(title="The first webhooks, and what became of them", title_justify="left")
    for heading in ("#", "event", "performer", "what it is", "answer", "became"):
        table.add_column(heading, overflow="fold")
    for number, each in enumerate(scene, start=1):
        webhook = each.webhook
        became = Text(each.outcome, style=_STYLES.get(each.outcome, _OTHER_STYLE))
        table.add_row(str(number), webhook.event, webhook.performer, webhook.about, each.answer, became)
    return table
