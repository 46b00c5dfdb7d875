"""The manifests on a real Kubernetes of one node, with Kafka, MariaDB and Redis beside it: `make kubernetes-test`.

`run.sh` starts it inside of a sandbox, with the images of this checkout as version `one`, and again as version `two`,
whose command line has one migration more. A provider sends webhooks all the time. At the end each webhook that was
answered 200 must have been applied once, in order, as the reference model says.
"""

import asyncio
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from secrets import token_hex, token_urlsafe
from typing import Any, Final

import aiohttp
import pytest
from cryptography.fernet import Fernet

from safevideo_common.broker.open import open_broker
from safevideo_common.database.engine import Database
from safevideo_common.database.schema import revision
from safevideo_testkit.backends_for_containers import BackendsForContainers, backends_for_containers
from safevideo_testkit.broker_helpers import end_offsets
from safevideo_testkit.eventually import eventually, running_task
from safevideo_testkit.oracle.checks import (
    PUBLISHED_TOPICS,
    count_events,
    count_repeated_changes,
    ingest_differences,
    insert_requests,
)
from safevideo_testkit.oracle.stream import write_stream
from safevideo_testkit.oracle.system import WEBHOOK_TOPICS, System
from safevideo_testkit.simulator_control import Provider
from sharegram_simulator.settings import SimulatorSettings
from sharegram_simulator.testing import running_simulator

NODE: Final = "198.51.100.1"
DELIVER_SPOOL: Final = Path(__file__).parents[1] / "deliver_spool.py"
NAMESPACE: Final = "safevideo-local"
SERVICES: Final = {
    "webhook-ingest": "statefulset",
    "gateway": "deployment",
    "kyc-worker": "deployment",
    "sync-worker": "deployment",
}
CLAIMS: Final = {"documents": 1, "spool-webhook-ingest-0": 5, "spool-webhook-ingest-1": 5}
"""The volumes that the manifests claim, in GiB."""
EVENTS: Final = int(os.environ.get("CLUSTER_EVENTS", "10000"))
PERFORMERS: Final = 100
PER_SECOND: Final = float(os.environ.get("CLUSTER_EVENTS_PER_SECOND", "20"))
ROLLOUT_SECONDS: Final = 420
SECRET: Final = token_urlsafe(24)
KEYS: Final = {"api_key": token_urlsafe(), "secret_key": token_urlsafe()}

OVERLAY = """\
apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
resources: [../local]
images:
{images}
replacements:
{replacements}
replicas:
{replicas}
patches:
  - target: {{ kind: "Deployment|StatefulSet" }} # two cores are all that this node has
    patch: '[{{ "op": "replace", "path": "/spec/template/spec/containers/0/resources/requests/cpu", "value": "50m" }}]'
"""
REPLACEMENT = """\
  - source:
      kind: Job
      fieldPath: spec.template.spec.containers.[name=migrate].image
      options: { delimiter: ":", index: 1 }
    targets: [{ select: { kind: Job }, fieldPaths: [metadata.name], options: { delimiter: "-", index: 1 } }]"""


@dataclass(slots=True)
class Cluster:
    """What an operator does with kubectl, in a copy of `deploy/kubernetes`."""

    folder: Path
    lines: list[str] = field(default_factory=list)
    began: float = field(default_factory=time.monotonic)

    def say(self, text: str) -> None:
        """Print a line of the report."""
        self.lines.append(f"{time.monotonic() - self.began:4.0f} s  {text}")
        print(self.lines[-1], flush=True)

    def kubectl(self, *arguments: str, stdin: str = "", check: bool = True) -> str:
        """Run it in our namespace and return what it prints."""
        command = ["kubectl", f"--namespace={NAMESPACE}", *arguments]
        done = subprocess.run(
            command, check=False, input=stdin, capture_output=True, text=True, timeout=ROLLOUT_SECONDS + 60
        )
        assert not check or not done.returncode, f"{arguments}: {done.stdout}{done.stderr}"
        return done.stdout + (done.stderr if done.returncode else "")

    async def run(self, *arguments: str, stdin: str = "", check: bool = True) -> str:
        """Run kubectl beside the event loop."""
        return await asyncio.to_thread(self.kubectl, *arguments, stdin=stdin, check=check)

    async def get(self, *arguments: str) -> Any:
        """Return a resource, or the list of them."""
        return json.loads(await self.run("get", *arguments, "--output=json"))

    async def pods(self, name: str = "") -> list[dict[str, Any]]:
        """Return the pods of one service, or of all, without those that are stopping."""
        of = [f"--selector=app.kubernetes.io/name={name}"] if name else []
        found = (await self.get("pods", *of))["items"]
        return [each for each in found if "deletionTimestamp" not in each["metadata"]]

    def write_overlay(self, version: str, *, replicas: int = 2) -> None:
        """Write an overlay above `local`: images of this machine and two replicas."""
        names = [*SERVICES, "cli"]
        images = [f"  - {{ name: safevideo/{n}, newName: localhost/safevideo/{n}, newTag: {version} }}" for n in names]
        counts = [f"  - {{ name: {name}, count: {replicas} }}" for name in SERVICES]
        (self.folder / "overlays" / "test").mkdir(exist_ok=True)
        (self.folder / "overlays" / "test" / "kustomization.yaml").write_text(
            OVERLAY.format(images="\n".join(images), replacements=REPLACEMENT, replicas="\n".join(counts))
        )

    async def apply(self, version: str) -> str:
        """Apply a version as the README says, and return what kubectl says."""
        self.write_overlay(version)
        return await self.run("apply", "--kustomize", str(self.folder / "overlays" / "test"))

    async def generations(self) -> dict[str, int]:
        """Return the number of the last change of each workload."""
        found = (await self.get("deployments,statefulsets,jobs"))["items"]
        return {each["metadata"]["name"]: each["metadata"]["generation"] for each in found}

    async def rolled_out(self, *names: str) -> None:
        """Wait until each service runs its new version."""
        await asyncio.gather(
            *(self.run("rollout", "status", f"{SERVICES[n]}/{n}", f"--timeout={ROLLOUT_SECONDS}s") for n in names)
        )

    async def metric(self, pod: dict[str, Any], name: str) -> float:
        """Return a metric of a pod; 0 if it has none or does not answer."""
        port = pod["spec"]["containers"][0]["ports"][0]["containerPort"]
        url = f"http://{pod['status'].get('podIP', '')}:{port}/metrics"
        try:
            async with (
                aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as session,
                session.get(url) as answer,
            ):
                lines = (await answer.text()).splitlines()
        except (aiohttp.ClientError, TimeoutError, ValueError):
            return 0.0
        return sum(float(line.split()[-1]) for line in lines if line.startswith((f"{name} ", f"{name}{{")))


def offer_volumes(cluster: Cluster, folder: Path) -> None:
    """Offer the volumes that a provisioner would make, as folders of this node."""
    made = []
    for name, gibibytes in CLAIMS.items():
        path = folder / name
        path.mkdir(parents=True)
        made.append(
            {
                "apiVersion": "v1",
                "kind": "PersistentVolume",
                "metadata": {"name": name},
                "spec": {
                    "capacity": {"storage": f"{gibibytes}Gi"},
                    "accessModes": ["ReadWriteOnce"],
                    "persistentVolumeReclaimPolicy": "Retain",
                    "claimRef": {"namespace": NAMESPACE, "name": name},
                    "local": {"path": str(path)},
                    "nodeAffinity": {
                        "required": {
                            "nodeSelectorTerms": [
                                {
                                    "matchExpressions": [
                                        {"key": "kubernetes.io/hostname", "operator": "In", "values": ["sandbox"]}
                                    ]
                                }
                            ]
                        }
                    },
                },
            }
        )
    cluster.kubectl("apply", "--filename=-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": made}))


def write_settings(cluster: Cluster, backends: BackendsForContainers, sharegram_url: str) -> None:
    """Write the two files that the overlay `local` asks for."""
    local = cluster.folder / "overlays" / "local"
    kafka, database, redis = backends.settings.values()
    settings = {"KAFKA_BOOTSTRAP_SERVERS": kafka, "SHAREGRAM_API_URL": sharegram_url, "SAFEVIDEO_ENV": "development"}
    secrets = {
        "DATABASE_URL": database,
        "REDIS_URL": redis,
        "ENCRYPTION_KEY": Fernet.generate_key().decode(),
        "JWT_SECRET": token_urlsafe(48),
        "SHAREGRAM_API_KEY": KEYS["api_key"],
        "SHAREGRAM_SECRET_KEY": KEYS["secret_key"],
        "SHAREGRAM_WEBHOOK_SECRET": SECRET,
    }
    for path, values in ((local / "backends.env", settings), (local / "secret.env", secrets)):
        path.write_text("".join(f"{name}={value}\n" for name, value in values.items()))


@asynccontextmanager
async def load(cluster: Cluster, provider: Provider, what: str) -> AsyncIterator[None]:
    """Say what went wrong for the provider during the block."""
    failures, answered, began = dict(provider.failures), len(provider.answered), time.monotonic()
    yield
    failed = {name: n - failures.get(name, 0) for name, n in provider.failures.items() if n > failures.get(name, 0)}
    cluster.say(
        f"{what}: {time.monotonic() - began:.0f} s, {len(provider.answered) - answered} webhooks answered 200, "
        f"failed attempts: {failed or 'none'}"
    )


async def _has_applied(database: Database) -> bool:
    return await count_events(database, status="applied") > 0


async def _schema(backends: BackendsForContainers) -> str | None:
    url = backends.settings["DATABASE_URL"]
    async with Database.open(url, timeout=60.0) as database, database.read_connection() as connection:
        return await connection.run_sync(revision)


async def _rolling_update_of_all_services_with_a_migration(
    cluster: Cluster, backends: BackendsForContainers, provider: Provider
) -> None:
    before = await _schema(backends)
    await cluster.apply("two")
    await cluster.run("wait", "--for=condition=complete", "job/migrate-two", "--timeout=300s")
    await cluster.rolled_out(*SERVICES)
    assert await _schema(backends) != before
    assert {_version(pod) for name in SERVICES for pod in await cluster.pods(name)} == {"two"}


async def _rollback_to_the_former_release_on_the_new_tables(
    cluster: Cluster, backends: BackendsForContainers, provider: Provider
) -> None:
    tables = await _schema(backends)
    await cluster.apply("one")
    await cluster.rolled_out(*SERVICES)
    assert await _schema(backends) == tables
    assert {_version(pod) for name in SERVICES for pod in await cluster.pods(name)} == {"one"}


async def _restart_of_each_service_in_turn(
    cluster: Cluster, backends: BackendsForContainers, provider: Provider
) -> None:
    for name, kind in SERVICES.items():
        await cluster.run("rollout", "restart", f"{kind}/{name}")
        await cluster.rolled_out(name)


async def _release_with_a_wrong_setting_stops_itself(
    cluster: Cluster, backends: BackendsForContainers, provider: Provider
) -> None:
    await cluster.run("set", "env", "deployment/sync-worker", "deployment/gateway", "DATABASE_URL=postgres://x")
    reasons: set[str] = set()

    async def is_said() -> bool:
        for name in ("sync-worker", "gateway"):
            for pod in await cluster.pods(name):
                for kind in ("initContainerStatuses", "containerStatuses"):
                    for each in pod["status"].get(kind, []):
                        ended = each["lastState"].get("terminated") or each["state"].get("terminated") or {}
                        if "DATABASE_URL" in ended.get("message", "").rstrip().rpartition("\n")[2]:
                            reasons.add(name)
        return reasons == {"sync-worker", "gateway"}

    await eventually(is_said, ROLLOUT_SECONDS, 1.0)
    for name in ("sync-worker", "gateway"):
        assert sum(map(_is_ready, await cluster.pods(name))) == 2, "the old pods go on"
    await cluster.run("rollout", "undo", "deployment/sync-worker")
    await cluster.run("rollout", "undo", "deployment/gateway")
    await cluster.rolled_out("sync-worker", "gateway")


async def _kill_of_a_pod_whose_spool_is_filled_while_kafka_is_down(
    cluster: Cluster, backends: BackendsForContainers, provider: Provider
) -> None:
    await asyncio.to_thread(backends.kafka.kill)
    await provider.until_answered(len(provider.answered) + 200)
    pod = await _fullest(cluster)
    spooled = await cluster.metric(pod, "safevideo_spool_events")
    name = pod["metadata"]["name"]
    await cluster.run("delete", "pod", name, "--grace-period=0", "--force")
    await _replaced(cluster, pod)
    await cluster.rolled_out("webhook-ingest")
    await asyncio.to_thread(backends.kafka.start)
    await _spools_are_empty(cluster)
    cluster.say(f"    {name} was killed with {spooled:.0f} events in its spool")
    assert spooled > 20


async def _each_pod_is_evicted_under_its_disruption_budget(
    cluster: Cluster, backends: BackendsForContainers, provider: Provider
) -> None:
    refused = 0
    for name in SERVICES:
        for pod in await cluster.pods(name):
            pod_name = pod["metadata"]["name"]
            eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod_name}}
            path = f"/api/v1/namespaces/{NAMESPACE}/pods/{pod_name}/eviction"
            deadline = time.monotonic() + ROLLOUT_SECONDS
            while True:
                said = await cluster.run(
                    "create", "--raw", path, "--filename=-", stdin=json.dumps(eviction), check=False
                )
                if "disruption budget" not in said:
                    break
                refused += 1
                assert time.monotonic() < deadline, said
                await asyncio.sleep(1)
            assert "Success" in said, said
    for name in SERVICES:
        await cluster.rolled_out(name)
    cluster.say(f"    the budgets refused an eviction {refused} times until the pod before was replaced")
    assert refused


async def _kafka_is_down_during_a_roll_of_webhook_ingest_and_a_worker(
    cluster: Cluster, backends: BackendsForContainers, provider: Provider
) -> None:
    await asyncio.to_thread(backends.kafka.kill)
    await cluster.run("rollout", "restart", "statefulset/webhook-ingest", "deployment/sync-worker")
    await cluster.rolled_out("webhook-ingest")
    await asyncio.to_thread(backends.kafka.start)
    await cluster.rolled_out("sync-worker")
    await _spools_are_empty(cluster)


async def _scale_in_while_kafka_is_down_and_deliver_what_the_pod_left(
    cluster: Cluster, backends: BackendsForContainers, provider: Provider
) -> None:
    await asyncio.to_thread(backends.kafka.kill)
    await provider.until_answered(len(provider.answered) + 200)
    last = max(await cluster.pods("webhook-ingest"), key=lambda pod: str(pod["metadata"]["name"]))
    name = last["metadata"]["name"]
    spooled = await cluster.metric(last, "safevideo_spool_events")
    await cluster.run("scale", "statefulset/webhook-ingest", "--replicas=1")
    await cluster.run("wait", "--for=delete", f"pod/{name}", "--timeout=120s")
    await asyncio.to_thread(backends.kafka.start)
    assert (await cluster.get("persistentvolumeclaim", f"spool-{name}"))["status"]["phase"] == "Bound"
    orphaned = await _orphaned_events(cluster, lambda events: events > 0)
    number = name.rpartition("-")[2]
    statefulset = await cluster.run("get", "statefulset", "webhook-ingest", "--output=json")
    job = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, str(DELIVER_SPOOL), number],
        input=statefulset,
        stdout=subprocess.PIPE,
        text=True,
        timeout=60,
        check=True,
    )
    await cluster.run("apply", "--filename=-", stdin=job.stdout)
    await cluster.run("wait", "--for=condition=complete", f"job/deliver-spool-{number}", "--timeout=180s")
    await _orphaned_events(cluster, lambda events: events == 0)
    cluster.say(
        f"    {name} left {spooled:.0f} events or more on its volume, a gateway counted {orphaned:.0f} of them"
        f" and a Job delivered them"
    )
    await cluster.run("scale", "statefulset/webhook-ingest", "--replicas=2")
    await cluster.rolled_out("webhook-ingest")
    await _spools_are_empty(cluster)
    assert orphaned >= spooled > 20


async def _orphaned_events(cluster: Cluster, is_expected: Callable[[float], bool]) -> float:
    found = 0.0

    async def has_them() -> bool:
        nonlocal found
        found = await cluster.metric((await cluster.pods("gateway"))[0], "safevideo_spool_orphaned_events")
        return is_expected(found)

    await eventually(has_them, ROLLOUT_SECONDS, 1.0)
    return found


SCENARIOS: Final = (
    _rolling_update_of_all_services_with_a_migration,
    _rollback_to_the_former_release_on_the_new_tables,
    _restart_of_each_service_in_turn,
    _release_with_a_wrong_setting_stops_itself,
    _kill_of_a_pod_whose_spool_is_filled_while_kafka_is_down,
    _each_pod_is_evicted_under_its_disruption_budget,
    _kafka_is_down_during_a_roll_of_webhook_ingest_and_a_worker,
    _scale_in_while_kafka_is_down_and_deliver_what_the_pod_left,
)


def _version(pod: dict[str, Any]) -> str:
    return str(pod["spec"]["containers"][0]["image"]).rpartition(":")[2]


def _is_ready(pod: dict[str, Any]) -> bool:
    return any(each["type"] == "Ready" and each["status"] == "True" for each in pod["status"].get("conditions", []))


async def _fullest(cluster: Cluster) -> dict[str, Any]:
    pods = await cluster.pods("webhook-ingest")
    events = [await cluster.metric(pod, "safevideo_spool_events") for pod in pods]
    return max(zip(events, pods, strict=True), key=lambda each: each[0])[1]


async def _replaced(cluster: Cluster, pod: dict[str, Any]) -> None:
    """Return when a pod of the same name has come in its place."""
    name, uid = pod["metadata"]["name"], pod["metadata"]["uid"]

    async def is_new() -> bool:
        found = json.loads(await cluster.run("get", "pods", "--output=json"))["items"]
        return any(each["metadata"]["name"] == name and each["metadata"]["uid"] != uid for each in found)

    await eventually(is_new, ROLLOUT_SECONDS, 0.5)


async def _spools_are_empty(cluster: Cluster) -> None:
    async def are_empty() -> bool:
        pods = await cluster.pods("webhook-ingest")
        return not any([await cluster.metric(pod, "safevideo_spool_events") for pod in pods])

    await eventually(are_empty, ROLLOUT_SECONDS, 1.0)


async def _show_state(cluster: Cluster) -> None:
    """Print what helps to understand a failure."""
    for command in (["get", "pods,jobs,pvc", "--output=wide"], ["get", "events", "--sort-by=.lastTimestamp"]):
        print("\n".join((await cluster.run(*command, check=False)).splitlines()[-40:]))
    for pod in await cluster.pods():
        name = pod["metadata"]["name"]
        containers = [each["name"] for each in pod["spec"].get("initContainers", []) + pod["spec"]["containers"]]
        for container in containers:
            for previous in ("--previous", "--previous=false"):
                log = await cluster.run("logs", name, "-c", container, "--tail=12", previous, check=False)
                print(f"-- {name} {container} {previous}\n{log[-2500:]}")


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[BackendsForContainers]:
    with backends_for_containers(tmp_path / "backends", NODE) as running:
        yield running


async def test_webhooks_survive_releases_kills_evictions_and_outages(
    servers: BackendsForContainers, tmp_path: Path
) -> None:
    cluster = Cluster(tmp_path / "kubernetes")
    shutil.copytree(Path(__file__).parents[1], cluster.folder, ignore=shutil.ignore_patterns("tests"))
    simulator_settings = SimulatorSettings.model_validate({"host": NODE, "port": 0, "webhook_secret": SECRET, **KEYS})
    offer_volumes(cluster, tmp_path / "volumes")
    async with running_simulator(simulator_settings) as simulator:
        write_settings(cluster, servers, f"{simulator.base_url}/v1")
        try:
            await _release_and_faults(cluster, servers)
        except BaseException:
            await _show_state(cluster)
            raise


async def _release_and_faults(cluster: Cluster, backends: BackendsForContainers) -> None:
    settings = backends.settings
    await cluster.apply("one")
    await cluster.run("wait", "--for=condition=complete", "job/migrate-one", "--timeout=300s")
    cluster.say("the first release: topics and tables are made")
    await cluster.rolled_out(*SERVICES)
    cluster.say("the first release: two replicas of each service are ready")
    before = await cluster.generations()
    await cluster.apply("one")
    assert await cluster.generations() == before
    cluster.say("the second `apply` of the same release changes no workload")

    service = await cluster.get("service", "webhook-ingest")
    url = f"http://{service['spec']['clusterIP']}:3001/webhooks/sharegram"
    stream = write_stream(performers=PERFORMERS, events=EVENTS, seed=7, prefix=f"sg_{token_hex(4)}")
    provider = Provider(url, SECRET, stream.stories, per_second=PER_SECOND)
    servers = settings["KAFKA_BOOTSTRAP_SERVERS"]
    async with (
        open_broker(servers, None) as broker,
        Database.open(settings["DATABASE_URL"], timeout=180.0) as database,
    ):
        begins = [await end_offsets(broker, topics) for topics in (WEBHOOK_TOPICS, PUBLISHED_TOPICS)]
        system = System(broker, database, servers, begins[0], begins[1])
        await insert_requests(database, stream.performers)
        async with running_task(provider.send_all()):
            await provider.until_answered(50)
            await eventually(lambda: _has_applied(database), ROLLOUT_SECONDS)
            cluster.say("the first webhooks are applied")
            for scenario in SCENARIOS:
                async with load(cluster, provider, scenario.__name__.strip("_").replace("_", " ")):
                    await scenario(cluster, backends, provider)
            answered = len(provider.answered)
            await provider.until_answered(answered + 50)
        sent = set(provider.answered)
        await system.wait_until_settled(deliveries=len(sent))
        records = await system.records()
        wrong = list(ingest_differences(stream.by_id, sent, records))
        comparison = await system.compare(stream)
        wrong += comparison.differences
        cluster.say(
            f"{len(sent)} webhooks answered 200, {len(comparison.expected.inbox)} events in the inbox, "
            f"{count_repeated_changes(comparison.published)} changes published again, {len(wrong)} differences; "
            f"failed at two attempts in a row: {len(provider.failed_twice)}; the slowest answer after "
            f"{provider.slowest_seconds:.1f} s"
        )
        assert not wrong, "\n".join(wrong)
        assert not provider.failed_twice
