"""Bytes and HTTP requests of all kinds."""

from typing import Final

from hypothesis import strategies as st

from safevideo_testkit.fuzz.webhooks import (
    PATH,
    SIGNATURES,
    TIMESTAMPS,
    Lines,
    chunked,
    good_bodies,
    head,
)

_PIECES: Final = [
    b"POST", b"GET", b" ", PATH, b"HTTP/1.1", b"HTTP/1.0", b"HTTP/9.9", b"\r\n", b"\n", b"\r", b"\0", b":", b"\r\n\r\n",
    b"Host: x\r\n", b"Content-Length: 5\r\n", b"Content-Length: 5, 5\r\n", b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: gzip, chunked\r\n", b"Expect: 100-continue\r\n", b"Upgrade: h2c\r\nConnection: Upgrade\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"X-Sharegram-Signature: sha256=\r\n", b"5\r\nhello\r\n", b"0\r\n\r\n",
    b"\xff\xfe", b"\x16\x03\x01",
]  # fmt: skip
_END: Final = b"\r\n\r\n"

noise = st.lists(st.sampled_from(_PIECES) | st.binary(max_size=20), max_size=20).map(lambda some: b"".join(some) + _END)

_METHODS: Final = [
    b"POST", b"GET", b"HEAD", b"PUT", b"OPTIONS", b"PATCH", b"DELETE", b"TRACE", b"post", b"CONNECT", b"X", b"PO ST",
]  # fmt: skip
_VERSIONS: Final = [b"HTTP/1.0", b"HTTP/0.9", b"HTTP/2.0", b"HTTP/1.11", b"HTP/1.1", b""]
_PATHS: Final = [
    PATH + b"/", PATH + b"?a=b", b"/" + PATH, PATH.upper(), b"/webhooks/%73haregram", PATH + b"%00", PATH + b"/..",
    b"http://x" + PATH, b"http://[::1" + PATH, b"//x:99999" + PATH, b"*", b"x:443", b"/%ff%fe", b"/\xc3\xa4", b"/%",
    b"/healthz", b"/readyz", b"/metrics", b"?", b"#", b"/" + b"a" * 9000, b"http://[::1" + b"x" * 300 + b"]/",
]  # fmt: skip
_NAMES: Final = [
    *SIGNATURES, *TIMESTAMPS, b"webhook-id", b"X-Sharegram-Event-Id", b"X-Request-Id", b"traceparent", b"tracestate",
    b"X-Forwarded-For", b"Content-Encoding", b"Content-Type", b"Cookie", b"Expect", b"Range", b"Host", b"Connection",
    b"Upgrade", b"Forwarded", b"Authorization", b"If-Match", b"If-Modified-Since", b"Content-Disposition", b"Date",
    b"Accept-Encoding", b"Content-Length", b"Transfer-Encoding", b"Keep-Alive", b"Sec-WebSocket-Key1", b"Trailer",
]  # fmt: skip
_VALUES: Final = [
    b"", b"0", b"-1", b"+1", b"1_0", b"1e3", b"99999999999999999999", b"\xd9\xa1\xd9\xa2", b"sha256=" + b"0" * 64,
    b"sha256=" + b"\xef\xbc\x90" * 64, b"v1," + b"A" * 43 + b"=", b"v1,\xff", b"v1a,x v1," + b"A" * 43 + b"=",
    b"v1, " * 40, b"chunked", b"gzip", b"identity", b"100-continue", b"close", b"keep-alive", b"upgrade", b"websocket",
    b"h2c", b"::1", b"1.2.3.4, ::ffff:1.2.3.4, x", b",".join([b"1.1.1.1"] * 500), b"text/plain; charset=\xff",
    b"multipart/form-data", b"application/json; charset=nowhere", b"00-" + b"0" * 32 + b"-" + b"0" * 16 + b"-00",
    b"a" * 5000, b"evt\xe2\x80\xae", b"bytes=0-", b"=\"\\", b"\xff\xfe\x80", b"Tue, 99 Nov 0000 00:00:00 GMT",
]  # fmt: skip

_tokens = st.text("abcXYZ019-_.!#$%&'*+^`|~", min_size=1, max_size=8).map(str.encode)
_clean = st.binary(max_size=60).map(lambda some: bytes(byte for byte in some if byte >= 0x20 and byte != 0x7F))
_line = st.tuples(st.sampled_from(_NAMES[:-5]) | _tokens, st.sampled_from(_VALUES) | _clean)
_odd_line = st.tuples(
    st.sampled_from(_NAMES) | st.binary(max_size=8), st.sampled_from(_VALUES) | st.binary(max_size=60)
)


def _mostly(usual: st.SearchStrategy[bytes], odd: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    """Generate mostly usual values: several malformed parts in one request would hide each other."""
    return st.integers(0, 7).flatmap(lambda number: odd if number == 7 else usual)


@st.composite
def _framed(draw: st.DrawFn, content: bytes) -> tuple[Lines, bytes]:
    """Generate header lines with the size of the content, sometimes a wrong one, and the encoded content."""
    if draw(st.booleans()):
        cuts = tuple(draw(st.lists(st.integers(0, 30), max_size=5)))
        return ((b"Transfer-Encoding", b"chunked"),), chunked(content, cuts)
    length = len(content) + draw(st.sampled_from([0] * 8 + [-1, 1, 7, 10**7]))
    return ((b"Content-Length", b"%d" % length),), content


@st.composite
def _unsigned(draw: st.DrawFn) -> bytes:
    framing, content = draw((st.binary(max_size=80) | good_bodies).flatmap(_framed))
    lines: list[tuple[bytes, bytes]] = [(b"Host", b"x"), *framing, *draw(st.lists(_line, max_size=5))]
    if draw(st.integers(0, 7)) == 7:
        lines = draw(st.permutations([*lines, draw(_odd_line)]))
    method = draw(_mostly(st.just(b"POST"), st.sampled_from(_METHODS) | st.binary(min_size=1, max_size=8)))
    path = draw(_mostly(st.just(PATH), st.sampled_from(_PATHS) | st.binary(min_size=1, max_size=40)))
    version = draw(_mostly(st.just(b"HTTP/1.1"), st.sampled_from(_VERSIONS)))
    return head(method, path, tuple(lines), version) + content


unsigned_requests = _unsigned()


@st.composite
def bent(draw: st.DrawFn, request: bytes) -> bytes:
    """Replace, insert, remove or double a few bytes or lines of `request`."""
    for _ in range(draw(st.integers(1, 2))):
        request = draw(draw(st.sampled_from((with_other_bytes, _with_line, _with_line)))(request))
    return request


@st.composite
def with_other_bytes(draw: st.DrawFn, text: bytes) -> bytes:
    """Replace a few bytes of `text` by a few others."""
    position, removed = draw(st.integers(0, len(text))), draw(st.integers(0, 3))
    return text[:position] + draw(st.sampled_from(_PIECES) | st.binary(max_size=4)) + text[position + removed :]


@st.composite
def _with_line(draw: st.DrawFn, request: bytes) -> bytes:
    """Insert a line into the head of `request`: a copy of one of its lines, or another one."""
    end = request.find(_END)
    first, *lines = request[:end].split(b"\r\n")
    name, value = draw(_line | _odd_line)
    line = draw(st.sampled_from([*lines, b"Host: y"]) | st.just(name + b": " + value))
    lines.insert(draw(st.integers(0, len(lines))), line)
    return b"\r\n".join((first, *lines)) + request[end:]
