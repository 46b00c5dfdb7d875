"""Request ids and W3C trace context: the caller's where they are valid, else new ones (contract, §2)."""

import random
import re
from typing import Final, NamedTuple

from aiohttp import web
from multidict import CIMultiDictProxy

REQUEST_ID_HEADER: Final = "X-Request-Id"
_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9_.:-]{1,128}")
_TRACEPARENT: Final = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


_UNSAMPLED: Final = "00"


class Correlation(NamedTuple):
    """The ids that connect the log lines, records and responses of one request."""

    request_id: str
    traceparent: str


CORRELATION: Final = web.RequestKey("correlation", Correlation)


def correlate(headers: CIMultiDictProxy[str]) -> Correlation:
    """Return the caller's ids where they are well-formed, else new ones. They need not be unpredictable.

    The flag of `traceparent` says that the trace is not sampled, whatever the caller says: `Tracer.sample` decides.
    """
    request_id = headers.get(REQUEST_ID_HEADER, "")
    traceparent = headers.get("traceparent", "")
    has_request_id = bool(request_id) and _REQUEST_ID.fullmatch(request_id) is not None
    has_traceparent = bool(traceparent) and _TRACEPARENT.fullmatch(traceparent) is not None
    if has_request_id and has_traceparent:
        return Correlation(request_id, traceparent[:-2] + _UNSAMPLED)
    fresh = f"{random.getrandbits(192):048x}"  # `os.urandom` is a system call a request
    return Correlation(
        request_id if has_request_id else fresh[:32],
        f"{traceparent[:-2] if has_traceparent else f'00-{fresh[:32]}-{fresh[32:]}-'}{_UNSAMPLED}",
    )
