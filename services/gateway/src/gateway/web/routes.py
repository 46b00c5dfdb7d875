"""Every path of the gateway, and who may use it."""

from aiohttp import web

from gateway.web.events import EventPages
from gateway.web.health import HealthPage
from gateway.web.performers import PerformerPages
from safevideo_common.database.api_keys import Role
from safevideo_common.web.auth import Guard


def routes(health: HealthPage, performers: PerformerPages, events: EventPages, require: Guard) -> list[web.RouteDef]:
    """The table. What stands behind `require` needs at least that role."""
    return [
        web.get("/api/integration/health", health.show),
        web.get("/api/v1/performers/{id}", require(Role.USER, performers.show)),
        web.get("/api/v1/admin/events", require(Role.ADMIN, events.list)),
        web.get("/api/v1/admin/events/{id}", require(Role.ADMIN, events.show)),
    ]
