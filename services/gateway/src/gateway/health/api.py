"""`GET /api/integration/health`: without an API key, and without the success envelope (contract, §6)."""

from aiohttp import web

from gateway.health.checks import CachedHealthCheck, HealthReport, Overall
from safevideo_common.clock import rfc3339
from safevideo_common.web.responses import json_response


class HealthApi:
    """The health endpoint. It is public, so its checks run at most once per second."""

    def __init__(self, checks: CachedHealthCheck) -> None:
        self._checks = checks

    async def show(self, _request: web.Request) -> web.Response:
        """Return 200, or 503 if the whole is unhealthy."""
        report = await self._checks.latest()
        return json_response(health_document(report), status=503 if report.status is Overall.UNHEALTHY else 200)


def health_document(report: HealthReport) -> dict[str, object]:
    """Return the JSON document. `timestamp` is the start of the checks, `responseTime` is in milliseconds."""
    checks = {
        each.name: {
            "status": each.result.status,
            "message": each.result.message,
            "responseTime": round(each.milliseconds, 1),
        }
        for each in report.results
    }
    return {"timestamp": rfc3339(report.started_at), "status": report.status, "checks": checks}
