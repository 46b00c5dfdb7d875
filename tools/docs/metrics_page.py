"""The generator of `docs/metrics.md`: `make metrics-list` runs it, and a test compares page and catalog."""

import sys
from collections.abc import Iterator
from itertools import groupby
from typing import Final

from safevideo_common.observability.metric import CounterMetric, Group, HistogramMetric, Metric
from safevideo_common.observability.metric_catalog import METRICS

HEADING: Final = """\
# Metrics

The metrics that each process exports at `/metrics`, in Prometheus' text format. `make metrics-list` writes this page
from `libs/common/src/safevideo_common/observability/metric_catalog.py`; change that file. A histogram has the series
`_bucket`, `_sum` and `_count`.
[alerts.yml](../deploy/observability/alerts.yml) has the alerts on these metrics. Each alert has a page in the
[runbooks](runbooks/README.md)."""


def metrics_page() -> str:
    """Return the page, with a table for each group, in the order of the catalog."""
    tables = [_table(group, metrics) for group, metrics in groupby(METRICS, lambda metric: metric.group)]
    return "\n\n".join([HEADING, *tables]) + "\n"


def _table(group: Group, metrics: Iterator[Metric]) -> str:
    heading = f"## {group.title}\n\nExported by {', '.join(group.services)}.\n"
    return "\n".join(
        [heading, "| name | kind | labels | unit | meaning |", "| --- | --- | --- | --- | --- |", *map(_row, metrics)]
    )


def _row(metric: Metric) -> str:
    labels = ", ".join(f"`{label}`" for label in metric.labels)
    return f"| `{metric.name}` | {_kind(metric)} | {labels} | {metric.unit} | {metric.help}{_bounds(metric)} |"


def _kind(metric: Metric) -> str:
    if isinstance(metric, CounterMetric):
        return "counter"
    return "histogram" if isinstance(metric, HistogramMetric) else "gauge"


def _bounds(metric: Metric) -> str:
    return (
        f" Buckets from {metric.buckets[0]:g} to {metric.buckets[-1]:g}." if isinstance(metric, HistogramMetric) else ""
    )


if __name__ == "__main__":
    sys.stdout.write(metrics_page())
