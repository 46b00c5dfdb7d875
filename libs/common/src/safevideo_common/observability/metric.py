"""What a metric is before a process counts it: its entry in `metric_list.py`. A function makes it count.

The kinds are types, so that a checker sees a gauge that is taken for a counter.
"""

from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram


@dataclass(frozen=True, slots=True)
class Group:
    """Metrics that stand together in the list, and the services that export every one of them."""

    title: str
    services: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Metric:
    """One name, as it is exported: a counter ends in `_total`, a unit other than a number is part of the name."""

    group: Group
    name: str
    says: str
    labels: tuple[str, ...] = ()

    @property
    def unit(self) -> str:
        """`seconds` or `bytes`; empty where things are counted."""
        measure = self.name.removesuffix("_total")
        return next((unit for unit in ("seconds", "bytes") if measure.endswith(f"_{unit}")), "")


@dataclass(frozen=True, slots=True)
class CounterMetric(Metric):
    """Only rises; begins at 0 with the process."""


@dataclass(frozen=True, slots=True)
class GaugeMetric(Metric):
    """As it is now."""


@dataclass(frozen=True, slots=True)
class HistogramMetric(Metric):
    """How many values were at most so large, for each of `buckets`; by default those of `prometheus_client`."""

    buckets: tuple[float, ...] = Histogram.DEFAULT_BUCKETS[:-1]  # infinity goes without saying


def counter(metric: CounterMetric, registry: CollectorRegistry) -> Counter:
    """`metric`, counted from now on."""
    return Counter(metric.name, metric.says, metric.labels, registry=registry)


def gauge(metric: GaugeMetric, registry: CollectorRegistry) -> Gauge:
    """`metric`, shown from now on."""
    return Gauge(metric.name, metric.says, metric.labels, registry=registry)


def histogram(metric: HistogramMetric, registry: CollectorRegistry) -> Histogram:
    """`metric`, observed from now on."""
    return Histogram(metric.name, metric.says, metric.labels, registry=registry, buckets=metric.buckets)
