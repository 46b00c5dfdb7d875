"""`GET /api/integration/health`: without a key, and without the success envelope, for the operators' one-liners."""

from aiohttp import web

from gateway.health.checks import CachedHealthCheck, HealthReport, Overall
from safevideo_common.clock import rfc3339
from safevideo_common.web.responses import json_response


class HealthApi:
    """Anyone may ask, so asking costs at most one examination a second."""

    def __init__(self, examination: CachedHealthCheck) -> None:
        self._examination = examination

    async def show(self, _request: web.Request) -> web.Response:
        """200, or 503 when the whole is unhealthy."""
        latest = await self._examination.latest()
        return json_response(health_json(latest), status=503 if latest.state is Overall.UNHEALTHY else 200)


def health_json(examination: HealthReport) -> dict[str, object]:
    """The answer of the contract, §6. `timestamp` is when it was asked, `responseTime` is in milliseconds."""
    checks = {
        part.name: {
            "status": part.finding.state,
            "message": part.finding.message,
            "responseTime": round(part.milliseconds, 1),
        }
        for part in examination.parts
    }
    return {"timestamp": rfc3339(examination.asked_at), "status": examination.state, "checks": checks}
