"""Every route with every role, and with credentials that have ended.

The table here is written by hand: a route that is opened by mistake fails.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final

from aiohttp import web
from pydantic import SecretStr
from sqlalchemy import insert, update

from gateway.app import ENDPOINTS, build_app
from gateway.http.planned import PLANNED
from gateway.settings import GatewaySettings
from safevideo_common.audit.store import Caller
from safevideo_common.auth import api_keys
from safevideo_common.auth.access_tokens import AccessTokens
from safevideo_common.auth.api_keys import Role
from safevideo_common.auth.sessions import NewSession, SessionStore
from safevideo_common.broker.port import Broker
from safevideo_common.cache.redis import open_redis
from safevideo_common.clock import utc_now
from safevideo_common.database.engine import Database
from safevideo_common.database.tables import users
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_common.users.merge import UserMerges
from safevideo_common.users.rights import Act, UserRights
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
    "GET /api/v1/admin/users": ADMIN,
    "GET /api/v1/admin/users/grants": ADMIN,
    "GET /api/v1/admin/users/{id}": ADMIN,
    "POST /api/v1/admin/users/{id}/role": ADMIN,
    "POST /api/v1/admin/users/{id}/suspend": ADMIN,
    "POST /api/v1/admin/users/{id}/reinstate": ADMIN,
    "POST /api/v1/admin/users/{id}/sessions/end": ADMIN,
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


@asynccontextmanager
async def ended_credentials(
    settings: GatewaySettings, database: Database
) -> AsyncIterator[tuple[dict[str, str], dict[str, dict[str, str]]]]:
    """The session of an admin, and credentials of admins that were good: suspended, merged, erased, a revoked key."""
    rights, caller = UserRights(database, utc_now), Caller("root", "cli", None, "r1")
    ids = {name: await add_account(database) for name in ("stays", "suspended", "merged", "erased", "signed out")}
    async with open_redis(settings.redis_url.get_secret_value(), settings.redis_sso_db, seconds=5) as redis:
        sessions, merges = SessionStore(redis, seconds=5), UserMerges(database, SessionStore(redis), utc_now)
        headers = {name: await session_of(settings, sessions, user_id) for name, user_id in ids.items()}
        await rights.suspend(Act(ids["suspended"], caller, "ticket"))
        await rights.end_sessions(Act(ids["signed out"], caller, "ticket"))
        await merges.merge(await add_account(database), [ids["merged"]], caller, dry_run=False)
        async with database.transaction() as tx:
            await tx.execute(update(users).where(users.c.id == ids["erased"]).values(erased_at=utc_now()))
            secret = await api_keys.create(tx, "revoked", Role.ADMIN, utc_now())
            (row,) = [each for each in await api_keys.all_keys(tx) if each.client == "revoked"]
            await api_keys.revoke(tx, row.id, utc_now())
        yield headers.pop("stays"), headers | {"revoked key": {"X-API-Client": "revoked", "X-API-Key": secret}}


async def add_account(database: Database) -> int:
    now = utc_now()
    row = {"email": f"none:{now}", "role": "admin", "created_at": now, "updated_at": now, "generation": "g"}
    async with database.transaction() as tx:
        return int((await tx.execute(insert(users).values(row))).lastrowid)


async def session_of(settings: GatewaySettings, sessions: SessionStore, user_id: int) -> dict[str, str]:
    now = await sessions.now()
    created = await sessions.create(NewSession(user_id, "g", "sharegram", "https://x.example", "x", None, now, now))
    assert created is not None
    assert settings.jwt_secret is not None
    return {"Authorization": f"Bearer {AccessTokens(settings.jwt_secret.get_secret_value()).issue(*created)}"}


async def test_every_route_with_every_role(
    settings: GatewaySettings,
    embedded_broker: Broker,
    log: FilteringBoundLogger,
    key: Callable[[Role], Awaitable[dict[str, str]]],
    database: Database,
) -> None:
    settings = settings.model_copy(update={"jwt_secret": SecretStr("a secret of this test, long enough")})
    app = build_app(settings, embedded_broker, log)
    async with running(app, settings) as api, ended_credentials(settings, database) as (person, ended):
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
            refused = {name: await api.request(method, path, credential) for name, credential in ended.items()}
            assert {(each.status, each.code) for each in refused.values()} == {(401, "UNAUTHORIZED")}, (route, refused)
            allowed = set()
            for role in Role:
                answer = await api.request(method, path, headers[role])
                assert answer.status != 401, (route, role)
                if answer.status != 403:
                    allowed.add(role)
                else:
                    assert answer.code == "FORBIDDEN"
            assert allowed == ALLOWED[route], route
            if "logout" not in route:  # a system has no session to end; this person would be signed out
                answer = await api.request(method, path, person)
                assert (answer.status == 403) is (Role.ADMIN not in ALLOWED[route]), route
