"""The outermost middleware: a request gets its ids, its measure, its log line and, if it fails, its error body."""

from time import perf_counter
from typing import Final

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware
from multidict import CIMultiDictProxy

from safevideo_common import errors
from safevideo_common.observability.http_metrics import HttpMetrics, route_of
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_common.web.correlation import CORRELATION, REQUEST_ID_HEADER, Correlation, correlate
from safevideo_common.web.drain import Drain
from safevideo_common.web.responses import failure
from safevideo_common.web.whole import WholeAnswer, WholeHandler, WholeRequest, accepted, refused

LOGS_ITSELF: Final = web.RequestKey("logs_itself", bool)
"""Set by a handler that writes the request's line itself."""

_BY_STATUS: Final[dict[int, type[errors.SafeVideoError]]] = {
    400: errors.ValidationFailed,
    404: errors.NotFound,
    405: errors.MethodNotAllowed,
    413: errors.PayloadTooLarge,
    415: errors.UnsupportedMediaType,
}


class Edge:
    """What surrounds every handler of one app. Each failure leaves it as the contract's error body."""

    def __init__(self, log: FilteringBoundLogger, metrics: HttpMetrics, draining: Drain) -> None:
        self._log = log
        self._metrics = metrics
        self._draining = draining

    @property
    def middleware(self) -> Middleware:
        """For all that is routed."""

        @web.middleware
        async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
            return await self.answer(request, handler, route_of(request))

        return middleware

    async def answer(self, request: web.Request, handler: Handler, route: str) -> web.StreamResponse:
        """The handler's answer, or what its failure is rendered as."""
        started = perf_counter()
        request[CORRELATION] = correlation = correlate(request.headers)
        try:
            response = await handler(request)
        except Exception as error:  # noqa: BLE001 - the one place that renders whatever was raised
            response = failure(_known(error, route, correlation, self._log), correlation.request_id)
        response.headers[REQUEST_ID_HEADER] = correlation.request_id
        if self._draining.begun:
            response.force_close()  # a kept connection would be cut before or after its next request, who knows
        seconds = perf_counter() - started
        self._metrics.observe(request.method, route, response.status, seconds)
        if LOGS_ITSELF not in request:
            self._log.info(
                "Request answered",
                method=request.method,
                # The route and not the path: a caller may put anything in the place of an id, an e-mail address too.
                route=route,
                status=response.status,
                ms=round(seconds * 1000, 1),
                request_id=correlation.request_id,
            )
        return response

    async def answer_whole(
        self, headers: CIMultiDictProxy[str], body: bytes, remote: str | None, handler: WholeHandler, route: str
    ) -> WholeAnswer:
        """The same for a request that is here with its body; see `WholePost`. Its handler writes its line itself."""
        started = perf_counter()
        status, correlation = 200, correlate(headers)
        try:
            said = await handler(WholeRequest(headers, body, remote, correlation))
            answer = accepted(said, correlation.request_id, self._draining.begun)
        except Exception as error:  # noqa: BLE001 - as above
            response = failure(_known(error, route, correlation, self._log), correlation.request_id)
            status, answer = response.status, refused(response, correlation.request_id, self._draining.begun)
        self._metrics.observe("POST", route, status, perf_counter() - started)
        return answer


def _known(error: Exception, route: str, correlation: Correlation, log: FilteringBoundLogger) -> errors.SafeVideoError:
    if isinstance(error, errors.SafeVideoError):
        return error
    if isinstance(error, web.HTTPException):
        kind = _BY_STATUS.get(error.status, errors.ValidationFailed if error.status < 500 else errors.InternalError)
        return kind(error.reason)
    log.error(
        "Request failed",
        code=errors.InternalError.code,
        error=type(error).__name__,
        where=_where(error),
        route=route,
        request_id=correlation.request_id,
    )
    return errors.InternalError("Something went wrong here. The request id finds it in our logs.")


def _where(error: Exception) -> str:
    """File and line that raised: enough to find the fault, and free of the values that a traceback's text may quote."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace is not None else "unknown"
