"""The demo at the start of a run: ten webhooks and a forged one, about three performers, and sign-ins."""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from secrets import token_hex
from typing import Any, Final

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
from safevideo_devstack.run.setup import STAFF_ROLES, email_of

PROFILE: Final = "performer.profile.updated"
STATUS: Final = "performer.status.changed"
VERIFIED: Final = "kyc.verification.completed"
UNKNOWN: Final = "performer.badge.awarded"

PERSON: Final = "sg_make_run"
"""The performer who signs in."""

PEOPLE: Final[Mapping[str, str]] = {PERSON: "Performer", **{f"sg_{role}": role.capitalize() for role in STAFF_ROLES}}
"""Everybody who can sign in with the stand-in Sharegram from the start, with the name that its page shows."""

REQUEST_SECONDS: Final = 10.0
OUTCOME_SECONDS: Final = 60.0
"""After a `kill -9` Kafka waits for the dead consumers' session to end before it lets new ones in."""

POLL_SECONDS: Final = 0.2
UNDECIDED: Final = "not decided yet"
REFUSED: Final = "refused"

_STYLES: Final = {"applied": "green", "duplicate": "cyan", "stale": "yellow", "ignored": "dim"}
_OTHER_STYLE: Final = "red"


@dataclass(frozen=True, slots=True)
class DemoWebhook:
    """A webhook of the demo. `about` says in words what it shows."""

    about: str
    event: str
    performer: str
    data: Mapping[str, object]
    at: datetime
    id: str
    repeated: bool = False
    """True when the same event was sent before."""
    forged: bool = False

    def order(self) -> dict[str, object]:
        """Return the body of `POST /_sim/webhooks`."""
        data = {"performerId": self.performer, **self.data}
        return {
            "id": self.id, "event": self.event, "timestamp": self.at.isoformat(), "data": data, "forge": self.forged,
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class DemoData:
    """New performers for each demo, so that it can run again on the same database."""

    began: datetime
    tag: str = field(default_factory=lambda: token_hex(3))

    def performer(self, name: str) -> str:
        """Return Sharegram's id of a performer of this demo."""
        return f"sg_{name}_{self.tag}"

    @property
    def verification(self) -> str:
        """The id of the verification that ends well."""
        return f"ver_{self.tag}"

    def webhook(self, about: str, event: str, name: str, number: int, data: Mapping[str, object]) -> DemoWebhook:
        """Return a webhook. `number` is the event's position in the provider's order, whenever it is sent."""
        at = self.began + timedelta(milliseconds=number)
        return DemoWebhook(about, event, self.performer(name), data, at, f"evt_{self.tag}_{number}")


@dataclass(frozen=True, slots=True)
class DemoResult:
    """A webhook with the answer to it, such as `200`, and its outcome."""

    webhook: DemoWebhook
    answer: str
    outcome: str


def demo_webhooks(demo: DemoData) -> list[DemoWebhook]:
    """Return all webhooks in the order in which they are sent."""
    ada = demo.webhook("a new performer", PROFILE, "ada", 1, _created("Ada"))
    bela = demo.webhook("a new performer", PROFILE, "bela", 2, _created("Bela"))
    cleo = demo.webhook("a new performer", PROFILE, "cleo", 3, _created("Cleo"))
    bio = demo.webhook("a patch of one field", PROFILE, "ada", 4, _changed(2, bio="Dances."))
    late = demo.webhook("late: an older patch", PROFILE, "bela", 5, _changed(2, displayName="Bela B."))
    newer = demo.webhook("a newer patch", PROFILE, "bela", 6, _changed(3, displayName="Bela Bright"))
    active = demo.webhook("a change of status", STATUS, "cleo", 7, {"status": "active", "version": 2})
    verified = demo.webhook("identity verified", VERIFIED, "ada", 8, _passed(demo.verification))
    badge = demo.webhook("an unknown type", UNKNOWN, "cleo", 9, {"badge": "gold"})
    forged = demo.webhook("forged", STATUS, "bela", 10, {"status": "suspended", "version": 9})
    return [
        ada, bela, cleo, bio, replace(bio, about="the same once more", repeated=True), newer, late, active, verified,
        badge, replace(forged, forged=True),
    ]  # fmt: skip


async def send_all(run: RunContext, database: Database, api_key: str) -> list[DemoResult]:
    """Send all webhooks through the simulator, then look up their outcomes. Results are in the order of sending."""
    demo = DemoData(utc_now())
    await _insert_verification_request(database, demo)
    async with AsyncExitStack() as stack:
        simulator = await stack.enter_async_context(_session(run.url(SIMULATOR)))
        headers = {CLIENT_HEADER: API_CLIENT, KEY_HEADER: api_key}
        gateway = await stack.enter_async_context(_session(run.url("gateway"), headers))
        answers = [(webhook, await _send(simulator, webhook)) for webhook in demo_webhooks(demo)]
        return [
            DemoResult(webhook, answer, await _find_outcome(gateway, webhook) if answer.startswith("2") else REFUSED)
            for webhook, answer in answers
        ]


async def sign_in_everybody(run: RunContext) -> str:
    """Make the people of the demo at the simulator, sign each in, and return sentences about it.

    Each run signs the same people in. The performer is the first. Raises `ClientError` or `TimeoutError`.
    """
    async with _session(run.url(SIMULATOR)) as simulator, _session(run.url("gateway")) as gateway:
        for performer_id, name in PEOPLE.items():
            await _make_person(simulator, performer_id, name)
        signed_in = {each: await _sign_in(simulator, gateway, each) for each in PEOPLE}
        headers = {"Authorization": f"Bearer {signed_in[PERSON]['token']}"}
        async with gateway.get("/api/v1/performers/1", headers=headers) as response:
            status = response.status
    user = signed_in[PERSON]["user"]
    others = ", ".join(f"{each} as {signed_in[each]['user']['role']}" for each in PEOPLE if each != PERSON)
    return (
        f"A performer signed in with the stand-in Sharegram: user {user['id']}, role {user['role']}. "
        f"With the access token, the API answered {status}.\nSo did {others}.\n"
    )


async def _make_person(simulator: ClientSession, performer_id: str, name: str) -> None:
    profile = {"username": performer_id, "displayName": name, "email": email_of(performer_id)}
    order = {"performerId": performer_id, "profile": profile, "silent": True}
    async with simulator.post("/_sim/performers", json=order) as response:
        response.raise_for_status()


async def _sign_in(simulator: ClientSession, gateway: ClientSession, performer_id: str) -> Any:
    order = {"sub": performer_id, "email": email_of(performer_id)}
    async with simulator.post("/_sim/tokens", json=order) as response:
        response.raise_for_status()
        headers = {"Authorization": f"Bearer {(await response.json())['token']}", "X-SSO-Provider": "sharegram"}
    async with gateway.post("/auth/sso/unified-login", headers=headers) as response:
        response.raise_for_status()
        return (await response.json())["data"]


def results_table(results: Sequence[DemoResult]) -> Table:
    """Return a row for each webhook: its content, the answer, and the outcome."""
    table = Table(title="The first webhooks and their outcomes", title_justify="left")
    for heading in ("#", "event", "performer", "what it is", "answer", "outcome"):
        table.add_column(heading, overflow="fold")
    for number, result in enumerate(results, start=1):
        webhook = result.webhook
        outcome = Text(result.outcome, style=_STYLES.get(result.outcome, _OTHER_STYLE))
        table.add_row(str(number), webhook.event, webhook.performer, webhook.about, result.answer, outcome)
    return table


def _created(name: str) -> dict[str, object]:
    profile = {"username": name.lower(), "displayName": name, "bio": None, "verified": False}
    return {"profile": profile, "status": "pending", "version": 1}


def _changed(version: int, **changes: object) -> dict[str, object]:
    return {"changes": changes, "version": version}


def _passed(verification: str) -> dict[str, object]:
    checks = dict.fromkeys(("documentAuthenticity", "faceMatch", "ageCheck"), "passed")
    return {"verificationId": verification, "result": {"status": "passed", "riskScore": 93, "checks": checks}}


async def _insert_verification_request(database: Database, demo: DemoData) -> None:
    """Insert the request that a performer makes when she sends her documents: a result without one would wait."""
    async with database.transaction() as tx:
        await insert_request(tx, demo.performer("ada"), demo.verification, KycStatus.IN_PROGRESS, demo.began)


async def _send(simulator: ClientSession, webhook: DemoWebhook) -> str:
    async with simulator.post("/_sim/webhooks", json=webhook.order()) as response:
        response.raise_for_status()
        (attempt,) = (await response.json())["answers"]
    if attempt["status"] is None:
        return str(attempt.get("error"))
    code = (attempt["answer"].get("error") or {}).get("code") if isinstance(attempt["answer"], dict) else None
    return f"{attempt['status']} {code}" if code else str(attempt["status"])


async def _find_outcome(gateway: ClientSession, webhook: DemoWebhook) -> str:
    try:
        async with asyncio.timeout(OUTCOME_SECONDS):
            while (outcome := await _outcome(gateway, webhook)) is None:  # noqa: ASYNC110 - another process decides
                await asyncio.sleep(POLL_SECONDS)
            return outcome
    except TimeoutError:
        return UNDECIDED


async def _outcome(gateway: ClientSession, webhook: DemoWebhook) -> str | None:
    async with gateway.get(f"/api/v1/admin/events/{webhook.id}") as response:
        if response.status in {404, 429}:  # not yet processed, or polled too often on a slow machine
            return None
        response.raise_for_status()
        event = (await response.json())["data"]
    if webhook.repeated:
        return "duplicate" if event["duplicates"] else None
    shows_reason = event["reason"] and event["status"] != "stale"  # the table says why already
    return f"{event['status']} ({event['reason']})" if shows_reason else str(event["status"])


def _session(url: str, headers: Mapping[str, str] | None = None) -> ClientSession:
    return ClientSession(url, headers=headers, timeout=ClientTimeout(total=REQUEST_SECONDS))
