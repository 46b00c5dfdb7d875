"""The alerts: they are well formed, fire when they shall, and lead to a page."""

import re
import subprocess
from pathlib import Path

from safevideo_common.observability.metric_catalog import METRICS

ROOT = Path(__file__).parents[3]
ALERTS = ROOT / "deploy" / "observability" / "alerts.yml"
HERE = Path(__file__).parent
RULES = ALERTS.read_text()


def test_the_rules_are_well_formed(promtool: str) -> None:
    checked = subprocess.run([promtool, "check", "rules", ALERTS], check=False, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_each_alert_fires_when_it_shall(promtool: str) -> None:
    command = [promtool, "test", "rules", str(HERE / "alerts.test.yml")]
    tested = subprocess.run(command, check=False, capture_output=True, text=True)
    assert tested.returncode == 0, tested.stdout + tested.stderr


def test_each_alert_is_tested() -> None:
    alerts = set(re.findall(r"alert: (\w+)", RULES))
    assert alerts == set(re.findall(r"alertname: (\w+)", (HERE / "alerts.test.yml").read_text()))


def test_each_alert_leads_to_a_page_that_names_it() -> None:
    pages = dict(zip(re.findall(r"alert: (\w+)", RULES), re.findall(r"runbook: (\S+)", RULES), strict=True))
    assert [alert for alert, page in pages.items() if alert not in (ROOT / page).read_text()] == []
    assert {Path(page).name for page in pages.values()} <= set(
        re.findall(r"\((\S+\.md)\)", (ROOT / "docs" / "runbooks" / "README.md").read_text())
    )


def test_each_alert_asks_for_metrics_that_exist_and_are_recorded() -> None:
    asked = {re.sub("_(bucket|sum|count)$", "", name) for name in re.findall(r"safevideo_\w+", RULES)}
    assert asked <= {metric.name for metric in METRICS}
    recorded = set(re.findall(r"record: (\S+)", RULES))
    assert set(re.findall(r"slo:[\w:]+", RULES)) == recorded
