"""A write that comes again under its `Idempotency-Key` gets the first answer again, and has no second effect."""

from collections import OrderedDict
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from sharegram_simulator.errors import IdempotencyKeyReused, Invalid
from sharegram_simulator.web.answers import read_body

HEADER: Final = "Idempotency-Key"
KEPT: Final = 10_000
KEY_LIMIT: Final = 255


@dataclass(frozen=True, slots=True)
class Remembered:
    """An answer and the request that it was given to."""

    request: bytes
    status: int
    body: bytes


class Idempotency:
    """The newest answers to writes. Refusals are not kept: what failed may be tried again under its key."""

    def __init__(self) -> None:
        self._answers: OrderedDict[str, Remembered] = OrderedDict()

    def middleware(self) -> Middleware:
        """Answers again what was answered before."""

        @web.middleware
        async def remember(request: web.Request, handler: Handler) -> web.StreamResponse:
            key = _key_of(request)
            if key is None:
                return await handler(request)
            fingerprint = await _fingerprint(request)
            if key in self._answers:
                return _again(self._answers[key], fingerprint)
            response = await handler(request)
            self._keep(key, fingerprint, response)
            return response

        return remember

    def _keep(self, key: str, fingerprint: bytes, response: web.StreamResponse) -> None:
        if isinstance(response, web.Response) and isinstance(response.body, bytes):
            self._answers[key] = Remembered(fingerprint, response.status, response.body)
        if len(self._answers) > KEPT:
            self._answers.popitem(last=False)


def _key_of(request: web.Request) -> str | None:
    if request.method != "POST" or not request.path.startswith("/v1/"):
        return None
    key = request.headers.get(HEADER)
    if key is not None and not 0 < len(key) <= KEY_LIMIT:
        raise Invalid("The idempotency key is not valid.", details={HEADER: f"1 to {KEY_LIMIT} characters"})
    return key


def _again(known: Remembered, fingerprint: bytes) -> web.Response:
    if known.request != fingerprint:
        raise IdempotencyKeyReused("This idempotency key stands for another request.")
    return web.Response(body=known.body, status=known.status, content_type="application/json")


async def _fingerprint(request: web.Request) -> bytes:
    return sha256(request.path.encode() + b"\n" + await read_body(request)).digest()
