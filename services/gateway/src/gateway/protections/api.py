"""`/api/v1/admin/breakers`, `/api/v1/admin/integration/fallback` and `/api/v1/admin/flags`."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated, Final, Literal, TypedDict

import msgspec
from aiohttp import web
from pydantic import Field

from gateway.http.body import Body, parse_body
from gateway.http.caller import caller_of
from gateway.http.endpoint import ADMIN_PATH, ADMINS, READERS, Endpoint, Returns, Shape
from gateway.http.sentence import Sentence
from safevideo_common.audit.store import Caller
from safevideo_common.clock import TimestampText, format_timestamp, rfc3339
from safevideo_common.errors import ServiceUnavailable
from safevideo_common.protections.service import (
    MAX_SECONDS,
    BreakerNotFound,
    FlagNotFound,
    FlagService,
    ProtectionService,
)
from safevideo_common.protections.store import SHAREGRAM, Action, Override, breaker_key
from safevideo_common.resilience.breaker.breaker import BreakerState, state_of
from safevideo_common.resilience.breaker.state import BreakerSnapshot
from safevideo_common.resilience.feature_flags import FlagValue
from safevideo_common.web.responses import success

DEFAULT_SECONDS: Final = 3600
NAME: Final = Annotated[str, msgspec.Meta(pattern=r"^[a-z_]{1,64}$")]


class BreakerBody(Body):
    """Why, and for how long a breaker stays open."""

    reason: Sentence = "by API"
    duration: int = Field(DEFAULT_SECONDS, ge=1, le=MAX_SECONDS, description="Seconds; only of `open`.")


class FallbackBody(Body):
    """The switch of fallback mode."""

    provider: Literal["sharegram"]
    enable: bool
    duration: int = Field(DEFAULT_SECONDS, ge=1, le=MAX_SECONDS, description="Seconds until it ends by itself.")
    reason: Sentence = "by API"


class FlagBody(Body):
    """The new value of a flag."""

    enabled: bool
    duration: int | None = Field(None, ge=1, le=MAX_SECONDS, description="Seconds until the default holds again.")


class BreakerDocument(TypedDict):
    """A breaker. Its numbers are null while Redis is unavailable: then each process has a state of its own."""

    name: str
    state: BreakerState | None
    retryAfter: int | None
    failures: int | None
    successes: int | None
    probes: int | None
    processes: int | None
    forcedUntil: TimestampText | None
    lastAction: Action | None
    actor: str | None
    reason: str | None
    changedAt: TimestampText | None


class FallbackDocument(TypedDict):
    """Fallback mode of a provider."""

    provider: str
    enabled: bool
    startedAt: TimestampText
    until: TimestampText | None


class FlagDocument(TypedDict):
    """A feature flag."""

    name: str
    enabled: bool
    isDefault: bool
    expiresInSeconds: int | None


_BREAKER: Final[BreakerDocument] = {
    "name": "sharegram",
    "state": BreakerState.OPEN,
    "retryAfter": 271,
    "failures": 0,
    "successes": 0,
    "probes": 0,
    "processes": 4,
    "forcedUntil": None,
    "lastAction": None,
    "actor": None,
    "reason": None,
    "changedAt": None,
}
_FALLBACK: Final[FallbackDocument] = {
    "provider": "sharegram",
    "enabled": True,
    "startedAt": "2026-11-24T20:58:25.123Z",
    "until": "2026-11-24T21:58:25.123Z",
}
_FLAG: Final[FlagDocument] = {"name": "kyc", "enabled": False, "isDefault": False, "expiresInSeconds": 3600}


class BreakersApi:
    """The endpoints of circuit breakers."""

    def __init__(self, service: ProtectionService) -> None:
        self._service = service

    def endpoints(self) -> Sequence[Endpoint]:
        """Return the declarations."""
        path = f"{ADMIN_PATH}/breakers"
        one = Returns(BreakerDocument, _BREAKER)
        example = {"reason": "maintenance at Sharegram", "duration": 3600}
        changes = [
            Endpoint(
                "POST", f"{path}/{{name}}/{action}", handler, ADMINS, one, (BreakerNotFound,),
                body=BreakerBody, body_example=example, path_types={"name": NAME},
            )
            for action, handler in (("open", self.open), ("close", self.close), ("reset", self.reset))
        ]  # fmt: skip
        return [
            Endpoint("GET", path, self.list, READERS, Returns(BreakerDocument, _BREAKER, shape=Shape.LIST)),
            *changes,
        ]

    async def list(self, _request: web.Request) -> web.Response:
        """Return all breakers with the last decision of an operator."""
        return success(await self._documents())

    async def open(self, request: web.Request) -> web.Response:
        """Reject all calls until the duration is over, whatever Sharegram does. Raises `BreakerNotFound`."""
        body = await parse_body(BreakerBody, request)
        return await self._changed(
            request, lambda name, caller: self._service.open(name, body.duration, body.reason, caller)
        )

    async def close(self, request: web.Request) -> web.Response:
        """Close a breaker now; from then on it is automatic. Raises `BreakerNotFound`."""
        body = await parse_body(BreakerBody, request)
        return await self._changed(request, lambda name, caller: self._service.close(name, body.reason, caller))

    async def reset(self, request: web.Request) -> web.Response:
        """Forget the counts of a breaker, and end what an operator decided. Raises `BreakerNotFound`."""
        body = await parse_body(BreakerBody, request)
        return await self._changed(request, lambda name, caller: self._service.reset(name, body.reason, caller))

    async def _changed(
        self, request: web.Request, change: Callable[[str, Caller], Awaitable[Override]]
    ) -> web.Response:
        name = request.match_info["name"]
        await change(name, caller_of(request))
        return success(next(each for each in await self._documents() if each["name"] == name))

    async def _documents(self) -> Sequence[BreakerDocument]:
        decisions, snapshots = await self._service.decisions(), await self._service.read()
        return [
            breaker_document(name, snapshot, decisions.get(breaker_key(name))) for name, snapshot in snapshots.items()
        ]


def breaker_document(name: str, snapshot: BreakerSnapshot | None, last: Override | None) -> BreakerDocument:
    """Return the JSON document of a breaker."""
    forced = last is not None and last.action is Action.OPEN and last.seconds_left > 0
    state = BreakerState.OPEN if forced else None if snapshot is None else state_of(snapshot)
    waits = [last.seconds_left if last is not None and forced else 0.0, (snapshot and snapshot.open_seconds) or 0.0]
    return {
        "name": name,
        "state": state,
        "retryAfter": None if state is None else min(300, int(max(waits) + 0.999)),
        "failures": snapshot and snapshot.failures,
        "successes": snapshot and snapshot.successes,
        "probes": snapshot and snapshot.probes,
        "processes": snapshot and snapshot.processes,
        "forcedUntil": format_timestamp(last.ends_at) if last is not None and forced else None,
        "lastAction": last.action if last is not None else None,
        "actor": last.actor if last is not None else None,
        "reason": last.reason if last is not None else None,
        "changedAt": rfc3339(last.changed_at) if last is not None else None,
    }


class FallbackApi:
    """The endpoint of fallback mode."""

    def __init__(self, service: ProtectionService) -> None:
        self._service = service

    def endpoints(self) -> Sequence[Endpoint]:
        """Return the declaration."""
        example = {"provider": SHAREGRAM, "enable": True, "duration": 3600}
        returns = Returns(FallbackDocument, _FALLBACK)
        path = f"{ADMIN_PATH}/integration/fallback"
        return [Endpoint("POST", path, self.switch, ADMINS, returns, body=FallbackBody, body_example=example)]

    async def switch(self, request: web.Request) -> web.Response:
        """Switch fallback mode on, which also changes its end, or off. While it is on no call goes out to Sharegram."""
        body = await parse_body(FallbackBody, request)
        decided = await self._service.switch_fallback(
            body.provider, enable=body.enable, seconds=body.duration, reason=body.reason, caller=caller_of(request)
        )
        return success(fallback_document(body.provider, decided))


def fallback_document(provider: str, decided: Override) -> FallbackDocument:
    """Return the JSON document of fallback mode."""
    return {
        "provider": provider,
        "enabled": decided.action is Action.ON and decided.seconds_left > 0,
        "startedAt": rfc3339(decided.started_at),
        "until": format_timestamp(decided.ends_at),
    }


class FlagsApi:
    """The endpoints of feature flags."""

    def __init__(self, service: FlagService) -> None:
        self._service = service

    def endpoints(self) -> Sequence[Endpoint]:
        """Return the declarations."""
        path, one = f"{ADMIN_PATH}/flags", Returns(FlagDocument, _FLAG)
        errors = (FlagNotFound, ServiceUnavailable)
        name = {"name": NAME}
        return [
            Endpoint("GET", path, self.list, READERS, Returns(FlagDocument, _FLAG, shape=Shape.LIST), errors[1:]),
            Endpoint("GET", f"{path}/{{name}}", self.show, READERS, one, errors, path_types=name),
            Endpoint(
                "PUT", f"{path}/{{name}}", self.put, ADMINS, one, errors,
                body=FlagBody, body_example={"enabled": False, "duration": 3600}, path_types=name,
            ),
        ]  # fmt: skip

    async def list(self, _request: web.Request) -> web.Response:
        """Return all flags. Raises `ServiceUnavailable` without Redis."""
        return success([flag_document(name, value) for name, value in (await self._service.list()).items()])

    async def show(self, request: web.Request) -> web.Response:
        """Return one flag. Raises `FlagNotFound`, `ServiceUnavailable`."""
        name = request.match_info["name"]
        return success(flag_document(name, await self._service.get(name)))

    async def put(self, request: web.Request) -> web.Response:
        """Set a flag; every process has the value within a second. Raises `FlagNotFound`, `ServiceUnavailable`."""
        name, body = request.match_info["name"], await parse_body(FlagBody, request)
        value = await self._service.set(name, enabled=body.enabled, seconds=body.duration, caller=caller_of(request))
        return success(flag_document(name, value))


def flag_document(name: str, value: FlagValue) -> FlagDocument:
    """Return the JSON document of a flag."""
    seconds = None if value.seconds_left is None else int(value.seconds_left)
    return {"name": name, "enabled": value.enabled, "isDefault": value.is_default, "expiresInSeconds": seconds}
