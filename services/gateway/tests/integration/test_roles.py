"""Every route with every role. The table here is written by hand: a route that is opened by mistake fails."""

from collections.abc import Awaitable, Callable
from typing import Final

from aiohttp import web

from gateway.app import ENDPOINTS, build_app
from gateway.http.planned import PLANNED
from gateway.settings import GatewaySettings
from safevideo_common.auth.api_keys import Role
from safevideo_common.broker.port import Broker
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_testkit.http import running

NOBODY: Final[frozenset[Role]] = frozenset()
ANY: Final = frozenset(Role)
READERS: Final = {Role.AUDITOR, Role.ADMIN}
ADMIN: Final = {Role.ADMIN}
REVIEWERS: Final = {Role.MODERATOR, Role.ADMIN}

PUBLIC: Final = {
    "GET /healthz",
    "GET /readyz",
    "GET /metrics",
    "GET /api/integration/health",
    "GET /openapi.json",
    "GET /docs",
    "POST /auth/sso/unified-login",
    "GET /auth/sso/login",
    "GET /auth/sso/callback",
    "GET /auth/sso/session/verify",
    "POST /auth/sso/backchannel-logout",
    "GET /auth/sso/integration-status",
}
ALLOWED: Final = {
    "GET /api/v1/performers": ANY,
    "GET /api/v1/performers/pending-approval": REVIEWERS,
    "GET /api/v1/performers/{id}": ANY,
    "POST /api/v1/performers/{id}/approve": ADMIN,
    "POST /api/v1/performers/{id}/reject": ADMIN,
    "PUT /api/v1/performers/{id}/status": ADMIN,
    "POST /api/v1/kyc/submit": {Role.PERFORMER},
    "POST /api/v1/kyc/{id}/documents": {Role.PERFORMER},
    "GET /api/v1/kyc/{id}/status": {Role.PERFORMER, *REVIEWERS},
    "GET /api/v1/kyc/{id}/submission": {Role.PERFORMER, *REVIEWERS},
    "GET /api/v1/kyc/{id}/documents/{document}": {Role.PERFORMER, *REVIEWERS},
    "GET /api/v1/kyc/pending": REVIEWERS,
    "POST /api/v1/kyc/{id}/approve": ADMIN,
    "POST /api/v1/kyc/{id}/reject": ADMIN,
    "POST /api/v1/kyc/{id}/reopen": ADMIN,
    "POST /api/v1/admin/kyc/resync": ADMIN,
    "GET /api/v1/admin/events": READERS,
    "GET /api/v1/admin/events/{id}": READERS,
    "POST /api/v1/admin/events/redrive": ADMIN,
    "POST /api/v1/admin/events/{id}/retry": ADMIN,
    "POST /api/v1/admin/events/{id}/close": ADMIN,
    "GET /api/v1/admin/webhooks/rejected": READERS,
    "GET /api/v1/admin/webhooks/rejected/{id}": READERS,
    "POST /api/v1/admin/webhooks/rejected/reverify": ADMIN,
    "GET /api/v1/admin/jobs": READERS,
    "GET /api/v1/admin/jobs/{id}": READERS,
    "POST /api/v1/admin/jobs/{id}/retry": ADMIN,
    "POST /api/v1/admin/jobs/{id}/cancel": ADMIN,
    "POST /api/v1/admin/replays": ADMIN,
    "GET /api/v1/admin/performers/{id}/history": READERS,
    "POST /api/v1/performers/{id}/sync": {Role.ADMIN},
    "POST /api/v1/performers/sync": ADMIN,
    "GET /api/v1/performers/sync/status": ADMIN,
    "GET /api/v1/performers/sync/history": ADMIN,
    "POST /api/v1/performers/sync/cancel": ADMIN,
    "GET /api/v1/admin/audit": READERS,
    "GET /api/v1/admin/breakers": READERS,
    "POST /api/v1/admin/breakers/{name}/open": ADMIN,
    "POST /api/v1/admin/breakers/{name}/close": ADMIN,
    "POST /api/v1/admin/breakers/{name}/reset": ADMIN,
    "POST /api/v1/admin/integration/fallback": ADMIN,
    "GET /api/v1/admin/flags": READERS,
    "GET /api/v1/admin/flags/{name}": READERS,
    "PUT /api/v1/admin/flags/{name}": ADMIN,
    "GET /api/integration/status": {Role.MODERATOR, Role.AUDITOR, Role.ADMIN},
    "POST /api/v1/integrations/sharegram/enable": ADMIN,
    "POST /api/v1/integrations/sharegram/disable": ADMIN,
    "POST /api/v1/integrations/sharegram/webhook": ADMIN,
    "POST /api/v1/integrations/sharegram/webhook/rotate-secret": ADMIN,
    "GET /api/v1/admin/users/duplicates": ADMIN,
    "GET /api/v1/admin/users/holds": READERS,
    "POST /api/v1/admin/users/{id}/hold": ADMIN,
    "POST /api/v1/admin/users/{id}/release": ADMIN,
    "POST /api/v1/admin/users/merge": ADMIN,
    "POST /api/v1/admin/users/{id}/unmerge": ADMIN,
    "POST /auth/sso/logout": ANY,
    "POST /auth/sso/logout-all": ANY,
}


def routes(app: web.Application) -> set[str]:
    """The routes of the app that are built, but HEAD, which goes with each GET."""
    found = {(each.method, each.resource.canonical) for each in app.router.routes() if each.resource}
    return {f"{method} {path}" for method, path in found - {*PLANNED} if method != "HEAD"}


async def test_every_route_with_every_role(
    settings: GatewaySettings,
    embedded_broker: Broker,
    log: FilteringBoundLogger,
    key: Callable[[Role], Awaitable[dict[str, str]]],
) -> None:
    app = build_app(settings, embedded_broker, log)
    async with running(app, settings) as api:
        assert routes(app) == PUBLIC | set(ALLOWED)
        assert {f"{each.method} {each.path}" for each in app[ENDPOINTS]} <= routes(app)
        for method, path in PLANNED:
            answer = await api.request(method, path.replace("{id}", "1"))
            assert (answer.code, "not built yet" in answer.json["error"]["message"]) == ("NOT_FOUND", True)
        headers = {role: await key(role) for role in Role}
        for route in sorted(routes(app)):
            method, path = route.replace("{document}", "1").split(" ")
            path = path.replace("{id}", "999999").replace("{name}", "any")
            methods = [method, "HEAD"] if method == "GET" else [method]
            for each in methods:
                anonymous = await api.request(each, path)
                assert (anonymous.status == 401) is (route not in PUBLIC), (each, path)
            if route in PUBLIC:
                continue
            allowed = set()
            for role in Role:
                answer = await api.request(method, path, headers[role])
                assert answer.status != 401, (route, role)
                if answer.status != 403:
                    allowed.add(role)
                else:
                    assert answer.code == "FORBIDDEN"
            assert allowed == ALLOWED[route], route
