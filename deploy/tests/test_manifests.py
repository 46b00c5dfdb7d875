"""The files that deploy agree with the code, and with each other."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import yaml
from pydantic_settings import BaseSettings

from gateway.settings import GatewaySettings
from kyc_worker.settings import KycWorkerSettings
from safevideo_common.events.topics import PARTITIONS
from sync_worker.settings import SyncWorkerSettings
from webhook_ingest.settings import IngestSettings
from webhook_ingest.spool.corrupt import MAX_BYTES as MAX_CORRUPT_BYTES

ROOT = Path(__file__).parents[2]
KUBERNETES = ROOT / "deploy" / "kubernetes"
COMPOSE = ROOT / "deploy" / "compose" / "compose.yaml"
SETTINGS: dict[str, type[BaseSettings]] = {
    "webhook-ingest": IngestSettings,
    "gateway": GatewaySettings,
    "kyc-worker": KycWorkerSettings,
    "sync-worker": SyncWorkerSettings,
}
MARGIN_SECONDS = 5
MEBIBYTE = 1 << 20
GIBIBYTE = 1 << 30


def documents(folder: Path) -> Iterator[dict[str, Any]]:
    """Yield every resource in a folder of manifests."""
    for path in sorted(folder.glob("*.yaml")):
        if path.name != "kustomization.yaml":
            yield from filter(None, yaml.safe_load_all(path.read_text()))


def closed(schema: Any) -> Any:
    """Return a schema that refuses the fields that it does not name, as `kubectl --validate=strict` does."""
    if isinstance(schema, list):
        return [closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    whole = {name: closed(each) for name, each in schema.items()}
    is_open = {"additionalProperties", "x-kubernetes-preserve-unknown-fields"} & schema.keys()
    has_fields = isinstance(schema.get("properties"), dict) and schema.get("type") == "object"
    return whole | {"additionalProperties": False} if has_fields and not is_open else whole


def literals(kustomization: Path) -> dict[str, str]:
    """Return the settings in the ConfigMap that a kustomization makes."""
    generators = yaml.safe_load(kustomization.read_text())["configMapGenerator"]
    return dict(line.split("=", 1) for each in generators for line in each.get("literals", []))


BASE = list(documents(KUBERNETES / "base"))
CONFIG = literals(KUBERNETES / "base" / "kustomization.yaml")
WORKLOADS = {each["metadata"]["name"]: each for each in BASE if each["kind"] in ("Deployment", "StatefulSet", "Job")}
SERVICES = {name: each["spec"]["template"]["spec"] for name, each in WORKLOADS.items() if name in SETTINGS}
COMPOSED = yaml.safe_load(COMPOSE.read_text())


def stop_seconds(service: str, environment: dict[str, str]) -> float:
    """Return how long the service itself may take to stop."""
    drains = ["READINESS_DRAIN_SECONDS", "SHUTDOWN_SECONDS"]
    return sum(float(environment[name]) for name in drains) + (
        float(environment["SPOOL_DRAIN_SECONDS"]) if service == "webhook-ingest" else 0
    )


@pytest.mark.parametrize("service", SETTINGS)
def test_the_grace_period_is_the_sum_of_what_a_stop_takes(service: str) -> None:
    pod = SERVICES[service]
    (container,) = pod["containers"]
    before = container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
    assert pod["terminationGracePeriodSeconds"] >= before + stop_seconds(service, CONFIG) + MARGIN_SECONDS

    composed = COMPOSED["services"][service]
    assert int(composed["stop_grace_period"].removesuffix("s")) >= (
        stop_seconds(service, composed["environment"]) + MARGIN_SECONDS
    )


@pytest.mark.parametrize("service", SETTINGS)
def test_the_service_stops_in_order_before_the_kernel_kills_it(service: str) -> None:
    limit = SERVICES[service]["containers"][0]["resources"]["limits"]["memory"]
    assert int(limit.removesuffix("Mi")) >= int(CONFIG["MEMORY_LIMIT_MB"]) * 1.25
    composed = COMPOSED["services"][service]
    assert int(composed["mem_limit"].removesuffix("m")) >= int(composed["environment"]["MEMORY_LIMIT_MB"]) * 1.25


def test_a_volume_holds_a_full_spool_an_adopted_one_and_corrupt_records() -> None:
    (claim,) = WORKLOADS["webhook-ingest"]["spec"]["volumeClaimTemplates"]
    size = int(claim["spec"]["resources"]["requests"]["storage"].removesuffix("Gi")) * GIBIBYTE
    assert size >= 2 * int(CONFIG["SPOOL_MAX_BYTES"]) + MAX_CORRUPT_BYTES


def test_a_spool_outlives_its_pod() -> None:
    policy = WORKLOADS["webhook-ingest"]["spec"]["persistentVolumeClaimRetentionPolicy"]
    assert policy == {"whenDeleted": "Retain", "whenScaled": "Retain"}
    assert WORKLOADS["webhook-ingest"]["spec"]["podManagementPolicy"] == "Parallel"


def test_the_spool_of_a_pod_that_is_gone_is_delivered_by_a_job_of_its_own() -> None:
    made = subprocess.run(
        [sys.executable, str(KUBERNETES / "deliver_spool.py"), "2"],
        input=json.dumps(WORKLOADS["webhook-ingest"]),
        stdout=subprocess.PIPE,
        text=True,
        timeout=60,
        check=True,
    )
    job = json.loads(made.stdout)
    pod, service = job["spec"]["template"]["spec"], SERVICES["webhook-ingest"]
    (container,), (deployed,) = pod["containers"], service["containers"]
    same = ("image", "env", "envFrom", "volumeMounts", "securityContext", "resources")
    assert {name: container[name] for name in same} == {name: deployed[name] for name in same}
    assert container["args"] == ["deliver-spool"]
    assert {"name": "spool", "persistentVolumeClaim": {"claimName": "spool-webhook-ingest-2"}} in pod["volumes"]
    selector = WORKLOADS["webhook-ingest"]["spec"]["selector"]["matchLabels"]
    assert not selector.items() <= job["spec"]["template"]["metadata"]["labels"].items()


def test_every_container_is_restricted_and_bounded() -> None:
    for name, workload in WORKLOADS.items():
        pod = workload["spec"]["template"]["spec"]
        assert pod["securityContext"]["runAsNonRoot"], name
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert pod["automountServiceAccountToken"] is False, name
        for container in [*pod.get("initContainers", []), *pod["containers"]]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }, name
            assert container["resources"]["requests"].keys() >= {"cpu", "memory"}, name
            assert "memory" in container["resources"]["limits"], name
            # A configuration error is the last line of the container; this makes it the reason of the pod.
            assert container["terminationMessagePolicy"] == "FallbackToLogsOnError", name


@pytest.mark.parametrize("service", SETTINGS)
def test_every_service_has_probes_and_a_disruption_budget(service: str) -> None:
    (container,) = SERVICES[service]["containers"]
    paths = {name: container[name]["httpGet"]["path"] for name in ("startupProbe", "livenessProbe", "readinessProbe")}
    assert paths == {"startupProbe": "/healthz", "livenessProbe": "/healthz", "readinessProbe": "/readyz"}
    assert container["ports"] == [{"name": "http", "containerPort": SETTINGS[service].model_fields["port"].default}]
    budgets = [each["metadata"]["name"] for each in BASE if each["kind"] == "PodDisruptionBudget"]
    assert service in budgets


def test_all_but_webhook_ingest_wait_for_their_schema() -> None:
    waiting = {
        name
        for name, pod in SERVICES.items()
        if any(each["args"] == ["migrate", "wait"] for each in pod.get("initContainers", []))
    }
    assert waiting == SETTINGS.keys() - {"webhook-ingest"}


def test_workers_scale_between_two_and_what_the_partitions_feed() -> None:
    objects = list(documents(KUBERNETES / "components" / "autoscaling"))
    scaled = [each["spec"] for each in objects if each["kind"] == "ScaledObject"]
    assert len(scaled) == 2
    for spec in scaled:
        assert 2 <= spec["minReplicaCount"] <= spec["maxReplicaCount"] <= PARTITIONS
        assert {each["metadata"]["offsetResetPolicy"] for each in spec["triggers"]} == {"earliest"}
        assert spec["fallback"]["replicas"] >= 2


def test_resources_of_operators_agree_strictly_with_the_schemas_of_these() -> None:
    schemas = {}
    for definition in documents(KUBERNETES / "tests" / "crds"):
        spec = definition["spec"]
        for version in filter(lambda each: each["served"], spec["versions"]):
            key = f"{spec['group']}/{version['name']}", spec["names"]["kind"]
            schemas[key] = closed(version["schema"]["openAPIV3Schema"])
            schemas[key]["properties"]["metadata"] = {"type": "object"}
    checked = set()
    for each in (each for folder in KUBERNETES.glob("components/*") for each in documents(folder)):
        key = each["apiVersion"], each["kind"]
        if "k8s.io" not in key[0] and key[0] != "autoscaling/v2":
            checked.add(key)
            schema = jsonschema_rs.Draft202012Validator(schemas[key])
            assert not [str(error) for error in schema.iter_errors(each)], each["metadata"]["name"]
            assert not schema.is_valid(each | {"spec": each["spec"] | {"no-such-field": 1}})
    assert checked == schemas.keys()


@pytest.mark.parametrize("overlay", ["local", "production"])
def test_each_release_has_a_migration_job_of_its_own(overlay: str) -> None:
    """The name comes from the tag, which the overlay sets last. A Job of the same name could not be applied again."""
    kustomization = yaml.safe_load((KUBERNETES / "overlays" / overlay / "kustomization.yaml").read_text())
    (replacement,) = kustomization["replacements"]
    assert replacement["source"]["name"] == WORKLOADS["migrate-version"]["metadata"]["name"]
    assert replacement["targets"][0]["fieldPaths"] == ["metadata.name"]


def test_secrets_come_by_reference_alone() -> None:
    secret_names = {
        name.upper()
        for settings in SETTINGS.values()
        for name, field in settings.model_fields.items()
        if "Secret" in str(field.annotation)
    }
    for path in [*KUBERNETES.rglob("kustomization.yaml"), COMPOSE]:
        assigned = re.findall(r"^\s*-?\s*([A-Z_]+)[=:]\s*\S", path.read_text(), re.M)
        assert secret_names.isdisjoint(assigned), path
    assert not any(each["kind"] == "Secret" for each in BASE)


def secret_settings(service: str) -> set[str]:
    """Return the settings of a service that are secrets, or that have a key or a password among other things."""
    fields = SETTINGS[service].model_fields
    secrets = {name for name, field in fields.items() if "Secret" in str(field.annotation)}
    return {name.upper() for name in secrets | ({"s3_access_key_id", "sso_providers"} & fields.keys())}


def named_secrets(container: dict[str, Any]) -> tuple[set[str], set[str]]:
    """Return the variables that a container has from the secret: those that must be there, and the others."""
    assert all("secretRef" not in each for each in container.get("envFrom", ())), "this gives it every secret"
    found: tuple[set[str], set[str]] = set(), set()
    for each in container.get("env", ()):
        reference = each["valueFrom"]["secretKeyRef"]
        assert (reference["name"], reference["key"]) == ("safevideo", each["name"])
        found[bool(reference.get("optional"))].add(each["name"])
    return found


@pytest.mark.parametrize("service", SETTINGS)
def test_each_service_has_the_secrets_that_it_reads_and_no_other(service: str) -> None:
    """A pod or container that was taken over gives away what it has."""
    (container,) = SERVICES[service]["containers"]
    required, optional = named_secrets(container)
    assert required == {name.upper() for name in COMPOSED["services"][service]["secrets"]}
    assert required | optional == secret_settings(service)


def test_the_containers_that_prepare_have_one_secret_at_most() -> None:
    of: dict[str, tuple[set[str], set[str]]] = {"topics": (set(), {"KAFKA_PASSWORD"})}
    for workload in WORKLOADS.values():
        pod = workload["spec"]["template"]["spec"]
        for container in [*pod.get("initContainers", ()), *pod["containers"]]:
            if container["name"] not in SETTINGS:
                assert named_secrets(container) == of.get(container["name"], ({"DATABASE_URL"}, set()))
    assert COMPOSED["services"]["migrate"]["secrets"] == ["database_url"]
    assert "secrets" not in COMPOSED["services"]["topics"]


def test_both_deployments_name_who_signs_people_in_and_where_they_come_back_to() -> None:
    names = {"PUBLIC_URL", "SHAREGRAM_ISSUER", "SHAREGRAM_AUDIENCE"}
    assert names <= COMPOSED["services"]["gateway"]["environment"].keys()
    production = literals(KUBERNETES / "overlays" / "production" / "kustomization.yaml")
    assert names <= production.keys()
    host = yaml.safe_load((KUBERNETES / "components" / "ingress" / "ingress.yaml").read_text())["spec"]["rules"][0][
        "host"
    ]
    assert production["PUBLIC_URL"].split(" ")[0] == f"https://{host}"


def test_every_setting_that_is_deployed_exists() -> None:
    known = {name.upper() for settings in SETTINGS.values() for name in settings.model_fields}
    assert CONFIG.keys() - known == set()
    for service, settings in SETTINGS.items():
        composed = COMPOSED["services"][service]
        assert (
            composed["environment"].keys() - {name.upper() for name in settings.model_fields} - {"SHAREGRAM_API_URL"}
            == set()
        ), service
        assert set(composed["secrets"]) <= COMPOSED["secrets"].keys(), service


@pytest.mark.parametrize("service", ["gateway", "kyc-worker"])
def test_who_deletes_documents_may_write_to_their_volume(service: str) -> None:
    (container,) = SERVICES[service]["containers"]
    (mount,) = [each for each in container["volumeMounts"] if each["name"] == "documents"]
    assert not mount.get("readOnly")
    assert mount["mountPath"] == str(KycWorkerSettings.model_fields["upload_dir"].default)


def test_nginx_and_webhook_ingest_take_bodies_of_the_same_size() -> None:
    template = (ROOT / "deploy" / "nginx" / "nginx.conf.template").read_text()
    default = IngestSettings.model_fields["max_webhook_bytes"].default
    assert f"client_max_body_size {default // MEBIBYTE}m;" in template


def test_the_generated_manifests_are_those_of_the_code(tmp_path: Path) -> None:
    components = KUBERNETES / "components"
    for folder in components.iterdir():
        (tmp_path / folder.name).mkdir()
    subprocess.run([sys.executable, ROOT / "tools" / "docs" / "manifests.py", tmp_path], check=True)
    made = {path.relative_to(tmp_path): path.read_text() for path in tmp_path.rglob("*.yaml")}
    assert len(made) == 2
    for path, text in made.items():
        assert (components / path).read_text() == text, "run: make manifests"


def test_the_dashboards_are_those_of_the_catalog(tmp_path: Path) -> None:
    subprocess.run([sys.executable, ROOT / "tools" / "docs" / "dashboards.py", tmp_path], check=True)
    made = {path.name: path.read_text() for path in tmp_path.iterdir()}
    dashboards = ROOT / "deploy" / "observability" / "grafana" / "dashboards"
    assert made == {path.name: path.read_text() for path in dashboards.glob("*.json")}, "run: make manifests"


def test_every_program_has_an_image_and_every_image_is_built() -> None:
    targets = set(re.findall(r"^FROM runtime AS (\S+)", (ROOT / "deploy/docker/Dockerfile").read_text(), re.M))
    (built,) = re.findall(r"^targets=\((.*)\)", (ROOT / "deploy/docker/build.sh").read_text(), re.M)
    assert targets == set(built.split()) == {*SETTINGS, "cli", "simulator"}
    images = [each["image"] for each in COMPOSED["services"].values() if each["image"].startswith("safevideo/")]
    assert {image.split(":")[0].removeprefix("safevideo/") for image in images} == targets
