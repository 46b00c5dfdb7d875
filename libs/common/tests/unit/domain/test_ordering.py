"""Any events, with versions and without, give the same state in every order of arrival, however often they arrive."""

from collections.abc import Sequence
from functools import reduce
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from safevideo_common.domain import kyc, performers
from safevideo_common.domain.kyc import KycRequest, KycRules, KycStatus, VerificationResult
from safevideo_common.domain.ordering import WriteVersion
from safevideo_common.domain.performers import DEFAULTS, FIELDS, Performer, PerformerPatch

NEW = Performer("sg_1")
REQUEST = KycRequest(id=1, performer_id="sg_1", verification_id="ver_1", status=KycStatus.IN_PROGRESS)

few = st.integers(0, 4)
"""So that equal versions and equal times are frequent."""
write_versions = st.lists(st.tuples(st.none() | few, few), max_size=8).map(
    lambda positions: [WriteVersion(version, at, arrival) for arrival, (version, at) in enumerate(positions)]
)
some_fields = st.dictionaries(st.sampled_from(FIELDS), st.integers(), max_size=4)


@st.composite
def patches(draw: st.DrawFn) -> Sequence[PerformerPatch]:
    """In the provider's order."""
    return [PerformerPatch(draw(some_fields), write_version) for write_version in in_order(draw(write_versions))]


@st.composite
def results(draw: st.DrawFn) -> Sequence[VerificationResult]:
    """Return results in the provider's order; some contradict themselves, or the request."""
    return [
        VerificationResult(
            draw(st.sampled_from(("sg_1", "sg_1", "sg_2"))),
            draw(st.sampled_from(("passed", "review", "failed"))),
            draw(st.none() | st.floats(0, 100)),
            {"seen": str(write_version)},
            write_version,
            reported_failed=draw(st.booleans()),
        )
        for write_version in in_order(draw(write_versions))
    ]


def in_order(versions: Sequence[WriteVersion]) -> Sequence[WriteVersion]:
    """Return the times in their order, then the versions in theirs."""
    return [
        *sorted((each for each in versions if each.version is None), key=lambda each: (each.at_micros, each.arrival)),
        *sorted((each for each in versions if each.version is not None), key=lambda each: (each.version, each.arrival)),
    ]


def performer_after(arrivals: Sequence[PerformerPatch]) -> Performer:
    return reduce(lambda performer, patch: performers.decide(performer, patch)[0], arrivals, NEW)


def request_after(arrivals: Sequence[VerificationResult]) -> KycRequest:
    return reduce(lambda request, result: kyc.decide(request, result, KycRules())[0], arrivals, REQUEST)


@given(patches(), st.randoms())
def test_decide_keeps_the_newest_value_of_each_performer_field_in_any_order(
    story: Sequence[PerformerPatch], random: Random
) -> None:
    arrivals = random.sample(story, len(story))
    fields: dict[str, object] = dict(DEFAULTS)
    writers: dict[str, WriteVersion] = {}
    for patch in story:
        fields |= patch.fields
        writers |= dict.fromkeys(patch.fields, patch.write_version)
    assert performer_after(arrivals) == Performer("sg_1", fields, writers)


@given(patches(), st.randoms())
def test_decide_changes_nothing_when_patches_arrive_again(story: Sequence[PerformerPatch], random: Random) -> None:
    arrivals = random.sample([*story, *story], 2 * len(story))
    assert performer_after(arrivals) == performer_after(story)


@given(patches(), st.randoms())
def test_replay_of_any_events_changes_nothing(story: Sequence[PerformerPatch], random: Random) -> None:
    performer = performer_after(random.sample(story, len(story)))
    for patch in random.choices(story, k=5) if story else ():
        assert performers.decide(performer, patch)[0] == performer


@given(st.permutations([WriteVersion(1, 30), WriteVersion(2, 10, 1), WriteVersion(None, 20, 2)]))
def test_wins_over_is_a_total_order_of_versions_and_times(versions: Sequence[WriteVersion]) -> None:
    first, second, third = versions
    assert first.wins_over(second) is not second.wins_over(first)
    if first.wins_over(second) and second.wins_over(third):
        assert first.wins_over(third)


@given(results(), st.randoms())
def test_decide_keeps_the_newest_valid_result_of_a_kyc_request_in_any_order(
    story: Sequence[VerificationResult], random: Random
) -> None:
    arrivals = random.sample([*story, *story], 2 * len(story))
    ours = [each for each in story if each.performer_id == "sg_1"]
    good = [each for each in ours if each.status == "failed" or not each.reported_failed]
    after = request_after(arrivals)
    assert after == (kyc.decide(REQUEST, good[-1], KycRules())[0] if good else REQUEST)
