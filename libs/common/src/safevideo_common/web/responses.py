"""The two shapes of a response (contract, §2)."""

from collections.abc import Mapping

import orjson
from aiohttp import web

from safevideo_common.errors import SafeVideoError


def success(data: object, *, status: int = 200, extra: Mapping[str, object] | None = None) -> web.Response:
    """Return `{"success": true, "data": …}`; `extra` adds top-level members such as `pagination`."""
    return json_response({"success": True, "data": data, **(extra or {})}, status=status)


def failure(error: SafeVideoError, request_id: str) -> web.Response:
    """Return `{"success": false, "error": …}` with the error's status, and `Retry-After` where it has one."""
    body: dict[str, object] = {"code": error.code, "message": error.message}
    if error.details is not None:
        body["details"] = error.details
    body["requestId"] = request_id
    response = json_response({"success": False, "error": body}, status=error.status)
    if error.retry_after is not None:
        response.headers["Retry-After"] = str(error.retry_after)
    return response


def json_response(body: object, *, status: int = 200) -> web.Response:
    """Return `body` as JSON; times must be strings already."""
    return web.Response(body=orjson.dumps(body), status=status, content_type="application/json")
