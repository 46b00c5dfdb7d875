"""For tests: a simulator on a free port, a receiver that answers as it is told, and a caller that signs well."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

from aiohttp import ClientSession, web
from aiohttp.test_utils import TestServer

from sharegram_simulator.client import Answer, Json, SimulatorClient
from sharegram_simulator.clock import utc_now
from sharegram_simulator.serving import serving
from sharegram_simulator.settings import SimulatorSettings
from sharegram_simulator.signing import sign_call

DEADLINE_SECONDS: Final = 120.0


@asynccontextmanager
async def running_simulator(settings: SimulatorSettings) -> AsyncIterator[SimulatorClient]:
    """A simulator in this event loop, and who steers it. A port of 0 in the settings takes a free one."""
    async with serving(settings) as base_url, ClientSession() as session:
        yield SimulatorClient(base_url, session)


@dataclass(frozen=True, slots=True)
class Received:
    """A webhook as received."""

    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Json:
        """Return the body as JSON."""
        return json.loads(self.body)


Script = Callable[[Received], Awaitable[int]]


@dataclass(slots=True)
class ScriptedReceiver:
    """Takes webhooks and answers each with the status that `script` gives; 200 unless told otherwise."""

    script: Script | None = None
    url: str = ""
    received: list[Received] = field(default_factory=list)
    _arrived: asyncio.Condition = field(default_factory=asyncio.Condition)

    @asynccontextmanager
    async def running(self) -> AsyncIterator["ScriptedReceiver"]:
        """Take webhooks at `url`."""
        app = web.Application(client_max_size=16 << 20)
        app.router.add_post("/hook", self._take)
        async with TestServer(app, shutdown_timeout=1) as server:
            self.url = str(server.make_url("/hook"))
            yield self

    async def first(self, count: int) -> list[Received]:
        """The first `count` webhooks, once they are there. Raises `TimeoutError`."""
        async with asyncio.timeout(DEADLINE_SECONDS), self._arrived:
            await self._arrived.wait_for(lambda: len(self.received) >= count)
        return self.received[:count]

    async def _take(self, request: web.Request) -> web.Response:
        webhook = Received(request.headers, await request.read())
        async with self._arrived:
            self.received.append(webhook)
            self._arrived.notify_all()
        status = 200 if self.script is None else await self.script(webhook)
        return web.json_response({"success": status < 300, "webhookId": f"id-{len(self.received)}"}, status=status)


def all_webhooks_are(state: str) -> Callable[[Json], bool]:
    """For `SimulatorClient.state_when`: there are webhooks, each `delivered`, `failed`, `retrying` or `queued`."""
    return lambda known: bool(known["webhooks"]) and {webhook["state"] for webhook in known["webhooks"]} == {state}


@dataclass(frozen=True, slots=True)
class PartnerCaller:
    """Calls `/v1` as the integration does, signed with these keys."""

    simulator: SimulatorClient
    api_key: str
    secret_key: str

    async def call(
        self, method: str, path: str, body: object = None, headers: Mapping[str, str | None] | None = None
    ) -> Answer:
        """Send JSON (bytes as they are). `headers` are set last; None takes one away."""
        data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        signed = sign_call(method, path.partition("?")[0], data, self.secret_key, utc_now())
        sent = {"X-Sharegram-API-Key": self.api_key, **signed, **(headers or {})}
        given = {name: value for name, value in sent.items() if value is not None}
        return await self.simulator.request(method, path, data=data, headers=given)
