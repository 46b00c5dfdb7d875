"""The checks that a call to `/v1` is the integration's: API key, fresh timestamp, signature over the request."""

import hmac
import re
from typing import Final, Never

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from sharegram_simulator.clock import utc_now
from sharegram_simulator.errors import Unauthorized
from sharegram_simulator.signing import call_signature
from sharegram_simulator.web.answers import read_body
from sharegram_simulator.web.calls import SIGNATURE_OK

SIGNED_PREFIX: Final = "/v1/"
UNSIGNED: Final = "/v1/health"
TOLERANCE_SECONDS: Final = 300
TIMESTAMP: Final = re.compile(r"[0-9]{1,12}", re.ASCII)


class Credentials:
    """Checks calls against one API key and one secret key."""

    def __init__(self, api_key: str, secret_key: str) -> None:
        self._api_key = api_key
        self._secret_key = secret_key

    def middleware(self) -> Middleware:
        """Lets through what is signed, and what needs no signature."""

        @web.middleware
        async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
            if request.path.startswith(SIGNED_PREFIX) and request.path != UNSIGNED:
                request[SIGNATURE_OK] = False
                self.check(request, await read_body(request))
                request[SIGNATURE_OK] = True
            return await handler(request)

        return check

    def check(self, request: web.Request, body: bytes) -> None:
        """Raise `Unauthorized` unless the call is the integration's."""
        if not _same(request.headers.get("X-Sharegram-API-Key", ""), self._api_key):
            _refuse("api_key")
        timestamp = request.headers.get("X-Sharegram-Timestamp", "")
        if not TIMESTAMP.fullmatch(timestamp):
            _refuse("timestamp_malformed")
        if abs(int(timestamp) - utc_now().timestamp()) > TOLERANCE_SECONDS:
            _refuse("timestamp_out_of_tolerance")
        expected = call_signature(request.method, request.rel_url.raw_path, timestamp, body, self._secret_key)
        if not _same(request.headers.get("X-Sharegram-Signature", ""), expected):
            _refuse("signature")


def _same(given: str, expected: str) -> bool:
    return hmac.compare_digest(given.encode(errors="surrogateescape"), expected.encode())


def _refuse(reason: str) -> Never:
    raise Unauthorized("The call is not signed as it must be.", details={"reason": reason})
