"""Rate limits of the API (contract, §2): by principal, else by the client's address. All replicas share them."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from math import ceil
from time import time
from typing import Final

from aiohttp import web
from aiohttp.hdrs import X_FORWARDED_FOR

from safevideo_common.errors import RateLimited
from safevideo_common.resilience.rate_limiter import Rate, RateDecision, RateLimiter
from safevideo_common.web.client_address import ClientAddresses

LIMIT_HEADER: Final = "X-RateLimit-Limit"
REMAINING_HEADER: Final = "X-RateLimit-Remaining"
RESET_HEADER: Final = "X-RateLimit-Reset"

_RATE: Final = re.compile(r"([1-9][0-9]{0,6})/([1-9][0-9]{0,5})")


class RateLimitClass(StrEnum):
    """Endpoints that share a limit."""

    AUTHENTICATION = "authentication"
    """Sign-ins, and requests with wrong credentials on any endpoint."""
    KYC_SUBMISSION = "kyc"
    DOCUMENT_UPLOAD = "upload"
    SYNC_START = "sync"
    GENERAL = "general"


@dataclass(frozen=True, slots=True)
class AppliedLimit:
    """The limit that a request was counted for, as its response shows it."""

    requests: int
    decision: RateDecision


APPLIED_LIMIT: Final = web.RequestKey("applied_limit", AppliedLimit)


class RateLimits:
    """The limits of all endpoints. While Redis is unavailable each process limits by itself."""

    def __init__(self, limiter: RateLimiter, rates: Mapping[RateLimitClass, Rate], addresses: ClientAddresses) -> None:
        self._limiter = limiter
        self._rates = rates
        self._addresses = addresses

    async def take_for_principal(self, request: web.Request, limit: RateLimitClass, principal: str) -> None:
        """Count a request of an identified caller. Raises `RateLimited`."""
        await self._take(request, limit, f"principal:{principal}")

    async def take_for_address(self, request: web.Request, limit: RateLimitClass) -> None:
        """Count a request of a caller who is not identified. Raises `RateLimited`."""
        address = self._addresses.of(request.remote, request.headers.getall(X_FORWARDED_FOR, ()))
        await self._take(request, limit, f"address:{address}")

    async def _take(self, request: web.Request, limit: RateLimitClass, caller: str) -> None:
        rate = self._rates[limit]
        decision = await self._limiter.take(f"{limit}:{caller}", rate)
        request[APPLIED_LIMIT] = AppliedLimit(int(rate.burst), decision)
        if not decision.allowed:
            raise RateLimited("Too many requests.", retry_after=max(1, ceil(decision.retry_after)))


async def show_rate_limit(request: web.Request, response: web.StreamResponse) -> None:
    """Add the headers of the contract to a response, whatever its status. A signal of aiohttp."""
    if (applied := request.get(APPLIED_LIMIT)) is not None:
        response.headers[LIMIT_HEADER] = str(applied.requests)
        response.headers[REMAINING_HEADER] = str(applied.decision.remaining)
        response.headers[RESET_HEADER] = str(ceil(time() + applied.decision.reset_after))


def parse_rate(text: str) -> Rate:
    """Return the rate that a setting names: `100/60` is 100 requests in 60 seconds. Raises `ValueError`."""
    if not (match := _RATE.fullmatch(text)):
        raise ValueError("must be requests/seconds, such as 100/60")
    requests, seconds = int(match[1]), int(match[2])
    return Rate(requests, requests / seconds)
