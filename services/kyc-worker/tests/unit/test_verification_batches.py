"""The result of verification events does not depend on batches, order and redeliveries."""

from collections.abc import Sequence
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from kyc_worker.verifications.handler import KycRequestStates, VerificationEvent, VerificationHandler
from safevideo_common.clock import utc_now
from safevideo_common.domain.kyc import KycRequest, KycRules, KycStatus, VerificationResult
from safevideo_common.domain.ordering import WriteVersion
from safevideo_common.events.envelope import Envelope

REQUESTS = {
    f"ver_{number}": KycRequest(number, f"sg_{number}", f"ver_{number}", KycStatus.IN_PROGRESS) for number in (1, 2, 3)
}
finding = st.tuples(
    st.integers(1, 3), st.sampled_from(("passed", "review", "failed")), st.none() | st.floats(0, 100), st.booleans()
)

CAUSE = Envelope("evt", "kyc.verification.completed", utc_now())


def after(events: Sequence[VerificationEvent], cuts: Sequence[int]) -> dict[str, KycRequest]:
    """Return the requests after `events`, in batches that end at `cuts`."""
    handler = VerificationHandler(utc_now, KycRules())
    current = dict(REQUESTS)
    for start, end in zip([0, *cuts], [*cuts, len(events)], strict=True):
        states = KycRequestStates.of(current)
        for event in events[start:end]:
            handler.decide(states, event)
        current |= {name: states.current[name] for name in states.changed}
    return current


@given(st.lists(finding, max_size=10), st.randoms())
def test_result_does_not_depend_on_batches_and_order(
    findings: Sequence[tuple[int, str, float | None, bool]], random: Random
) -> None:
    events = [
        VerificationEvent(
            f"ver_{number}",
            VerificationResult(f"sg_{number}", status, score, {}, WriteVersion(None, at), reported_failed),
            CAUSE,
        )
        for at, (number, status, score, reported_failed) in enumerate(findings)
    ]
    arrivals = random.sample([*events, *events], 2 * len(events))
    cuts = sorted(random.sample(range(len(arrivals) + 1), random.randint(0, len(arrivals))))
    assert after(arrivals, cuts) == after(events, range(1, len(events) + 1)) == after(events, [])
