"""Makes one try: posts a request to the receiver and notes what came back."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from io import BytesIO
from typing import Final

import orjson
from aiohttp import ClientError, ClientResponse, ClientSession, ClientTimeout, TCPConnector

from sharegram_simulator.clock import utc_now
from sharegram_simulator.delivery import Try
from sharegram_simulator.outgoing import Outgoing

ANSWER_LIMIT: Final = 4096
"""Bytes of an answer that are kept: the record of ten thousand webhooks has to fit in memory."""


class Sender:
    """Posts webhooks. Usable within `connected()`."""

    _session: ClientSession

    def __init__(self, timeout_seconds: float, connections: int) -> None:
        self._timeout_seconds = timeout_seconds
        self._connections = connections

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[None]:
        """Hold the connections to the receiver."""
        connector = TCPConnector(limit=self._connections)
        timeout = ClientTimeout(total=self._timeout_seconds)
        async with ClientSession(connector=connector, timeout=timeout) as self._session:
            yield

    async def post(self, url: str, outgoing: Outgoing) -> Try:
        """Send once. Whatever goes wrong is the outcome of the try, not an exception."""
        at = utc_now()
        body = BytesIO(outgoing.body)  # Plain bytes of more than 1 MiB make aiohttp warn.
        try:
            async with self._session.post(url, data=body, headers=outgoing.headers, allow_redirects=False) as response:
                return Try(at, status=response.status, answer=await _answer_of(response))
        except TimeoutError:
            return Try(at, error=f"no answer within {self._timeout_seconds:g} s")
        except (ClientError, OSError, ValueError) as error:
            return Try(at, error=f"{type(error).__name__}: {error}")


async def _answer_of(response: ClientResponse) -> object:
    kept = b""
    while len(kept) < ANSWER_LIMIT and (chunk := await response.content.read(ANSWER_LIMIT - len(kept))):
        kept += chunk
    try:
        answer: object = orjson.loads(kept)
    except orjson.JSONDecodeError:
        return kept.decode(errors="replace")
    return answer
