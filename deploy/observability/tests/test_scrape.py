"""A real Prometheus scrapes all services, while incidents happen that alerts are for.

The rules are those of `alerts.yml`, but for the waits (`for:`), which are a second here. An incident that takes hours
is only in `alerts.test.yml`.
"""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from typing import Any, Final

import aiohttp
import pytest
import yaml
from cryptography.fernet import Fernet

import gateway.app
import kyc_worker.app
import sync_worker.app
import webhook_ingest.app
from gateway.settings import GatewaySettings
from kyc_worker.settings import KycWorkerSettings
from safevideo_common.broker.port import Broker
from safevideo_common.database.engine import Database
from safevideo_common.jobs.model import NewJob
from safevideo_common.jobs.store import admin as job_admin
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_common.performer_sync.request import FETCH_JOB
from safevideo_devstack.backends import process
from safevideo_devstack.backends.ports import free_port
from safevideo_testkit.all_services import SECRET, serving, settings_of
from safevideo_testkit.eventually import eventually
from safevideo_testkit.oracle.stream import write_webhook
from safevideo_testkit.stacks import StackUnderTest
from safevideo_testkit.webhook_sender import post
from sharegram_simulator.settings import SimulatorSettings
from sharegram_simulator.testing import running_simulator
from sync_worker.settings import SyncWorkerSettings
from webhook_ingest.api import PATH
from webhook_ingest.settings import IngestSettings

OBSERVABILITY: Final = Path(__file__).parents[1]
SERVICES: Final = ("webhook-ingest", "gateway", "kyc-worker", "sync-worker")
BAD: Final = {"changes": {"username": 7}}


@dataclass(frozen=True, slots=True)
class Prometheus:
    """A running server, by its HTTP API."""

    url: str
    session: aiohttp.ClientSession

    async def get(self, path: str, **parameters: str) -> Any:
        async with self.session.get(f"{self.url}/api/v1/{path}", params=parameters) as answer:
            body = await answer.json()
        assert body["status"] == "success", (parameters, body)
        return body["data"]

    async def query(self, expression: str) -> list[Any]:
        return list((await self.get("query", query=expression))["result"])

    async def firing(self) -> set[str]:
        alerts = (await self.get("alerts"))["alerts"]
        return {each["labels"]["alertname"] for each in alerts if each["state"] == "firing"}

    async def until_fires(self, alert: str) -> None:
        async def fires() -> bool:
            return alert in await self.firing()

        try:
            await eventually(fires, poll_seconds=0.2)
        except TimeoutError:
            raise AssertionError(f"{alert} does not fire, but {await self.firing()}") from None

    async def until_scraped(self, expression: str, times: int) -> None:
        async def is_scraped() -> bool:
            found = await self.query(f"min(count_over_time({expression}[1m]))")
            return bool(found) and float(found[0]["value"][1]) >= times

        await eventually(is_scraped, poll_seconds=0.2)


@asynccontextmanager
async def running_prometheus(promtool: str, folder: Path, targets: Mapping[str, int]) -> AsyncIterator[Prometheus]:
    """Run the server on the rules of the project. promtool comes with it, in the same folder."""
    rules, count = re.subn(r"\bfor: \w+", "for: 1s", (OBSERVABILITY / "alerts.yml").read_text())
    assert count
    (folder / "alerts.yml").write_text(rules)
    jobs = [{"job_name": name, "static_configs": [{"targets": [f"127.0.0.1:{p}"]}]} for name, p in targets.items()]
    often = {"scrape_interval": "500ms", "scrape_timeout": "500ms", "evaluation_interval": "500ms"}
    config = {"global": often, "rule_files": ["alerts.yml"], "scrape_configs": jobs}
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    port = free_port()
    command = [
        str(Path(promtool).with_name("prometheus")), f"--config.file={folder}/prometheus.yml",
        f"--storage.tsdb.path={folder}/data", f"--web.listen-address=127.0.0.1:{port}",
    ]  # fmt: skip
    server = process.spawn("prometheus", command, folder / "prometheus.log", die_with_parent=True)
    try:
        async with aiohttp.ClientSession() as session:
            yield Prometheus(f"http://127.0.0.1:{port}", session)
    finally:
        await asyncio.to_thread(process.stop, [server], 5.0)


@dataclass(frozen=True, slots=True)
class Site:
    """All services, and what an incident needs."""

    ports: Mapping[str, int]
    database: Database
    session: aiohttp.ClientSession

    async def send(self, performer: str, event_id: str, data: Mapping[str, object], secret: str = SECRET) -> int:
        webhook = write_webhook("performer.profile.updated", event_id, performer, data)
        return await post(self.session, f"http://127.0.0.1:{self.ports['webhook-ingest']}{PATH}", secret, webhook)

    async def enqueue(self, job: NewJob) -> None:
        async with self.database.transaction() as tx:
            await job_admin.enqueue(tx, job)


@asynccontextmanager
async def running_site(
    stack: StackUnderTest, broker: Broker, log: FilteringBoundLogger
) -> AsyncIterator[tuple[Site, AsyncExitStack]]:
    """Run all services; those of the second are stopped when it is closed."""
    refuses = SimulatorSettings.model_validate({"port": 0, "webhook_secret": SECRET})
    async with AsyncExitStack() as opened, AsyncExitStack() as front:
        simulator = await opened.enter_async_context(running_simulator(refuses))
        values = settings_of(stack) | {
            "sharegram_api_url": f"{simulator.base_url}/v1",
            "sharegram_api_key": "a-key-that-sharegram-does-not-know",
            "sharegram_secret_key": "a-secret-that-sharegram-does-not-know",
            "sharegram_webhook_secret": SECRET,
            "encryption_key": Fernet.generate_key().decode(),
            "failed_signatures_burst": 1000,
            "dlq_rate_minimum": 50,
        }
        ingest, gate = IngestSettings.model_validate(values), GatewaySettings.model_validate(values)
        kyc, sync = KycWorkerSettings.model_validate(values), SyncWorkerSettings.model_validate(values)
        apps = {
            "gateway": (gateway.app.build_app(gate, broker, log), gate),
            "kyc-worker": (kyc_worker.app.build_app(kyc, broker, log), kyc),
            "sync-worker": (sync_worker.app.build_app(sync, broker, log), sync),
        }
        ports = {name: await opened.enter_async_context(serving(*each)) for name, each in apps.items()}
        app = webhook_ingest.app.build_app(ingest, broker, log)
        ports["webhook-ingest"] = await front.enter_async_context(serving(app, ingest))
        database = await opened.enter_async_context(Database.open(stack.database_url))
        session = await opened.enter_async_context(aiohttp.ClientSession())
        yield Site(ports, database, session), front


@pytest.mark.parametrize("stack", ["embedded"], indirect=True)
async def test_alerts_fire_on_scraped_metrics_of_their_incidents_and_dashboards_have_data(
    stack: StackUnderTest, broker: Broker, log: FilteringBoundLogger, promtool: str, tmp_path: Path
) -> None:
    folder = tmp_path / "prometheus"
    folder.mkdir()
    async with (
        running_site(stack, broker, log) as (site, front),
        running_prometheus(promtool, folder, site.ports) as prometheus,
    ):
        await until_answers(prometheus)
        await prometheus.until_scraped("up", times=3)
        assert await prometheus.firing() == set()
        name = f"sg_{token_hex(4)}"

        # One incident of each is enough: the first of its kind in a process, so its series must have been there before.
        assert await site.send(name, f"{name}-1", {"changes": {"username": "jane"}}) == 200
        await prometheus.until_fires("SharegramRefusesUs")  # the performer is unknown, so its profile is fetched
        assert await site.send(name, f"{name}-1", {"changes": {"username": "eve"}}) == 200
        await prometheus.until_fires("EventIdConflicts")
        assert await site.send(name, f"{name}-bad", BAD) == 200
        await prometheus.until_fires("DeadLetters")
        await site.enqueue(NewJob(FETCH_JOB, {"performerIds": 7}, runner="sync-worker"))
        await prometheus.until_fires("JobsFailing")

        await site.send(name, f"{name}-forged", BAD, "another-secret")
        await prometheus.until_scraped('safevideo_webhooks_total{outcome=~"signature_.*"}', times=1)
        assert {await site.send(name, f"{name}-f{n}", BAD, "another-secret") for n in range(100)} == {401}
        await prometheus.until_fires("WebhookSignatureFailuresHigh")
        for number in range(60):
            assert await site.send(name, f"{name}-bad-{number}", BAD) == 200
        await prometheus.until_fires("DeadLetterRateHigh")
        await prometheus.until_fires("ConsumerHalted")
        await prometheus.until_fires("EventApplyBudgetBurnsFast")
        await assert_queries_fit_the_series(prometheus)
        await front.aclose()
        await prometheus.until_fires("WebhookIngestDown")
        expected = {
            "SharegramRefusesUs", "EventIdConflicts", "DeadLetters", "JobsFailing", "WebhookSignatureFailuresHigh",
            "DeadLetterRateHigh", "ConsumerHalted", "EventApplyBudgetBurnsFast", "EventApplyBudgetBurns",
            "WebhookIngestDown",
        }  # fmt: skip
        assert await prometheus.firing() - expected == set(), "false alarms"


async def until_answers(prometheus: Prometheus) -> None:
    async def answers() -> bool:
        try:
            await prometheus.query("up")
        except (aiohttp.ClientError, AssertionError):
            return False
        return True

    await eventually(answers, poll_seconds=0.2)


async def assert_queries_fit_the_series(prometheus: Prometheus) -> None:
    """Every query of rules and dashboards can be run, and filters by labels that its series have."""
    rules = yaml.safe_load((OBSERVABILITY / "alerts.yml").read_text())["groups"]
    expressions = [rule["expr"] for group in rules for rule in group["rules"]]
    for path in (OBSERVABILITY / "grafana" / "dashboards").glob("*.json"):
        panels = json.loads(path.read_text())["panels"]
        expressions += [target["expr"] for panel in panels for target in panel.get("targets", [])]
    labels: dict[str, set[str]] = {}
    for series in await prometheus.get("series", **{"match[]": '{__name__=~"safevideo_.*"}'}):
        labels.setdefault(series["__name__"], set()).update(series)
    with_data = 0
    for expression in expressions:
        with_data += bool(await prometheus.query(expression.replace("$__rate_interval", "1m")))
        for metric, matchers in re.findall(r"(safevideo_\w+)\{([^}]*)\}", expression):
            filtered = set(re.findall(r"(\w+)\s*(?:=|!=|=~|!~)\s*\"", matchers))
            assert filtered <= labels.get(metric, filtered), (metric, expression)
    print(f"{with_data} of {len(expressions)} queries had data")
    assert with_data > len(expressions) / 3
