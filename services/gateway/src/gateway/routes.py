"""Every route of the gateway, with the role that it needs."""

from typing import NamedTuple

from aiohttp import web

from gateway.audit.api import AuditApi
from gateway.events.api import EventsApi
from gateway.health.api import HealthApi
from gateway.jobs.api import JobsApi
from gateway.performers.api import PerformersApi
from gateway.quarantine.api import QuarantineApi
from gateway.replays.api import ReplaysApi
from safevideo_common.auth.api_keys import Role
from safevideo_common.auth.guard import Guard

_ADMIN = "/api/v1/admin"


class Apis(NamedTuple):
    """The API of each feature."""

    health: HealthApi
    performers: PerformersApi
    events: EventsApi
    jobs: JobsApi
    replays: ReplaysApi
    quarantine: QuarantineApi
    audit: AuditApi


def routes(apis: Apis, require: Guard) -> list[web.RouteDef]:
    """Return the route table. A handler inside `require` needs at least that role."""
    return [
        web.get("/api/integration/health", apis.health.show),
        web.get("/api/v1/performers/{id}", require(Role.USER, apis.performers.show)),
        web.get(f"{_ADMIN}/events", require(Role.ADMIN, apis.events.list)),
        web.get(f"{_ADMIN}/events/{{id}}", require(Role.ADMIN, apis.events.show)),
        web.post(f"{_ADMIN}/events/redrive", require(Role.ADMIN, apis.events.redrive)),
        web.post(f"{_ADMIN}/events/{{id}}/retry", require(Role.ADMIN, apis.events.retry)),
        web.get(f"{_ADMIN}/webhooks/rejected", require(Role.ADMIN, apis.quarantine.list)),
        web.get(f"{_ADMIN}/webhooks/rejected/{{id}}", require(Role.ADMIN, apis.quarantine.show)),
        web.post(f"{_ADMIN}/webhooks/rejected/reverify", require(Role.ADMIN, apis.quarantine.reverify)),
        web.get(f"{_ADMIN}/jobs", require(Role.ADMIN, apis.jobs.list)),
        web.get(f"{_ADMIN}/jobs/{{id}}", require(Role.ADMIN, apis.jobs.show)),
        web.post(f"{_ADMIN}/jobs/{{id}}/retry", require(Role.ADMIN, apis.jobs.retry)),
        web.post(f"{_ADMIN}/jobs/{{id}}/cancel", require(Role.ADMIN, apis.jobs.cancel)),
        web.post(f"{_ADMIN}/replays", require(Role.ADMIN, apis.replays.start)),
        web.get(f"{_ADMIN}/audit", require(Role.ADMIN, apis.audit.list)),
    ]
