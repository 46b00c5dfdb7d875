"""`GET /api/integration/health`: without an API key, and without the success envelope (contract, §6)."""

from collections.abc import Sequence
from typing import Final, TypedDict

from aiohttp import web

from gateway.health.checks import CachedHealthCheck, CheckStatus, HealthReport, Overall
from gateway.http.endpoint import PUBLIC, Endpoint, Returns, Shape
from safevideo_common.clock import TimestampText, rfc3339
from safevideo_common.web.responses import json_response


class CheckDocument(TypedDict):
    """The status of one component. `responseTime` is in milliseconds, `age` in seconds since the check ran."""

    status: CheckStatus
    message: str
    responseTime: float
    age: float


class HealthDocument(TypedDict):
    """The health of the whole integration. `timestamp` is the start of the checks."""

    timestamp: TimestampText
    status: Overall
    checks: dict[str, CheckDocument]


_DEGRADED: Final[HealthDocument] = {
    "timestamp": "2026-11-24T20:58:25.123Z",
    "status": Overall.DEGRADED,
    "checks": {
        "database": {"status": CheckStatus.HEALTHY, "message": "answers", "responseTime": 1.2, "age": 0.0},
        "redis": {
            "status": CheckStatus.UNHEALTHY,
            "message": "no answer within 2 s",
            "responseTime": 2000.0,
            "age": 0.0,
        },
    },
}


class HealthApi:
    """The health endpoint. It is public, so its checks run at most once per second."""

    def __init__(self, checks: CachedHealthCheck) -> None:
        self._checks = checks

    def endpoints(self) -> Sequence[Endpoint]:
        """Return the declaration."""
        health = Returns(HealthDocument, _DEGRADED, shape=Shape.BARE, other_statuses=(503,))
        return [Endpoint("GET", "/api/integration/health", self.show, PUBLIC, health, rate_limit=None)]

    async def show(self, _request: web.Request) -> web.Response:
        """Return the health of the whole integration: 200, or 503 if it is unhealthy."""
        report = await self._checks.latest()
        return json_response(health_document(report), status=503 if report.status is Overall.UNHEALTHY else 200)


def health_document(report: HealthReport) -> HealthDocument:
    """Return the JSON document."""
    checks: dict[str, CheckDocument] = {
        each.name: {
            "status": each.result.status,
            "message": each.result.message,
            "responseTime": round(each.milliseconds, 1),
            "age": round(each.result.age, 1),
        }
        for each in report.results
    }
    return {"timestamp": rfc3339(report.started_at), "status": report.status, "checks": checks}
