"""The lag metrics of a consumer, by partition."""

from time import time

import pytest
from prometheus_client import CollectorRegistry

from safevideo_common.broker.types import Record, TopicPartition
from safevideo_common.inbox.metrics import ConsumerMetrics

ZERO, ONE = TopicPartition("events", 0), TopicPartition("events", 1)


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def metrics(registry: CollectorRegistry) -> ConsumerMetrics:
    return ConsumerMetrics(registry)


def test_lag_seconds_is_the_age_of_the_latest_processed_record(
    metrics: ConsumerMetrics, registry: CollectorRegistry
) -> None:
    metrics.batch([record(ZERO, age=900), record(ZERO, age=600), record(ONE, age=30)], seconds=0.1)
    metrics.lag({ZERO: 5, ONE: 0})
    assert behind(registry, ZERO) == pytest.approx(600, abs=5)
    assert behind(registry, ONE) == 0


def test_lag_seconds_is_unknown_before_the_first_record(metrics: ConsumerMetrics, registry: CollectorRegistry) -> None:
    metrics.lag({ZERO: 5})
    assert behind(registry, ZERO) is None


def test_lag_of_a_lost_partition_is_removed(metrics: ConsumerMetrics, registry: CollectorRegistry) -> None:
    metrics.batch([record(ZERO, age=600)], seconds=0.1)
    metrics.lag({ZERO: 5})
    metrics.lag({ONE: 0})
    assert behind(registry, ZERO) is None
    metrics.lag({ZERO: 5})  # won again: the other may have applied more meanwhile
    assert behind(registry, ZERO) is None


def record(partition: TopicPartition, age: float) -> Record:
    return Record(*partition, 0, int((time() - age) * 1000), b"", b"", ())


def behind(registry: CollectorRegistry, partition: TopicPartition) -> float | None:
    labels = {"topic": partition.topic, "partition": str(partition.partition)}
    return registry.get_sample_value("safevideo_consumer_lag_seconds", labels)
