"""Generated requests and their expected results. `KINDS` has all kinds by name."""

from dataclasses import dataclass
from typing import Final, Literal

from hypothesis import strategies as st

from safevideo_testkit.fuzz.bodies import any_bodies
from safevideo_testkit.fuzz.forgeries import forged_requests
from safevideo_testkit.fuzz.shapes import bent, noise, unsigned_requests
from safevideo_testkit.fuzz.webhooks import Lines, Webhook, good_bodies, on_the_wire, signed

Expectation = Literal["accepted", "rejected", "either"]


@dataclass(frozen=True, slots=True)
class Case:
    """A request. In every case only `body` may be published, with `event_id` if that is set."""

    request: bytes
    expectation: Expectation
    body: bytes | None = None
    event_id: str | None = None


def _case(webhook: Webhook, request: bytes, expectation: Expectation) -> Case:
    return Case(request, expectation, webhook.body, webhook.event_id)


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
    return _case(webhook, on_the_wire(webhook, draw(_cuts), draw(_harmless)), "accepted")


@st.composite
def _signed_bodies(draw: st.DrawFn) -> Case:
    webhook = draw(signed(any_bodies))
    return _case(webhook, on_the_wire(webhook, draw(_cuts)), "either")


@st.composite
def _bent(draw: st.DrawFn) -> Case:
    webhook = draw(signed(good_bodies))
    return _case(webhook, draw(bent(on_the_wire(webhook, draw(_cuts)))), "either")


KINDS: Final[dict[str, st.SearchStrategy[Case]]] = {
    "noise": noise.map(lambda request: Case(request, "rejected")),
    "unsigned": unsigned_requests.map(lambda request: Case(request, "rejected")),
    "good": _good(),
    "forged": forged_requests.map(lambda request: Case(request, "rejected")),
    "signed-bodies": _signed_bodies(),
    "bent": _bent(),
}
"""`noise`: bytes. `unsigned`: HTTP, well formed or nearly. `good`: must be accepted. `forged`: a good one with one
relevant change. `signed-bodies`: validly signed, with any body. `bent`: a good one, changed anywhere."""
