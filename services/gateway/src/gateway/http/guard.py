"""The guard in front of every endpoint: it checks who calls, how often, and with which role."""

from typing import Final

from aiohttp import web
from aiohttp.hdrs import X_FORWARDED_FOR
from aiohttp.typedefs import Handler

from gateway.http.endpoint import Endpoint
from gateway.http.idempotency import IdempotentRequests
from gateway.http.rate_limits import RateLimitClass, RateLimits
from gateway.metrics import GatewayMetrics
from safevideo_common.auth.principal import PRINCIPAL, Authenticator, Principal
from safevideo_common.errors import CredentialsMissing, Forbidden, InternalError, SafeVideoError, Unauthorized
from safevideo_common.observability.http_metrics import route_of
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_common.observability.tracing import SpanKind, Tracer, use_span
from safevideo_common.web.client_address import ClientAddresses
from safevideo_common.web.correlation import CORRELATION

CLIENT_ADDRESS: Final = web.RequestKey("client_address", str)
"""The address of the client, behind trusted proxies."""


class Guard:
    """The checks that an endpoint declares. A refusal is in `audit.log` and in the metrics, not in the audit table."""

    def __init__(
        self,
        authenticator: Authenticator,
        limits: RateLimits,
        idempotency_keys: IdempotentRequests,
        addresses: ClientAddresses,
        metrics: GatewayMetrics,
        logger: FilteringBoundLogger,
        tracer: Tracer | None,
    ) -> None:
        self._authenticator = authenticator
        self._limits = limits
        self._idempotency_keys = idempotency_keys
        self._addresses = addresses
        self._metrics = metrics
        self._logger = logger.bind(stream="audit")
        self._tracer = tracer

    def protect(self, endpoint: Endpoint) -> Handler:
        """Return the endpoint's handler behind its checks.

        It raises `Unauthorized` for an unknown caller, `RateLimited` for one who calls too often, and `Forbidden` for
        one without any of the roles.
        """
        roles, limit, handler = endpoint.roles, endpoint.rate_limit, endpoint.handler
        if endpoint.takes_idempotency_key:
            handler = self._idempotency_keys.wrap(handler)

        async def guarded(request: web.Request) -> web.StreamResponse:
            forwarded = request.headers.getall(X_FORWARDED_FOR, ())
            request[CLIENT_ADDRESS] = self._addresses.exact(request.remote, forwarded)
            if roles is not None:
                request[PRINCIPAL] = principal = await self._identify(request)
                if limit is not None:
                    counted = await self._limit_of(request, endpoint, limit)
                    await self._limits.take_for_principal(request, counted, principal.name)
                if principal.role not in roles:
                    raise self._refused(request, Forbidden(f"This needs the role {' or '.join(sorted(roles))}."))
            elif limit is not None:
                await self._limits.take_for_address(request, limit)
            return await self._traced(request, handler)

        return guarded

    async def _traced(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Call the handler, in a span if chance samples it: after the checks, so nobody else fills the collector.

        Calls at Sharegram and jobs that it enqueues are in the same trace.
        """
        correlation, tracer = request[CORRELATION], self._tracer
        name = f"{request.method} {route_of(request)}"
        span = tracer.sample(name, SpanKind.SERVER, correlation.traceparent) if tracer else None
        if span is None:
            return await handler(request)
        error = InternalError.code
        status = InternalError.status
        try:
            with use_span(span):
                response = await handler(request)
            status, error = response.status, ""
        except SafeVideoError as raised:
            status, error = raised.status, raised.code
            raise
        finally:
            span.end({"http.response.status_code": status, "safevideo.request_id": correlation.request_id}, error)
        return response

    async def _limit_of(self, request: web.Request, endpoint: Endpoint, limit: RateLimitClass) -> RateLimitClass:
        """Return the limit to count for: a repetition that only gets its stored response starts nothing."""
        if limit is RateLimitClass.GENERAL or not endpoint.takes_idempotency_key:
            return limit
        has_response = await self._idempotency_keys.has_response(request)
        return RateLimitClass.GENERAL if has_response else limit

    async def _identify(self, request: web.Request) -> Principal:
        """Return the caller. Wrong credentials count as authentication: a guesser gets 429, the owner does not."""
        try:
            return await self._authenticator.authenticate(request)
        except CredentialsMissing:
            await self._limits.take_for_address(request, RateLimitClass.GENERAL)
            raise
        except SafeVideoError as error:
            if error.status != Unauthorized.status:
                raise
            await self._limits.take_for_address(request, RateLimitClass.AUTHENTICATION)
            raise self._refused(request, error) from None

    def _refused(self, request: web.Request, error: SafeVideoError) -> SafeVideoError:
        principal = request.get(PRINCIPAL)
        self._metrics.request_refused(error.code)
        self._logger.warning(
            "Request refused",
            code=error.code,
            actor=None if principal is None else principal.name,
            remote=request[CLIENT_ADDRESS],
            method=request.method,
            route=route_of(request),
            request_id=request[CORRELATION].request_id,
        )
        return error
