"""What is sent to the door, and what it may make of it. `KINDS` is all there is, by name."""

from dataclasses import dataclass
from typing import Final, Literal

from hypothesis import strategies as st

from safevideo_testkit.fuzz.bodies import any_bodies
from safevideo_testkit.fuzz.forgeries import forged_requests
from safevideo_testkit.fuzz.shapes import bent, noise, unsigned_requests
from safevideo_testkit.fuzz.webhooks import Lines, Webhook, good_bodies, on_the_wire, signed

Verdict = Literal["taken", "refused", "either"]


@dataclass(frozen=True, slots=True)
class Case:
    """A request. Whatever the verdict, nothing but `body` may be in the log afterwards, and under `event_id` if set."""

    request: bytes
    verdict: Verdict
    body: bytes | None = None
    event_id: str | None = None


def _case(webhook: Webhook, request: bytes, verdict: Verdict) -> Case:
    return Case(request, verdict, webhook.body, webhook.event_id)


_visible = st.binary(min_size=1, max_size=30).map(lambda some: bytes(0x21 + byte % 0x5E for byte in some))
_harmless: st.SearchStrategy[Lines] = st.lists(
    st.tuples(
        st.sampled_from([b"X-Request-Id", b"traceparent", b"X-Forwarded-For", b"User-Agent", b"Cookie", b"X-Other"]),
        _visible,
    ),
    max_size=4,
    unique_by=lambda line: line[0],
).map(tuple)
_cuts = st.none() | st.lists(st.integers(1, 40), max_size=5).map(tuple)


@st.composite
def _good(draw: st.DrawFn) -> Case:
    webhook = draw(signed(good_bodies))
    return _case(webhook, on_the_wire(webhook, draw(_cuts), draw(_harmless)), "taken")


@st.composite
def _signed_bodies(draw: st.DrawFn) -> Case:
    webhook = draw(signed(any_bodies))
    return _case(webhook, on_the_wire(webhook, draw(_cuts)), "either")


@st.composite
def _bent(draw: st.DrawFn) -> Case:
    webhook = draw(signed(good_bodies))
    return _case(webhook, draw(bent(on_the_wire(webhook, draw(_cuts)))), "either")


KINDS: Final[dict[str, st.SearchStrategy[Case]]] = {
    "noise": noise.map(lambda request: Case(request, "refused")),
    "unsigned": unsigned_requests.map(lambda request: Case(request, "refused")),
    "good": _good(),
    "forged": forged_requests.map(lambda request: Case(request, "refused")),
    "signed-bodies": _signed_bodies(),
    "bent": _bent(),
}
"""`noise`: bytes. `unsigned`: HTTP, well formed or nearly. `good`: must be taken. `forged`: a good one with one thing
changed that counts. `signed-bodies`: rightly signed, with any body. `bent`: a good one, changed anywhere."""
