"""The declaration of a metric, as in `metric_catalog.py`, and the functions that create it in a registry.

Each kind is a type, so a type checker finds a gauge that is used as a counter.
"""

from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram


@dataclass(frozen=True, slots=True)
class Group:
    """Metrics of one section of the list, and the services that export all of them."""

    title: str
    services: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric. The name of a counter ends in `_total`; a unit other than a number is part of the name."""

    group: Group
    name: str
    help: str
    labels: tuple[str, ...] = ()

    @property
    def unit(self) -> str:
        """Return `seconds`, `bytes`, or an empty text where things are counted."""
        measure = self.name.removesuffix("_total")
        return next((unit for unit in ("seconds", "bytes") if measure.endswith(f"_{unit}")), "")


@dataclass(frozen=True, slots=True)
class CounterMetric(Metric):
    """A value that only rises and starts at 0 with the process."""


@dataclass(frozen=True, slots=True)
class GaugeMetric(Metric):
    """A value at the time of the scrape."""


@dataclass(frozen=True, slots=True)
class HistogramMetric(Metric):
    """The number of values up to each of `buckets`; by default those of `prometheus_client`."""

    buckets: tuple[float, ...] = Histogram.DEFAULT_BUCKETS[:-1]  # infinity goes without saying


def counter(metric: CounterMetric, registry: CollectorRegistry) -> Counter:
    """Create the counter `metric`."""
    return Counter(metric.name, metric.help, metric.labels, registry=registry)


def gauge(metric: GaugeMetric, registry: CollectorRegistry) -> Gauge:
    """Create the gauge `metric`."""
    return Gauge(metric.name, metric.help, metric.labels, registry=registry)


def histogram(metric: HistogramMetric, registry: CollectorRegistry) -> Histogram:
    """Create the histogram `metric`."""
    return Histogram(metric.name, metric.help, metric.labels, registry=registry, buckets=metric.buckets)
