"""The conversion of errors to answers: `{"success": false, "error": {code, message, details?, requestId}}`."""

import math
import re
from http import HTTPStatus
from typing import Final
from uuid import uuid4

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware
from structlog.typing import FilteringBoundLogger

from sharegram_simulator.errors import Broken, Dropped, Refusal
from sharegram_simulator.web.answers import json_answer

REQUEST_ID: Final = "X-Request-Id"
SANE_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,128}")
CODES: Final = {
    HTTPStatus.NOT_FOUND: "NOT_FOUND",
    HTTPStatus.METHOD_NOT_ALLOWED: "METHOD_NOT_ALLOWED",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "PAYLOAD_TOO_LARGE",
}


def failure_renderer(log: FilteringBoundLogger) -> Middleware:
    """Answers refusals in the shape of the contract, and echoes the request id or gives one."""

    @web.middleware
    async def render(request: web.Request, handler: Handler) -> web.StreamResponse:
        given = request.headers.get(REQUEST_ID, "")
        request_id = given if SANE_REQUEST_ID.fullmatch(given) else uuid4().hex
        response = await _answer(request, handler, request_id, log)
        response.headers[REQUEST_ID] = request_id
        return response

    return render


async def _answer(
    request: web.Request, handler: Handler, request_id: str, log: FilteringBoundLogger
) -> web.StreamResponse:
    try:
        return await handler(request)
    except Refusal as refusal:
        return _refused(refusal, request_id)
    except web.HTTPException as error:
        if error.status < HTTPStatus.BAD_REQUEST:
            raise
        return _failure(error.status, CODES.get(HTTPStatus(error.status), "BAD_REQUEST"), error.reason, request_id)
    except (Dropped, ConnectionError):  # By a fault or by the caller: there is no one to answer.
        raise
    except Exception:  # The last resort: a bug of the simulator must not look like one of the network.
        log.exception("Unhandled failure", request_id=request_id)
        return _failure(500, "INTERNAL_ERROR", "The simulator failed; see its log.", request_id)


def _refused(refusal: Refusal, request_id: str) -> web.Response:
    status = refusal.answered_status if isinstance(refusal, Broken) else refusal.status
    response = _failure(status, refusal.code, refusal.message, request_id, refusal.details)
    if refusal.retry_after is not None:
        seconds = refusal.retry_after
        response.headers["Retry-After"] = seconds if isinstance(seconds, str) else str(math.ceil(seconds))
    return response


def _failure(status: int, code: str, message: str, request_id: str, details: object = None) -> web.Response:
    error: dict[str, object] = {"code": code, "message": message, "requestId": request_id}
    if details is not None:
        error["details"] = details
    return json_answer({"success": False, "error": error}, status)
