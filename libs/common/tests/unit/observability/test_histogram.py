"""Ours says at `/metrics` just what the one of the client library says."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Histogram, generate_latest

from safevideo_common.observability.histogram import LoopHistogram

BUCKETS = (0.001, 0.01, 0.1, 1.0)


def lines(registry: CollectorRegistry) -> list[str]:
    return [line for line in generate_latest(registry).decode().splitlines() if "_created" not in line]


@given(st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from([0.0, 0.001, 0.0011, 0.5, 1.0, 7.0])), max_size=50))
def test_it_looks_like_the_librarys_own(observed: list[tuple[str, float]]) -> None:
    theirs, ours = CollectorRegistry(), CollectorRegistry()
    one = Histogram("seconds", "Says.", ("stage",), registry=theirs, buckets=BUCKETS)
    other = LoopHistogram("seconds", "Says.", ("stage",), BUCKETS, ours)
    for stage, value in observed:
        one.labels(stage).observe(value)
        other.labels(stage).observe(value)
    assert lines(ours) == lines(theirs)


def test_a_label_too_few_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="stage"):
        LoopHistogram("seconds", "Says.", ("stage",), BUCKETS, CollectorRegistry()).labels()
