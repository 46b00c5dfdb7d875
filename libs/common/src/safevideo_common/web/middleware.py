"""The outermost middleware. It adds ids, metrics and a log line to each request, and an error body to a failed one."""

from collections.abc import Awaitable, Callable
from email.utils import formatdate
from functools import lru_cache
from time import perf_counter, time
from typing import Final, NamedTuple

from aiohttp import web
from aiohttp.hdrs import CONNECTION, CONTENT_LENGTH, SERVER
from aiohttp.typedefs import Handler, Middleware
from multidict import CIMultiDictProxy

from safevideo_common import errors
from safevideo_common.observability.http_metrics import HttpMetrics, route_of
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_common.web.correlation import CORRELATION, REQUEST_ID_HEADER, Correlation, correlate
from safevideo_common.web.drain import Drain
from safevideo_common.web.responses import failure

LOGS_ITSELF: Final = web.RequestKey("logs_itself", bool)
"""Set by a handler that writes the request's line itself."""

FAULT_MESSAGE: Final = "Something went wrong here. The request id finds it in our logs."

MALFORMED: Final = "This is not a well-formed HTTP request."

_BY_STATUS: Final[dict[int, type[errors.SafeVideoError]]] = {
    400: errors.ValidationFailed,
    404: errors.NotFound,
    405: errors.MethodNotAllowed,
    413: errors.PayloadTooLarge,
    415: errors.UnsupportedMediaType,
}


class BufferedRequest(NamedTuple):
    """A request that arrived whole. The size of its body is not checked yet."""

    headers: CIMultiDictProxy[str]
    body: bytes
    remote: str | None
    correlation: Correlation

    @property
    def content_length(self) -> int:
        """The bytes of the body."""
        return len(self.body)


BufferedHandler = Callable[[BufferedRequest], Awaitable[bytes]]
"""Returns the JSON of a 200, or raises what `RequestMiddleware` renders."""


class BufferedResponse(NamedTuple):
    """A response as it is sent, and whether the connection ends with it."""

    data: bytes
    is_last: bool


class RequestMiddleware:
    """The middleware around every handler of one app. It renders each failure as the contract's error body."""

    def __init__(self, logger: FilteringBoundLogger, metrics: HttpMetrics, draining: Drain) -> None:
        self._logger = logger
        self._metrics = metrics
        self._draining = draining

    @property
    def middleware(self) -> Middleware:
        """The middleware, as aiohttp takes it."""

        @web.middleware
        async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
            return await self._handle(request, handler)

        return middleware

    async def _handle(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        started, route = perf_counter(), route_of(request)
        request[CORRELATION] = correlation = correlate(request.headers)
        try:
            response = await handler(request)
        except Exception as raised:  # noqa: BLE001 - the one place that renders whatever was raised
            error = body_error(raised) if is_body_error(raised, request) else raised
            response = failure(_to_error(error, route, correlation, self._logger), correlation.request_id)
        _add_headers(response, correlation)
        if self._draining.started:
            response.force_close()  # a kept connection would be cut before or after its next request, who knows
        seconds = perf_counter() - started
        self._metrics.observe(request.method, route, response.status, seconds)
        if LOGS_ITSELF not in request:
            self._logger.info(
                "Request answered",
                method=request.method,
                # The route and not the path: a caller may put anything in the place of an id, an e-mail address too.
                route=route,
                status=response.status,
                ms=round(seconds * 1000, 1),
                request_id=correlation.request_id,
            )
        return response

    async def handle_buffered(
        self, headers: CIMultiDictProxy[str], body: bytes, remote: str | None, handler: BufferedHandler, route: str
    ) -> BufferedResponse:
        """Answer a request that arrived whole, in the same way. Its handler writes the log line itself."""
        started = perf_counter()
        status, correlation = 200, correlate(headers)
        try:
            head, content = _OK, await handler(BufferedRequest(headers, body, remote, correlation))
        except Exception as error:  # noqa: BLE001 - as above
            response = failure(_to_error(error, route, correlation, self._logger), correlation.request_id)
            assert isinstance(response.body, bytes)
            status, head, content = response.status, _head_of(response), response.body
        self._metrics.observe("POST", route, status, perf_counter() - started)
        is_last = self._draining.started or headers.get(CONNECTION, "").lower() == "close"
        return BufferedResponse(_rendered(head, content, correlation.request_id, is_last=is_last), is_last)

    async def add_headers(self, request: web.Request, response: web.StreamResponse) -> None:
        """Add the headers of a response that a handler sends itself, before it begins. A signal of aiohttp."""
        correlation = request.get(CORRELATION)
        if correlation is not None and REQUEST_ID_HEADER not in response.headers:
            response.headers.pop(SERVER, None)  # aiohttp has added its own by now
            _add_headers(response, correlation)

    def report_malformed(self, remote: str | None, correlation: Correlation) -> None:
        """Count and log a request that was refused before it reached a handler, since it is not well-formed HTTP."""
        self._metrics.observe("other", "malformed", errors.MalformedRequest.status, 0.0)
        code = errors.MalformedRequest.code
        self._logger.warning("Request malformed", code=code, remote=remote, request_id=correlation.request_id)


def is_body_error(error: Exception, request: web.Request) -> bool:
    """Return True if `error` is about the body of `request`: its framing, or a client that is gone."""
    is_gone = isinstance(error, ConnectionError) and request.transport is None
    return is_gone or isinstance(error, web.RequestPayloadError)


def body_error(error: Exception) -> errors.SafeVideoError:
    """Return the error to answer with when aiohttp raised `error` while the body was read."""
    if isinstance(error, web.RequestPayloadError):
        return errors.MalformedRequest(MALFORMED)
    return errors.ClientGone("The client closed the connection before its body was complete.")


def last_response(error: errors.SafeVideoError, correlation: Correlation) -> web.StreamResponse:
    """Return the error body of a request that reaches no handler, and close its connection."""
    response = failure(error, correlation.request_id)
    _add_headers(response, correlation)
    response.force_close()
    return response


def rendered_last(error: errors.SafeVideoError, request_id: str) -> bytes:
    """Return an error response as it is sent, for a connection that ends with it."""
    response = failure(error, request_id)
    assert isinstance(response.body, bytes)
    return _rendered(_head_of(response), response.body, request_id, is_last=True)


def _add_headers(response: web.StreamResponse, correlation: Correlation) -> None:
    response.headers[REQUEST_ID_HEADER] = correlation.request_id
    for name, value in _ALWAYS.items():
        response.headers.setdefault(name, value)


def _rendered(head: str, content: bytes, request_id: str, *, is_last: bool) -> bytes:
    head = (
        f"HTTP/1.1 {head}{REQUEST_ID_HEADER}: {request_id}\r\nContent-Length: {len(content)}\r\n"
        f"Date: {_date(int(time()))}\r\n{_ALWAYS_LINES}{_CLOSE if is_last else ''}\r\n"
    )
    return head.encode() + content


_ALWAYS: Final = {
    "Cache-Control": "no-store",  # a cache on the way may keep nothing: responses have personal data
    "X-Content-Type-Options": "nosniff",
    "Server": "safevideo",  # aiohttp names its version and Python's
}
"""Headers of each response. A handler may set its own `Cache-Control`."""
_ALWAYS_LINES: Final = "".join(f"{name}: {value}\r\n" for name, value in _ALWAYS.items())
_CLOSE: Final = "Connection: close\r\n"
_OK: Final = "200 OK\r\nContent-Type: application/json\r\n"


def _head_of(response: web.Response) -> str:
    headers = (f"{name}: {value}\r\n" for name, value in response.headers.items() if name != CONTENT_LENGTH)
    return f"{response.status} {response.reason}\r\n{''.join(headers)}"


@lru_cache(maxsize=1)
def _date(second: int) -> str:
    return formatdate(second, usegmt=True)


def _to_error(
    error: Exception, route: str, correlation: Correlation, logger: FilteringBoundLogger
) -> errors.SafeVideoError:
    if isinstance(error, errors.SafeVideoError):
        return error
    if isinstance(error, web.HTTPException):
        kind = _BY_STATUS.get(error.status, errors.ValidationFailed if error.status < 500 else errors.InternalError)
        return kind(error.reason)
    logger.error(
        "Request failed",
        code=errors.InternalError.code,
        error=type(error).__name__,
        where=_where(error),
        route=route,
        request_id=correlation.request_id,
    )
    return errors.InternalError(FAULT_MESSAGE)


def _where(error: Exception) -> str:
    """File and line that raised: enough to find the fault, and free of the values that a traceback's text may quote."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace is not None else "unknown"
