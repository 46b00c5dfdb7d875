"""The caller of a request, for the audit log."""

from aiohttp import web

from gateway.http.guard import CLIENT_ADDRESS
from safevideo_common.audit.store import Caller
from safevideo_common.auth.principal import PRINCIPAL
from safevideo_common.web.correlation import CORRELATION


def caller_of(request: web.Request) -> Caller:
    """Return the caller of a guarded route."""
    principal = request[PRINCIPAL]
    return Caller(principal.name, principal.role, request[CLIENT_ADDRESS], request[CORRELATION].request_id)
