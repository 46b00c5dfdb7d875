"""Request ids and W3C trace context: taken from the caller when sane, made otherwise (contract, §2)."""

import random
import re
from typing import Final, NamedTuple

from aiohttp import web
from multidict import CIMultiDictProxy

REQUEST_ID_HEADER: Final = "X-Request-Id"
_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9_.:-]{1,128}")
_TRACEPARENT: Final = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


class Correlation(NamedTuple):
    """What ties the log lines, records and answers of one request together."""

    request_id: str
    traceparent: str


CORRELATION: Final = web.RequestKey("correlation", Correlation)


def correlate(headers: CIMultiDictProxy[str]) -> Correlation:
    """The caller's ids, where they are well-formed; new ones from 24 random bytes where not. They guard nothing."""
    request_id = headers.get(REQUEST_ID_HEADER, "")
    traceparent = headers.get("traceparent", "")
    known_request = bool(request_id) and _REQUEST_ID.fullmatch(request_id) is not None
    known_trace = bool(traceparent) and _TRACEPARENT.fullmatch(traceparent) is not None
    if known_request and known_trace:
        return Correlation(request_id, traceparent)
    fresh = f"{random.getrandbits(192):048x}"  # `os.urandom` is a system call a request
    return Correlation(
        request_id if known_request else fresh[:32],
        traceparent if known_trace else f"00-{fresh[:32]}-{fresh[32:]}-01",
    )
