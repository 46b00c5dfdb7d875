"""The stack `docker`: one container a backend, through testcontainers, on an engine of this machine."""

import os
import secrets
import socket
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from safevideo_devstack.backends import state
from safevideo_devstack.backends.external import probe_backends
from safevideo_devstack.backends.ports import allocate_ports
from safevideo_devstack.backends.stack import Backends, BackendUnavailable, Options, Ports, Say

if TYPE_CHECKING:
    from testcontainers.core.container import DockerContainer

KAFKA_IMAGE = "apache/kafka:4.3.1"
MYSQL_IMAGE = "mysql:8.4"
REDIS_IMAGE = "redis:7"
SOCKET = Path("/var/run/docker.sock")
READY_SECONDS = 120.0


def start_docker(folder: Path, options: Options, say: Say) -> Backends:
    """Start three containers.

    Raises `BackendUnavailable` without an engine or images, `BackendFailed` when a container does not answer in time.
    """
    _require_engine()
    if options.brokers != 1:
        raise BackendUnavailable("it has one broker only")
    ports = allocate_ports(options)
    state.begin(folder, "docker", replace(options, ports=ports))
    say(f"Starting {KAFKA_IMAGE}, {MYSQL_IMAGE} and {REDIS_IMAGE} …")
    password = secrets.token_hex(16)
    _start(folder, ports, password, options)
    kafka, redis = f"127.0.0.1:{ports.kafka[0]}", f"redis://127.0.0.1:{ports.redis}"
    database = f"mysql+aiomysql://root:{password}@127.0.0.1:{ports.mysql}/safevideo?charset=utf8mb4"
    return Backends("docker", kafka, database, redis, probe_backends(kafka, database, redis, READY_SECONDS))


def remove(containers: Iterable[str]) -> None:
    """Remove containers and their volumes, also those of a run that crashed."""
    import docker

    with closing(docker.from_env()) as engine:
        for container in containers:
            try:
                engine.containers.get(container).remove(force=True, v=True)
            except docker.errors.NotFound:
                continue  # the reaper was here first


def running(containers: Sequence[str]) -> dict[str, bool]:
    """Return whether each container runs, by its id."""
    if not containers:
        return {}
    import docker

    with closing(docker.from_env()) as engine:
        up = {container.id for container in engine.containers.list()}
    return {container: container in up for container in containers}


def _require_engine() -> None:
    if "DOCKER_HOST" not in os.environ and not SOCKET.exists():
        raise BackendUnavailable(f"no engine: neither DOCKER_HOST nor {SOCKET}")
    _check_socket(os.environ.get("DOCKER_HOST", f"unix://{SOCKET}"))
    try:
        import docker
        import testcontainers.core  # noqa: F401 - fails when it is missing

        with closing(docker.from_env(timeout=5)) as engine:
            engine.ping()
    except ImportError as error:
        raise BackendUnavailable("the package testcontainers is missing; type: pip install testcontainers") from error
    except docker.errors.DockerException as error:
        raise BackendUnavailable("the engine does not answer") from error


def _check_socket(address: str) -> None:
    # Before the real client: that one leaks its socket when the connection is refused.
    scheme, _, path = address.partition("://")
    if scheme != "unix":
        return
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(5)
            connection.connect(path)
    except OSError as error:
        raise BackendUnavailable(f"the engine does not answer at {path}: {error.strerror or error}") from error


def _start(folder: Path, ports: Ports, password: str, options: Options) -> None:
    import docker
    from testcontainers.core.config import testcontainers_config

    testcontainers_config.ryuk_disabled = not options.die_with_parent  # the reaper ends them
    try:
        for container in _containers(ports, password, options):
            container.start()
            state.add_container(folder, container.get_container_id())
    except docker.errors.DockerException as error:
        raise BackendUnavailable(f"a container did not start: {error}") from error


def _containers(ports: Ports, password: str, options: Options) -> "tuple[DockerContainer, ...]":
    from testcontainers.core.container import DockerContainer

    kafka_port = ports.kafka[0]
    kafka = DockerContainer(KAFKA_IMAGE, env=_kafka_environment(kafka_port)).with_bind_ports(kafka_port, kafka_port)
    mysql = DockerContainer(
        MYSQL_IMAGE,
        env={"MYSQL_ROOT_PASSWORD": password, "MYSQL_DATABASE": "safevideo"},
        command="--transaction-isolation=READ-COMMITTED --character-set-server=utf8mb4",
    ).with_bind_ports(3306, ports.mysql)
    durable = f"redis-server --appendonly yes --appendfsync {options.appendfsync}"
    redis = DockerContainer(REDIS_IMAGE, command=durable).with_bind_ports(6379, ports.redis)
    return kafka, mysql, redis


def _kafka_environment(port: int) -> dict[str, str]:
    return {
        "KAFKA_NODE_ID": "1",
        "KAFKA_PROCESS_ROLES": "broker,controller",
        "KAFKA_CONTROLLER_QUORUM_VOTERS": "1@localhost:9093",
        "KAFKA_CONTROLLER_LISTENER_NAMES": "CONTROLLER",
        "KAFKA_LISTENERS": f"PLAINTEXT://:{port},CONTROLLER://:9093",
        "KAFKA_ADVERTISED_LISTENERS": f"PLAINTEXT://127.0.0.1:{port}",
        "KAFKA_LISTENER_SECURITY_PROTOCOL_MAP": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "KAFKA_AUTO_CREATE_TOPICS_ENABLE": "false",
        "KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS": "0",
        "KAFKA_OFFSETS_TOPIC_NUM_PARTITIONS": "4",
        "KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR": "1",
        "KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR": "1",
        "KAFKA_TRANSACTION_STATE_LOG_MIN_ISR": "1",
        "KAFKA_SHARE_COORDINATOR_STATE_TOPIC_REPLICATION_FACTOR": "1",
        "KAFKA_SHARE_COORDINATOR_STATE_TOPIC_MIN_ISR": "1",
    }
