"""Whatever the order in which events arrive: those with distinct stamps end in the one state that the stamps demand."""

from collections.abc import Sequence
from functools import reduce
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from safevideo_common.domain import kyc, performers
from safevideo_common.domain.kyc import KycRequest, KycStatus, VerificationResult
from safevideo_common.domain.ordering import WriteVersion
from safevideo_common.domain.performers import DEFAULTS, FIELDS, Performer, PerformerPatch

NEW = Performer("sg_1")
REQUEST = KycRequest(id=1, performer_id="sg_1", verification_id="ver_1", status=KycStatus.IN_PROGRESS)

stamps = st.lists(st.integers(0, 10**6), max_size=8, unique=True).flatmap(
    # By versions, whatever the times say; by the times, where there is no version; of equal ones by the arrival.
    lambda places: st.sampled_from(
        (
            [WriteVersion(place, at_micros=-place) for place in places],
            [WriteVersion(None, at_micros=place) for place in places],
            [WriteVersion(7, at_micros=-place, arrival=place) for place in places],
            [WriteVersion(None, at_micros=7, arrival=place) for place in places],
        )
    )
)
some_fields = st.dictionaries(st.sampled_from(FIELDS), st.integers(), max_size=4)


@st.composite
def patches(draw: st.DrawFn) -> Sequence[PerformerPatch]:
    """In the provider's order."""
    return [PerformerPatch(draw(some_fields), stamp) for stamp in in_order(draw(stamps))]


@st.composite
def verdicts(draw: st.DrawFn) -> Sequence[VerificationResult]:
    """In the provider's order; some contradict themselves, or the request."""
    return [
        VerificationResult(
            draw(st.sampled_from(("sg_1", "sg_1", "sg_2"))),
            draw(st.sampled_from(("passed", "review", "failed"))),
            draw(st.none() | st.floats(0, 100)),
            {"seen": str(stamp)},
            stamp,
            says_failed=draw(st.booleans()),
        )
        for stamp in in_order(draw(stamps))
    ]


def in_order(places: Sequence[WriteVersion]) -> Sequence[WriteVersion]:
    return sorted(
        places, key=lambda stamp: (stamp.at_micros if stamp.version is None else stamp.version, stamp.arrival)
    )


def performer_after(arrivals: Sequence[PerformerPatch]) -> Performer:
    return reduce(lambda performer, patch: performers.decide(performer, patch)[0], arrivals, NEW)


def request_after(arrivals: Sequence[VerificationResult]) -> KycRequest:
    return reduce(lambda request, verdict: kyc.decide(request, verdict, 80)[0], arrivals, REQUEST)


@given(patches(), st.randoms())
def test_each_field_of_a_performer_is_what_its_newest_patch_says(
    story: Sequence[PerformerPatch], random: Random
) -> None:
    arrivals = random.sample(story, len(story))
    fields: dict[str, object] = dict(DEFAULTS)
    writers: dict[str, WriteVersion] = {}
    for patch in story:
        fields |= patch.fields
        writers |= dict.fromkeys(patch.fields, patch.stamp)
    assert performer_after(arrivals) == Performer("sg_1", fields, writers)


@given(patches(), st.randoms())
def test_patches_that_arrive_again_at_any_time_change_nothing(story: Sequence[PerformerPatch], random: Random) -> None:
    arrivals = random.sample([*story, *story], 2 * len(story))
    assert performer_after(arrivals) == performer_after(story)


@given(verdicts(), st.randoms())
def test_a_request_is_what_its_newest_verdict_says_that_does_not_contradict(
    story: Sequence[VerificationResult], random: Random
) -> None:
    arrivals = random.sample([*story, *story], 2 * len(story))
    good = [each for each in story if each.performer_id == "sg_1" and (not each.says_failed or each.status == "failed")]
    after = request_after(arrivals)
    assert after == (kyc.decide(REQUEST, good[-1], 80)[0] if good else REQUEST)
