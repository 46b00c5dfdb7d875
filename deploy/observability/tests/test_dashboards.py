"""The dashboards: every query is valid, asks for metrics that exist, and no metric of ours is missing."""

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

from safevideo_common.observability.metric import HistogramMetric
from safevideo_common.observability.metric_catalog import METRICS

ROOT = Path(__file__).parents[3]
DASHBOARDS = ROOT / "deploy" / "observability" / "grafana" / "dashboards"


def queries() -> Iterator[str]:
    """Yield the expression of every graph."""
    for path in DASHBOARDS.glob("*.json"):
        for panel in json.loads(path.read_text())["panels"]:
            yield from (target["expr"] for target in panel.get("targets", []))


def base_name(series: str) -> str:
    """Return the metric of a series: a histogram's without its suffix."""
    histograms = {metric.name for metric in METRICS if isinstance(metric, HistogramMetric)}
    stem = re.sub("_(bucket|sum|count)$", "", series)
    return stem if stem in histograms else series


def test_dashboards_and_catalog_have_the_same_metrics() -> None:
    named = {base_name(series) for query in queries() for series in re.findall(r"safevideo_\w+", query)}
    assert named == {metric.name for metric in METRICS}


def test_each_query_is_valid(promtool: str, tmp_path: Path) -> None:
    # promtool checks expressions in rules; a dashboard's variable is no duration to it.
    rules = [
        {"record": f"dashboard:{number}", "expr": query.replace("$__rate_interval", "5m")}
        for number, query in enumerate(queries())
    ]
    path = tmp_path / "rules.yml"
    path.write_text(json.dumps({"groups": [{"name": "dashboards", "rules": rules}]}))
    checked = subprocess.run([promtool, "check", "rules", path], check=False, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout + checked.stderr
