"""Steers a simulator from Python: over HTTP, whether it runs in this process or in another."""

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from io import BytesIO
from time import monotonic
from typing import Any, Final

from aiohttp import ClientSession, ClientTimeout

from sharegram_simulator.clock import rfc3339
from sharegram_simulator.outgoing import Forgery
from sharegram_simulator.signing import SchemeName
from sharegram_simulator.webhooks import Event

REQUEST_SECONDS: Final = 30.0
"""For one call, the webhooks that it sends and waits for included."""
STATE_SECONDS: Final = 120.0
POLL_SECONDS: Final = 0.01

Json = Any  # Who steers knows what was asked for; the types of JSON would only be cast away again.


@dataclass(frozen=True, slots=True)
class Answer:
    """A response: the status, the headers, the body, and its JSON if it has any."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Json:
        """The body as JSON."""
        return json.loads(self.body)


class SteeringFailed(Exception):
    """The simulator refused an order; the message is its answer."""


@dataclass(frozen=True, slots=True)
class SimulatorClient:
    """Speaks to one simulator. Whoever gives the session closes it."""

    base_url: str
    session: ClientSession

    async def request(
        self,
        method: str,
        path: str,
        *,
        body: object = None,
        data: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Send JSON (`body`) or bytes (`data`) and read the whole answer; redirects are not followed.

        Raises `ClientError`, and `TimeoutError` after 30 s.
        """
        sent = json.dumps(body).encode() if body is not None else data
        async with self.session.request(
            method,
            self.base_url + path,
            data=None if sent is None else BytesIO(sent),  # aiohttp warns of large plain bytes
            headers=headers,
            allow_redirects=False,
            timeout=ClientTimeout(total=REQUEST_SECONDS),
        ) as response:
            return Answer(response.status, response.headers, await response.read())

    async def get(self, path: str) -> Json:
        """The JSON of a GET. Raises `SteeringFailed` when it was refused, and what `request` raises."""
        return _accepted(await self.request("GET", path))

    async def post(self, path: str, body: object) -> Json:
        """The JSON that a POST of JSON is answered with. Raises as `get` does."""
        return _accepted(await self.request("POST", path, body=body))

    async def put(self, path: str, body: object) -> Json:
        """The JSON that a PUT of JSON is answered with. Raises as `get` does."""
        return _accepted(await self.request("PUT", path, body=body))

    async def send(
        self, event: Event, *, scheme: SchemeName = "sharegram", forge: Forgery | None = None, times: int = 1
    ) -> list[Json]:
        """Send a webhook at once, `times` times, without retries: `{at, status, answer, error?}` for each.

        `status` is None, and `error` says why, where the receiver did not answer. Raises as `get` does.
        """
        told = {"event": event.type, "data": event.data, "timestamp": rfc3339(event.at), "id": event.id}
        how = {"scheme": scheme, "forge": forge or False, "times": times}
        answers: list[Json] = (await self.post("/_sim/webhooks", told | how))["answers"]
        return answers

    async def state(self) -> Json:
        """Everything that the simulator knows: `GET /_sim/state`."""
        return await self.get("/_sim/state")

    async def state_when(self, condition: Callable[[Json], bool], seconds: float = STATE_SECONDS) -> Json:
        """The state as soon as it is as wanted. Raises `TimeoutError` when it is not within `seconds`."""
        async with asyncio.timeout(seconds):
            while True:
                asked = monotonic()
                state = await self.state()
                if condition(state):
                    return state
                # A large state costs: asking takes at most a fifth of the time, what is waited for gets the rest.
                await asyncio.sleep(max(POLL_SECONDS, 4 * (monotonic() - asked)))


def _accepted(answer: Answer) -> Json:
    if answer.status >= 300:
        raise SteeringFailed(f"{answer.status} {answer.body.decode(errors='replace')}")
    return answer.json
