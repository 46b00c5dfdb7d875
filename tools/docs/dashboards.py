"""The generator of the Grafana dashboards: `make manifests` runs it. Argument: the folder for the files.

Each metric of the catalog has a panel on the dashboard of its service, so a new metric shows without further work. The
dashboard `webhook-way` has the few numbers that say whether webhooks get through.
"""

import json
import sys
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, Final, NamedTuple

from safevideo_common.observability.metric import CounterMetric, Group, HistogramMetric, Metric
from safevideo_common.observability.metric_catalog import METRICS

COLUMNS: Final = 3
WIDTH: Final = 24 // COLUMNS
HEIGHT: Final = 7
DATASOURCE: Final = {"type": "prometheus", "uid": "prometheus"}
RATE: Final = "$__rate_interval"


class Query(NamedTuple):
    """An expression of PromQL and the name of its lines."""

    expression: str
    legend: str


class Panel(NamedTuple):
    """A graph."""

    title: str
    help: str
    queries: Sequence[Query]
    unit: str = "short"


class Row(NamedTuple):
    """A heading and the graphs below it."""

    title: str
    panels: Sequence[Panel]


def panel_of(metric: Metric) -> Panel:
    """Return the graph of a metric: a counter's rate, a histogram's median and 99th percentile, a gauge's worst."""
    by = ", ".join(metric.labels)
    legend = " ".join(f"{{{{{label}}}}}" for label in metric.labels) or "all"
    if isinstance(metric, CounterMetric):
        return Panel(metric.name, metric.help, [Query(f"sum by ({by}) (rate({metric.name}[{RATE}]))", legend)])
    if isinstance(metric, HistogramMetric):
        label = ", ".join(("le", *metric.labels[:1]))
        first = f" {{{{{metric.labels[0]}}}}}" if metric.labels else ""
        queries = [
            Query(
                f"histogram_quantile({quantile}, sum by ({label}) (rate({metric.name}_bucket[{RATE}])))",
                f"p{quantile * 100:g}{first}",
            )
            for quantile in (0.5, 0.99)
        ]
        return Panel(metric.name, metric.help, queries, _unit(metric))
    return Panel(metric.name, metric.help, [Query(f"max by ({by}) ({metric.name})", legend)], _unit(metric))


def _unit(metric: Metric) -> str:
    if metric.name.endswith("_timestamp_seconds"):
        return "dateTimeFromNow"
    return {"seconds": "s", "bytes": "bytes"}.get(metric.unit, "short")


def webhook_way() -> list[Row]:
    """Return the rows of the dashboard that one looks at first."""
    webhooks = "safevideo_webhooks_total"
    return [
        Row(
            "From Sharegram to the database",
            [
                Panel(
                    "Webhooks accepted and rejected",
                    "At webhook-ingest, by outcome.",
                    [Query(f"sum by (outcome) (rate({webhooks}[{RATE}]))", "{{outcome}}")],
                ),
                Panel(
                    "Waiting on local disks",
                    "Events in the spools while Kafka is unavailable.",
                    [Query("sum(safevideo_spool_events)", "events")],
                ),
                Panel(
                    "Waiting in Kafka",
                    "Records that the workers have not processed.",
                    [Query("sum by (topic) (safevideo_consumer_lag_records)", "{{topic}}")],
                ),
                Panel(
                    "What became of the events",
                    "At the workers, by outcome.",
                    [Query(f"sum by (outcome) (rate(safevideo_events_total[{RATE}]))", "{{outcome}}")],
                ),
                Panel(
                    "Applied within 5 s of the receipt",
                    "Share of the accepted webhooks; the objective is 99 %.",
                    [
                        Query(
                            f'sum(rate(safevideo_event_latency_seconds_bucket{{le="5.0"}}[{RATE}]))'
                            f' / sum(rate({webhooks}{{outcome="accepted"}}[{RATE}]))',
                            "applied",
                        )
                    ],
                    "percentunit",
                ),
                Panel(
                    "Answers of webhook-ingest",
                    "Time to the answer.",
                    [
                        Query(
                            "histogram_quantile(0.99, sum by (le) (rate("
                            f'safevideo_http_request_duration_seconds_bucket{{route="/webhooks/sharegram"}}[{RATE}])))',
                            "p99",
                        )
                    ],
                    "s",
                ),
                Panel(
                    "Answers of the gateway",
                    "By status.",
                    [
                        Query(
                            "sum by (status) (rate(safevideo_http_request_duration_seconds_count"
                            f'{{route=~"/(api|auth)/.*"}}[{RATE}]))',
                            "{{status}}",
                        )
                    ],
                ),
            ],
        )
    ]


def catalog_rows(services: Sequence[str]) -> Iterator[Row]:
    """Yield a row for each group of metrics that one of `services` exports."""

    def group_of(metric: Metric) -> Group:
        return metric.group

    for group, metrics in groupby(METRICS, group_of):
        if set(group.services) & set(services):
            yield Row(group.title, [panel_of(metric) for metric in metrics])


def dashboards() -> dict[str, str]:
    """Return the text of each file by its name."""
    boards = {
        "webhook-way": ("The way of a webhook", webhook_way()),
        "webhook-ingest": ("webhook-ingest", list(catalog_rows(["webhook-ingest"]))),
        "workers": ("kyc-worker and sync-worker", list(catalog_rows(["kyc-worker", "sync-worker"]))),
        "gateway": ("gateway", list(catalog_rows(["gateway"]))),
    }
    return {f"{uid}.json": _text(uid, title, rows) for uid, (title, rows) in boards.items()}


def _text(uid: str, title: str, rows: Sequence[Row]) -> str:
    board = {
        "uid": f"safevideo-{uid}",
        "title": title,
        "tags": ["safevideo"],
        "timezone": "utc",
        "editable": False,
        "schemaVersion": 41,
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "panels": list(_placed(rows)),
    }
    return json.dumps(board, indent=1) + "\n"


def _placed(rows: Sequence[Row]) -> Iterator[dict[str, Any]]:
    top, number = 0, 0
    for row in rows:
        number += 1
        yield {
            "id": number,
            "type": "row",
            "title": row.title,
            "collapsed": False,
            "gridPos": {"x": 0, "y": top, "w": 24, "h": 1},
            "panels": [],
        }
        top += 1
        for position, panel in enumerate(row.panels):
            number += 1
            place = {"x": position % COLUMNS * WIDTH, "y": top + position // COLUMNS * HEIGHT, "w": WIDTH, "h": HEIGHT}
            yield _panel(number, panel, place)
        top += -(-len(row.panels) // COLUMNS) * HEIGHT


def _panel(number: int, panel: Panel, place: dict[str, int]) -> dict[str, Any]:
    return {
        "id": number,
        "type": "timeseries",
        "title": panel.title,
        "description": panel.help,
        "datasource": DATASOURCE,
        "gridPos": place,
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "targets": [
            {"refId": chr(ord("A") + index), "expr": query.expression, "legendFormat": query.legend}
            for index, query in enumerate(panel.queries)
        ],
    }


def main() -> None:
    """Write the files."""
    for name, text in dashboards().items():
        (Path(sys.argv[1]) / name).write_text(text)


if __name__ == "__main__":
    main()
