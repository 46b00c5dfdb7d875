"""The result of performer events does not depend on batches, order and redeliveries."""

from collections.abc import Sequence
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from safevideo_common.clock import utc_now
from safevideo_common.domain.ordering import WriteVersion
from safevideo_common.domain.performers import FIELDS, Performer, PerformerPatch
from safevideo_common.events.envelope import Envelope
from sync_worker.performers.handler import PerformerEvent, PerformerHandler, PerformerStates

names = st.sampled_from(("sg_1", "sg_2", "sg_3"))
patched = st.tuples(names, st.dictionaries(st.sampled_from(FIELDS), st.integers(), max_size=4))

CAUSE = Envelope("evt", "performer.profile.updated", utc_now())


class NoCache:
    async def invalidate(self, performer_ids: object) -> None:
        raise AssertionError("nothing is committed here")


def after(events: Sequence[PerformerEvent], cuts: Sequence[int]) -> dict[str, Performer]:
    """Return the performers after `events`, in batches that end at `cuts`."""
    handler = PerformerHandler(utc_now, NoCache())
    current: dict[str, Performer] = {}
    for start, end in zip([0, *cuts], [*cuts, len(events)], strict=True):
        states = PerformerStates({}, dict(current))
        for event in events[start:end]:
            handler.decide(states, event)
        current |= {name: states.current[name] for name in states.changed}
    return current


@given(st.lists(patched, max_size=10), st.randoms())
def test_result_does_not_depend_on_batches_and_order(
    writes: Sequence[tuple[str, dict[str, object]]], random: Random
) -> None:
    events = [
        PerformerEvent(name, PerformerPatch(fields, WriteVersion(version, 0)), CAUSE)
        for version, (name, fields) in enumerate(writes)
    ]
    arrivals = random.sample([*events, *events], 2 * len(events))
    cuts = sorted(random.sample(range(len(arrivals) + 1), random.randint(0, len(arrivals))))
    assert after(arrivals, cuts) == after(events, range(1, len(events) + 1)) == after(events, [])
