"""Good webhooks with one change in something that the signature covers or depends on. None may be accepted."""

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from hypothesis import strategies as st

from safevideo_testkit.fuzz.webhooks import (
    SIGNATURES,
    TIMESTAMPS,
    Lines,
    Webhook,
    by_sharegram,
    by_standard,
    good_bodies,
    ids,
    on_the_wire,
    seconds_from_now,
    signed,
)

Forgery = Callable[[st.DrawFn, Webhook], Webhook]
WRONG: Final = b"a-secret-of-nobody"
_ARABIC: Final = {ord("0") + digit: 0x660 + digit for digit in range(10)}
"""Digits that `int()` and `\\d` accept."""


def _flipped(draw: st.DrawFn, value: bytes) -> bytes:
    at = draw(st.sampled_from([0, len(value) - 1]) | st.integers(0, len(value) - 1))
    bits = draw(st.sampled_from([0x01, 0x20, 0x80]) | st.integers(1, 255))
    return value[:at] + bytes([value[at] ^ bits]) + value[at + 1 :]


def _another_body(draw: st.DrawFn, webhook: Webhook) -> Webhook:
    return replace(webhook, body=_flipped(draw, webhook.body))


def _shorter_or_longer(draw: st.DrawFn, webhook: Webhook) -> Webhook:
    at = draw(st.integers(0, len(webhook.body) - 1))
    return replace(webhook, body=draw(st.sampled_from([webhook.body[:at], webhook.body + b"\n", b" " + webhook.body])))


def _another_signature(draw: st.DrawFn, webhook: Webhook) -> Webhook:
    return webhook.with_value(SIGNATURES, _flipped(draw, webhook.value_of(SIGNATURES)))


def _written_otherwise(draw: st.DrawFn, webhook: Webhook) -> Webhook:
    """Return the valid signature in a form that a lenient parser would accept."""
    value = webhook.value_of(SIGNATURES)
    forms = _forms_of_standard(value) if webhook.event_id else _forms_of_sharegram(value)
    return webhook.with_value(SIGNATURES, draw(st.sampled_from(forms)))


def _forms_of_sharegram(value: bytes) -> list[bytes]:
    name, digest = value.split(b"=")
    return [digest, name + b"=" + digest.upper(), name.upper() + b"=" + digest, name + b"= " + digest, value + b","]


def _forms_of_standard(value: bytes) -> list[bytes]:
    same_bytes = bytes([value[-2] + 1]) + b"="  # two bits of the last character encode nothing
    unpadded, overfull, bare = value[:-1], value + b"=", value.removeprefix(b"v1,")
    return [unpadded, overfull, bare, b"V1," + bare, value[:-2] + same_bytes, value + b"  " + value, value + b","]


def _no_signature(_draw: st.DrawFn, webhook: Webhook) -> Webhook:
    return replace(webhook, lines=tuple(line for line in webhook.lines if line[0] not in SIGNATURES))


def _signature_twice(draw: st.DrawFn, webhook: Webhook) -> Webhook:
    again = next(line for line in webhook.lines if line[0] in SIGNATURES)
    other = (again[0], draw(st.sampled_from([again[1], b"", b"sha256=" + b"0" * 64, _flipped(draw, again[1])])))
    return _with_lines(webhook, draw(st.permutations([*webhook.lines, other])))


def _wrong_secret(draw: st.DrawFn, webhook: Webhook) -> Webhook:
    return draw(st.sampled_from([by_sharegram(webhook.body, WRONG), by_standard(webhook.body, key=WRONG)]))


def _wrong_in_the_other_scheme(draw: st.DrawFn, webhook: Webhook) -> Webhook:
    """A further signature is claimed, by one of its headers or all, and does not hold: the good one saves nothing."""
    other = by_sharegram(webhook.body, WRONG) if webhook.event_id else by_standard(webhook.body, key=WRONG)
    names = {name for name, _ in webhook.lines}
    added = [line for line in other.lines if line[0] not in names]
    return _with_lines(webhook, draw(st.permutations([*webhook.lines, *added])))


def _renamed(draw: st.DrawFn, webhook: Webhook) -> Webhook:
    """Add an unsigned id to a delivery whose signature covers its id."""
    webhook = by_standard(webhook.body)
    fresh = draw(ids.filter(lambda text: text != webhook.event_id)).encode()
    return draw(st.sampled_from([
        webhook.with_value((b"webhook-id",), fresh),
        replace(webhook, lines=(*webhook.lines, (b"X-Sharegram-Event-Id", fresh))),
        replace(webhook, lines=((b"webhook-id", fresh), *webhook.lines)),
    ]))  # fmt: skip


def _other_time(draw: st.DrawFn, webhook: Webhook) -> Webhook:
    """Sign a timestamp that is too old, too new, or not in unix seconds."""
    seconds = draw(st.integers(400, 10**9)) * draw(st.sampled_from([1, -1]))
    now = seconds_from_now(0)
    arabic = now.decode().translate(_ARABIC).encode()
    odd = [b"+" + now, now + b".0", now[:1] + b"_" + now[1:], now + b"e0", b"0000" + now, arabic, b"-1", b"", b"now"]
    timestamp = draw(st.just(seconds_from_now(seconds)) | st.sampled_from(odd))
    if webhook.event_id:
        return by_standard(webhook.body, webhook.event_id, timestamp=timestamp)
    return by_sharegram(webhook.body, timestamp=timestamp)


def _moved_time(draw: st.DrawFn, webhook: Webhook) -> Webhook:
    """Replace the signed timestamp by another valid one."""
    return by_standard(webhook.body).with_value(TIMESTAMPS, seconds_from_now(draw(st.integers(5, 200))))


def _moved_boundary(draw: st.DrawFn, webhook: Webhook) -> Webhook:
    """Split the signed text at other places into id, time and body: `a`, `1`, `2.b` and `a.1`, `2`, `b`."""
    now = seconds_from_now(0)
    good = by_standard(now + b"." + webhook.body, "evt", timestamp=now)
    return replace(good.with_value((b"webhook-id",), b"evt." + now), body=webhook.body)


def _compressed(draw: st.DrawFn, webhook: Webhook) -> Webhook:
    encoding = draw(st.sampled_from([b"gzip", b"br", b"deflate", b"identity, gzip", b"zstd"]))
    return replace(webhook, lines=(*webhook.lines, (b"Content-Encoding", encoding)))


def _with_lines(webhook: Webhook, lines: list[tuple[bytes, bytes]]) -> Webhook:
    ordered: Lines = tuple(lines)
    return replace(webhook, lines=ordered)


FORGERIES: Final[tuple[Forgery, ...]] = (
    _another_body, _shorter_or_longer, _another_signature, _written_otherwise, _no_signature, _signature_twice,
    _renamed, _wrong_secret, _wrong_in_the_other_scheme, _other_time, _moved_time, _moved_boundary, _compressed,
)  # fmt: skip


@st.composite
def _forged(draw: st.DrawFn) -> bytes:
    forgery = draw(st.sampled_from(FORGERIES))
    return on_the_wire(forgery(draw, draw(signed(good_bodies))))


forged_requests = _forged()
