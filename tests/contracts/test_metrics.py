"""The list of metrics is what the processes export, what the page says, and what alerts and runbooks ask for."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from aiohttp import web
from cryptography.fernet import Fernet

import gateway.app
import kyc_worker.app
import sync_worker.app
import webhook_ingest.app
from gateway.settings import GatewaySettings
from kyc_worker.settings import KycWorkerSettings
from safevideo_common.broker.open import open_broker
from safevideo_common.broker.port import Broker
from safevideo_common.database.migrate import migrate
from safevideo_common.events.topics import all_topics
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_common.observability.metric import CounterMetric, HistogramMetric, Metric
from safevideo_common.observability.metric_catalog import METRICS
from safevideo_common.settings import CommonSettings
from safevideo_testkit.http import running
from sync_worker.settings import SyncWorkerSettings
from webhook_ingest.settings import IngestSettings

ROOT = Path(__file__).parents[2]
SERVICES = sorted({service for metric in METRICS for service in metric.group.services})


def kind_of(metric: Metric) -> str:
    if isinstance(metric, CounterMetric):
        return "counter"
    return "histogram" if isinstance(metric, HistogramMetric) else "gauge"


def settings_in(folder: Path) -> dict[str, object]:
    """No real backend is needed: the log and the database are files, and nobody asks Redis."""
    return {
        "host": "127.0.0.1",
        "port": 0,
        "safevideo_env": "development",
        "database_url": f"sqlite+aiosqlite:///{folder}/safevideo.db",
        "redis_url": "redis://127.0.0.1:1",
        "kafka_bootstrap_servers": "",
        "sharegram_webhook_secret": "the-secret-of-these-tests",
        "encryption_key": Fernet.generate_key().decode(),
        "spool_dir": str(folder / "spool"),
    }


def app_of(
    service: str, given: dict[str, object], broker: Broker, log: FilteringBoundLogger
) -> tuple[web.Application, CommonSettings]:
    settings: CommonSettings
    match service:
        case "gateway":
            settings = GatewaySettings.model_validate(given)
            return gateway.app.build_app(settings, broker, log), settings
        case "kyc-worker":
            settings = KycWorkerSettings.model_validate(given)
            return kyc_worker.app.build_app(settings, broker, log), settings
        case "sync-worker":
            settings = SyncWorkerSettings.model_validate(given)
            return sync_worker.app.build_app(settings, broker, log), settings
        case _:
            settings = IngestSettings.model_validate(given)
            return webhook_ingest.app.build_app(settings, broker, log), settings


@pytest.mark.parametrize("service", SERVICES)
async def test_a_running_service_exports_what_is_on_the_list_for_it_and_nothing_else(
    service: str, tmp_path: Path, log: FilteringBoundLogger
) -> None:
    given = settings_in(tmp_path)
    await migrate(str(given["database_url"]))
    async with open_broker("", tmp_path / "log") as broker:
        await broker.create_topics(all_topics())
        app, settings = app_of(service, given, broker, log)
        async with running(app, settings) as api:
            text = (await api.get("/metrics")).body.decode()
    exported = dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE))
    listed = {metric.name: kind_of(metric) for metric in METRICS if service in metric.group.services}
    assert {name: kind for name, kind in exported.items() if not name.endswith("_created")} == listed


def test_every_name_is_of_the_form_that_prometheus_asks_for() -> None:
    names = [metric.name for metric in METRICS]
    assert sorted(set(names)) == sorted(names)
    assert [name for name in names if not re.fullmatch(r"safevideo(_[a-z]+)+", name)] == []
    assert [
        metric.name for metric in METRICS if metric.name.endswith("_total") != isinstance(metric, CounterMetric)
    ] == []


def test_no_process_makes_a_metric_past_the_list() -> None:
    sources = [*ROOT.glob("libs/*/src/**/*.py"), *ROOT.glob("services/*/src/**/*.py")]
    quoting = {path.name for path in sources if re.search(r"[\"']safevideo_[a-z]+_[a-z_]+[\"']", path.read_text())}
    assert quoting - {"metric_catalog.py"} == set()


def test_every_metric_that_an_alert_asks_for_is_on_the_list() -> None:
    assert (
        set(re.findall(r"\bsafevideo_\w+", (ROOT / "deploy/observability/alerts.yml").read_text())) - series() == set()
    )


@pytest.mark.parametrize(
    "document", [pytest.param(path, id=path.name) for path in (ROOT / "docs" / "runbooks").glob("*.md")]
)
def test_every_metric_that_a_runbook_names_is_on_the_list_or_the_beginning_of_some(document: Path) -> None:
    named = set(re.findall(r"\bsafevideo_\w+", document.read_text()))
    assert [name for name in named if not any(f"{each}_".startswith(f"{name}_") for each in series())] == []


def series() -> set[str]:
    histograms = [metric.name for metric in METRICS if isinstance(metric, HistogramMetric)]
    parts = {f"{name}_{part}" for name in histograms for part in ("bucket", "sum", "count")}
    return {metric.name for metric in METRICS} | parts


def test_the_page_of_the_metrics_is_what_the_list_says() -> None:
    made = subprocess.run(
        [sys.executable, ROOT / "tools" / "docs" / "metrics_page.py"], capture_output=True, text=True, check=True
    ).stdout
    assert (ROOT / "docs" / "metrics.md").read_text() == made, "run: make metrics-list"
