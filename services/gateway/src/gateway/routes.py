"""Every path of the gateway, and who may use it."""

from typing import NamedTuple

from aiohttp import web

from gateway.audit.api import AuditApi
from gateway.events.api import EventsApi, RedriveApi
from gateway.health.api import HealthApi
from gateway.jobs.api import JobsApi
from gateway.performers.api import PerformersApi
from gateway.quarantine.api import QuarantineApi
from gateway.replays.api import ReplaysApi
from safevideo_common.auth.api_keys import Role
from safevideo_common.auth.guard import Guard


class Apis(NamedTuple):
    """Everything that answers."""

    health: HealthApi
    performers: PerformersApi
    events: EventsApi
    redriving: RedriveApi
    jobs: JobsApi
    replays: ReplaysApi
    quarantine: QuarantineApi
    audit: AuditApi


def routes(pages: Apis, require: Guard) -> list[web.RouteDef]:
    """The table. What stands behind `require` needs at least that role."""
    rejected = "/api/v1/admin/webhooks/rejected"
    return [
        web.get("/api/integration/health", pages.health.show),
        web.get("/api/v1/performers/{id}", require(Role.USER, pages.performers.show)),
        web.get("/api/v1/admin/events", require(Role.ADMIN, pages.events.list)),
        web.get("/api/v1/admin/events/{id}", require(Role.ADMIN, pages.events.show)),
        web.post("/api/v1/admin/events/redrive", require(Role.ADMIN, pages.redriving.redrive)),
        web.post("/api/v1/admin/events/{id}/retry", require(Role.ADMIN, pages.redriving.retry)),
        web.get(rejected, require(Role.ADMIN, pages.quarantine.list)),
        web.get(f"{rejected}/{{id}}", require(Role.ADMIN, pages.quarantine.show)),
        web.post(f"{rejected}/reverify", require(Role.ADMIN, pages.quarantine.reverify)),
        web.get("/api/v1/admin/jobs", require(Role.ADMIN, pages.jobs.list)),
        web.get("/api/v1/admin/jobs/{id}", require(Role.ADMIN, pages.jobs.show)),
        web.post("/api/v1/admin/jobs/{id}/retry", require(Role.ADMIN, pages.jobs.retry)),
        web.post("/api/v1/admin/jobs/{id}/cancel", require(Role.ADMIN, pages.jobs.cancel)),
        web.post("/api/v1/admin/replays", require(Role.ADMIN, pages.replays.start)),
        web.get("/api/v1/admin/audit", require(Role.ADMIN, pages.audit.list)),
    ]
