"""A POST that came in one piece, answered past aiohttp's own request, response and task, which cost more than verifying
and publishing a webhook do. All other requests, those whose body comes later among them, go aiohttp's way.
"""

from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple

from aiohttp import web
from aiohttp.hdrs import CONTENT_LENGTH, EXPECT
from aiohttp.helpers import rfc822_formatted_time
from aiohttp.http import SERVER_SOFTWARE, HttpVersion11, RawRequestMessage
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader
from multidict import CIMultiDictProxy

from safevideo_common.web.correlation import REQUEST_ID_HEADER, Correlation


class WholeRequest(NamedTuple):
    """What there is to know of it. The body's size is not checked yet."""

    headers: CIMultiDictProxy[str]
    body: bytes
    remote: str | None
    correlation: Correlation

    @property
    def content_length(self) -> int:
        """Bytes of the body, also where it came in chunks."""
        return len(self.body)


WholeHandler = Callable[[WholeRequest], Awaitable[bytes]]
"""Gives the JSON of a 200, or raises what `Edge` renders."""


class WholeAnswer(NamedTuple):
    """Head and body as they are sent, and whether the connection ends with it."""

    sent: bytes
    is_last: bool


class WholePost(NamedTuple):
    """One path that is answered so."""

    path: str
    answer: Callable[[CIMultiDictProxy[str], bytes, str | None], Awaitable[WholeAnswer]]
    """Asked with headers, body and the peer's address. Raises nothing but cancellation."""

    def takes(self, message: RawRequestMessage, payload: StreamReader) -> bool:
        """Whether it is a plain request to that path, all of it here, on a connection that is to be kept."""
        return (
            message.path == self.path
            and message.method == "POST"
            and message.version == HttpVersion11
            and not message.should_close
            and not message.upgrade
            and payload is not EMPTY_PAYLOAD  # it is no reader like the others
            and payload.is_eof()
            and EXPECT not in message.headers  # answering `100 Continue` is the router's
        )


def accepted(body: bytes, request_id: str, is_last: bool) -> WholeAnswer:
    """200 with `body`, which is JSON."""
    return WholeAnswer(_head("200 OK", _JSON, request_id, len(body), is_last) + body, is_last)


def refused(response: web.Response, request_id: str, is_last: bool) -> WholeAnswer:
    """`response`, which is small and was not sent yet, as it would be sent."""
    body = response.body
    assert isinstance(body, bytes)
    headers = "".join(f"{name}: {value}\r\n" for name, value in response.headers.items() if name != CONTENT_LENGTH)
    status = f"{response.status} {response.reason}"
    return WholeAnswer(_head(status, headers, request_id, len(body), is_last) + body, is_last)


_JSON: Final = "Content-Type: application/json\r\n"


def _head(status: str, headers: str, request_id: str, length: int, is_last: bool) -> bytes:
    """`headers` are whole lines, and free of line ends that somebody else put there."""
    connection = "Connection: close\r\n" if is_last else ""
    return (
        f"HTTP/1.1 {status}\r\n{headers}{REQUEST_ID_HEADER}: {request_id}\r\nContent-Length: {length}\r\n"
        f"Date: {rfc822_formatted_time()}\r\nServer: {SERVER_SOFTWARE}\r\n{connection}\r\n"
    ).encode()
