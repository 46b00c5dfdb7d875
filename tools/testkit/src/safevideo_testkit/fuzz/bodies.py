"""Bodies of all kinds."""

import json
from typing import Final

from hypothesis import strategies as st

from safevideo_testkit.fuzz.shapes import with_other_bytes
from safevideo_testkit.fuzz.webhooks import good_bodies

_scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
_values = st.recursive(
    _scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
_odd = _values | st.sampled_from([
    "0000-01-01T00:00:00Z", "9999-12-31T23:59:59.999999-23:59", "0001-01-01T00:00:00+23:59", "2026-11-24T24:00:00Z",
    "2026-02-30T00:00:00Z", "2026-11-24T12:00:60Z", "2026-11-24T12:00:00", "\ud800", "a" * 129, "\0", "x y", "evt\n",
    "performer.profile.updated", 10**400, -1, "",
])  # fmt: skip
_PARTS: Final[dict[str, list[object]]] = {
    "event": ["never.heard.of", "performer.profile.updated", "kyc.verification.approved"],
    "timestamp": ["2026-11-24T12:00:00Z", "2026-11-24T12:00:00.123456789+05:30", "2999-12-31T23:59:59-12:00"],
    "data": [{}, {"performerId": "sg_1"}, {"verificationId": "v", "performerId": None}],
    "id": ["evt_1", None],
}


@st.composite
def _event_like(draw: st.DrawFn) -> dict[str, object]:
    """Generate an event of which one or two fields do not match the schema."""
    event: dict[str, object] = {name: draw(st.sampled_from(values)) for name, values in _PARTS.items()}
    for name in draw(st.lists(st.sampled_from(sorted(_PARTS)), max_size=2)):
        event[name] = draw(_odd)
    if draw(st.integers(0, 3)) == 3:
        event["data"] = draw(st.dictionaries(st.sampled_from(["performerId", "verificationId", "x"]), _odd))
    return event


_texts = st.builds(
    lambda value, ascii_only: json.dumps(value, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass"),
    _event_like() | _event_like() | _values,
    st.booleans(),
)

_DEEP: Final = 100_000
_START: Final = b'{"event":"never.heard.of","timestamp":"2026-11-24T12:00:00Z","data":'
_bombs = st.sampled_from([
    b"",
    b"NaN",
    b"\xef\xbb\xbf" + _START + b"{}}",
    _START + b"{}}\0",
    _START + b"{}}" * 2,
    b"[" * _DEEP,
    _START + b'{"a":' + b"[" * _DEEP + b"]" * _DEEP + b"}}",
    _START + b'{"a":' * _DEEP + b"1" + b"}" * _DEEP + b"}",
    _START + b'{"a":1' + b"0" * _DEEP + b"}}",
    _START + b'{"a":1e' + b"9" * 400 + b"}}",
    _START + b'{"performerId":"\xed\xa0\x80"}}',
    _START + b'{"performerId":"\\ud800"}}',
    _START + b'{"a":"\xff"}}',
    _START + b'{},"data":{"performerId":"sg_2"}}',
    _START + b'{},"x":"' + b"y" * (1 << 20) + b'"}',
])  # fmt: skip
any_bodies = (
    st.integers(0, 15).flatmap(lambda number: _bombs if number == 15 else _texts)
    | good_bodies.flatmap(with_other_bytes)
    | st.binary(max_size=60)
)
