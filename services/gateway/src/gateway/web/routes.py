"""Every path of the gateway, and who may use it."""

from typing import NamedTuple

from aiohttp import web

from gateway.web.audit import AuditPages
from gateway.web.events import EventPages
from gateway.web.health import HealthPage
from gateway.web.jobs import JobPages
from gateway.web.performers import PerformerPages
from gateway.web.quarantine import QuarantinePages
from gateway.web.redriving import RedrivePages
from gateway.web.replays import ReplayPages
from safevideo_common.database.api_keys import Role
from safevideo_common.web.auth import Guard


class Pages(NamedTuple):
    """Everything that answers."""

    health: HealthPage
    performers: PerformerPages
    events: EventPages
    redriving: RedrivePages
    jobs: JobPages
    replays: ReplayPages
    quarantine: QuarantinePages
    audit: AuditPages


def routes(pages: Pages, require: Guard) -> list[web.RouteDef]:
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
