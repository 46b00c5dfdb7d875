"""The record of calls that the simulator received, its own steering aside."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from sharegram_simulator.clock import rfc3339, utc_now
from sharegram_simulator.errors import Dropped

STEERING_PREFIX: Final = "/_sim/"
SHOWN: Final = 255
"""Characters of a path or header that are kept: the callers choose them, and thousands of calls are remembered."""
SIGNATURE_OK: Final = web.RequestKey("signature_ok", bool)
"""Set by the check of credentials; absent where no signature is asked for."""


@dataclass(frozen=True, slots=True)
class Call:
    """A call. A status of None means that it got no answer: the connection was dropped."""

    method: str
    path: str
    status: int | None
    at: datetime
    signature_ok: bool | None
    request_id: str | None
    integration_id: str | None
    idempotency_key: str | None

    def as_json(self) -> dict[str, object]:
        """Return the JSON that the state shows."""
        return {
            "method": self.method,
            "path": self.path,
            "status": self.status,
            "at": rfc3339(self.at),
            "signatureOk": self.signature_ok,
            "requestId": self.request_id,
            "integrationId": self.integration_id,
            "idempotencyKey": self.idempotency_key,
        }


class CallLog:
    """The newest calls."""

    def __init__(self, limit: int) -> None:
        self._calls: deque[Call] = deque(maxlen=limit)
        self.under_way = 0
        """Calls that have begun and not ended: those that hang, mostly."""

    def all(self) -> Sequence[Call]:
        """Return the calls in the order in which they ended."""
        return tuple(self._calls)

    def middleware(self) -> Middleware:
        """Records every call that is not steering."""

        @web.middleware
        async def record(request: web.Request, handler: Handler) -> web.StreamResponse:
            if is_steering(request):
                return await handler(request)
            at, status = utc_now(), None
            self.under_way += 1
            try:
                response = await handler(request)
            except Dropped:
                return web.Response()  # It reaches nobody; an exception would be logged as a bug of the simulator.
            else:
                status = response.status
                return response
            finally:
                self.under_way -= 1
                self._calls.append(_call(request, status, at))

        return record


def _call(request: web.Request, status: int | None, at: datetime) -> Call:
    return Call(
        method=request.method,
        path=request.path[:SHOWN],
        status=status,
        at=at,
        signature_ok=request.get(SIGNATURE_OK),
        request_id=_header(request, "X-Request-Id"),
        integration_id=_header(request, "X-Sharegram-Integration-ID"),
        idempotency_key=_header(request, "Idempotency-Key"),
    )


def _header(request: web.Request, name: str) -> str | None:
    value = request.headers.get(name)
    return None if value is None else value[:SHOWN]


def is_steering(request: web.Request) -> bool:
    """Return True if the request steers the simulator instead of using it."""
    return request.path.startswith(STEERING_PREFIX)
