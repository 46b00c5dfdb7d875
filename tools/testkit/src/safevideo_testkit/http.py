"""A service's app behind a real socket, and a client that keeps what it answers."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

from aiohttp import ClientSession, ClientTimeout, web
from yarl import URL

from safevideo_common.service import run_until_failure
from safevideo_common.settings import CommonSettings
from safevideo_common.web.app import SUPERVISOR
from safevideo_testkit.eventually import DEADLINE_SECONDS, eventually

DEADLINE: Final = ClientTimeout(total=DEADLINE_SECONDS)
Json = Any  # a test knows what it asked for; the types of JSON would only be cast away again


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to a request."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Json:
        """The body as JSON."""
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """The code of the error body; asserts that it is one, whole."""
        error = self.json["error"]
        assert self.json["success"] is False
        assert error["message"]
        assert error["requestId"] == self.headers["X-Request-Id"]
        return str(error["code"])


@dataclass(frozen=True, slots=True)
class Api:
    """Speaks to one running app. Paths are sent as they are, so that a test can send wrong ones."""

    base_url: str
    session: ClientSession

    async def get(self, path: str, headers: Mapping[str, str] | None = None) -> Answer:
        """GET `path`, which must be encoded already."""
        return await self.request("GET", path, headers)

    async def post(self, path: str, headers: Mapping[str, str], body: object) -> Answer:
        """POST `body` as JSON."""
        return await self.request("POST", path, headers, json.dumps(body).encode())

    async def request(
        self, method: str, path: str, headers: Mapping[str, str] | None = None, body: bytes | None = None
    ) -> Answer:
        """Send a request and read the whole answer."""
        url = URL(self.base_url + path, encoded=True)
        async with self.session.request(method, url, headers=headers, data=body) as answer:
            return Answer(answer.status, answer.headers, await answer.read())


@asynccontextmanager
async def running(app: web.Application, settings: CommonSettings) -> AsyncIterator[Api]:
    """Serve `app` in this event loop, as its settings say. The death of a background task is raised at the end.

    None is started again, so that a test shows each that fails.
    """
    app[SUPERVISOR].max_failures = 1
    async with run_until_failure(app, settings) as (port, failed), ClientSession(timeout=DEADLINE) as session:
        yield Api(f"http://127.0.0.1:{port}", session)
        if failed.done():
            failed.result()


async def answer_when(ask: Callable[[], Awaitable[Answer]], condition: Callable[[Answer], bool]) -> Answer:
    """Ask until the condition is true of the answer, and return it. Raises `TimeoutError`.

    On a busy machine a check of a healthy dependency may take too long, and Redis is unavailable after 50 ms.
    """
    found: list[Answer] = []

    async def is_so() -> bool:
        found.append(await ask())
        return condition(found[-1])

    await eventually(is_so, poll_seconds=0.1)
    return found[-1]
