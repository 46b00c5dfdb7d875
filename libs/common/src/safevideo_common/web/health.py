"""`/healthz`, `/readyz` and `/metrics`: the endpoints for Kubernetes and Prometheus in every process."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from safevideo_common.errors import SafeVideoError
from safevideo_common.web.responses import json_response

CHECK_SECONDS: Final = 3.0


@dataclass(frozen=True, slots=True)
class HealthCheck:
    """A named check. `probe` returns if all is well, and raises otherwise."""

    name: str
    probe: Callable[[], Awaitable[None]]


async def failed_checks(checks: Sequence[HealthCheck]) -> dict[str, str]:
    """Run all checks concurrently. Return name and reason of each that raised or took over `CHECK_SECONDS`."""
    reasons = await asyncio.gather(*(_failure(check) for check in checks))
    return {check.name: reason for check, reason in zip(checks, reasons, strict=True) if reason}


async def _failure(check: HealthCheck) -> str:
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            await check.probe()
    except SafeVideoError as error:
        return error.message
    except TimeoutError:
        return f"no answer within {CHECK_SECONDS:g} s"
    except Exception as error:  # noqa: BLE001 - a check that fails in any way has failed; its type is the reason
        return type(error).__name__
    return ""


def add_health_routes(
    app: web.Application, registry: CollectorRegistry, *, alive: Sequence[HealthCheck], ready: Sequence[HealthCheck]
) -> None:
    """Serve the three paths. A health path answers 200, or 503 with the names of what failed.

    A process whose event loop stands still answers none of them: whoever probes it needs a timeout.
    """

    async def metrics(_request: web.Request) -> web.Response:
        return web.Response(body=generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    app.router.add_get("/healthz", _health_handler(alive))
    app.router.add_get("/readyz", _health_handler(ready))
    app.router.add_get("/metrics", metrics)


def _health_handler(checks: Sequence[HealthCheck]) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def handler(_request: web.Request) -> web.Response:
        failed = await failed_checks(checks)
        status = "failing" if failed else "ok"
        return json_response({"status": status, "failed": failed}, status=503 if failed else 200)

    return handler
