"""Apache Kafka in KRaft mode, one or three brokers: the broker of the local stack."""

import base64
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from safevideo_devstack.backends import probes, process
from safevideo_devstack.backends.install import KAFKA_VERSION, find, jars
from safevideo_devstack.backends.stack import NotReady, Ports, Role

FORMAT_SECONDS = 180.0
LONE_BROKER = {"broker.heartbeat.interval.ms": 500, "broker.session.timeout.ms": 3000}
"""A killed broker cannot register again before its last session ends: by default 9 s, here 3 s."""


@dataclass(frozen=True, slots=True)
class KafkaServer:
    """A broker that is also a controller. `ports` are those of the whole cluster, `node` counts from 1."""

    cluster_folder: Path
    ports: Ports
    node: int
    fast_start: bool = True
    software: str = "Apache Kafka"
    role: Role = "broker"
    format_arguments: tuple[str, ...] = ()
    """Further arguments of `StorageTool format`, such as `--add-scram`."""
    settings: Mapping[str, object] = field(default_factory=dict)
    """Further settings; they win."""
    host: str = "127.0.0.1"
    """The address that it listens on and that its clients are told."""

    @property
    def name(self) -> str:
        """The name `kafka-1` and so on."""
        return f"kafka-{self.node}"

    @property
    def folder(self) -> Path:
        """The folder of this broker alone."""
        return self.cluster_folder / self.name

    @property
    def address(self) -> str:
        """Host and port."""
        return f"{self.host}:{self.ports.kafka[self.node - 1]}"

    @property
    def url(self) -> str:
        """Host and port: a client takes the addresses of all brokers, joined by commas."""
        return self.address

    def prepare(self) -> None:
        """Write the configuration and, the first time, format the storage (1 s)."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._configuration.write_text("".join(f"{name}={value}\n" for name, value in self._properties().items()))
        if not (self._data / "meta.properties").exists():
            process.run(
                [
                    *self._java(),
                    "kafka.tools.StorageTool",
                    "format",
                    f"--cluster-id={self._cluster_id()}",  # one argument: the id may begin with a dash
                    "-c",
                    str(self._configuration),
                    *self.format_arguments,
                ],
                self.folder / "format.log",
                seconds=FORMAT_SECONDS,
            )

    def command(self) -> list[str]:
        """Return program and arguments."""
        return [*self._java(), "kafka.Kafka", str(self._configuration)]

    def probe(self) -> str:
        """Return its version. Raises `NotReady` until the cluster counts this broker as present."""
        if self.address not in probes.kafka_brokers(self.address):
            raise NotReady(f"{self.name} has not joined the cluster.")
        return KAFKA_VERSION

    def _java(self) -> list[str]:
        quick_compiler = ["-XX:TieredStopAtLevel=1"] if self.fast_start else []
        return [
            find("java") or "java",
            "-Xms256m",
            "-Xmx512m",
            "-XX:+UseSerialGC",
            *quick_compiler,
            f"-XX:ErrorFile={self.folder}/crash.log",
            "-Dlog4j2.level=WARN",
            "-cp",
            f"{jars()}/*",
        ]

    def _properties(self) -> dict[str, object]:
        brokers = len(self.ports.kafka)
        in_sync = 2 if brokers > 1 else 1
        controllers = enumerate(self.ports.controllers, start=1)
        return {
            "node.id": self.node,
            "process.roles": "broker,controller",
            "controller.quorum.voters": ",".join(f"{node}@127.0.0.1:{port}" for node, port in controllers),
            "controller.listener.names": "CONTROLLER",
            "listeners": f"PLAINTEXT://{self.address},CONTROLLER://127.0.0.1:{self.ports.controllers[self.node - 1]}",
            "advertised.listeners": f"PLAINTEXT://{self.address}",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "log.dirs": self._data,
            "auto.create.topics.enable": "false",
            "group.initial.rebalance.delay.ms": 0,
            "default.replication.factor": brokers,
            "min.insync.replicas": in_sync,
            "offsets.topic.num.partitions": 4,
            "offsets.topic.replication.factor": brokers,
            "transaction.state.log.num.partitions": 4,
            "transaction.state.log.replication.factor": brokers,
            "transaction.state.log.min.isr": in_sync,
            "share.coordinator.state.topic.replication.factor": brokers,
            "share.coordinator.state.topic.min.isr": in_sync,
            **(LONE_BROKER if brokers == 1 else {}),
            **self.settings,
        }

    def _cluster_id(self) -> str:
        # From the folder: brokers of one cluster agree on it, and a broker of another folder cannot join.
        return base64.urlsafe_b64encode(uuid.uuid5(uuid.NAMESPACE_URL, str(self.cluster_folder)).bytes).decode()[:22]

    @property
    def _data(self) -> Path:
        return self.folder / "data"

    @property
    def _configuration(self) -> Path:
        return self.folder / "server.properties"


def kafka_cluster(folder: Path, ports: Ports, *, fast_start: bool) -> tuple[KafkaServer, ...]:
    """Return a broker for each port. A cluster of three cannot read the data of a single broker: each has a folder."""
    brokers = len(ports.kafka)
    cluster = folder if brokers == 1 else folder / f"{brokers}-brokers"
    return tuple(KafkaServer(cluster, ports, node, fast_start) for node in range(1, brokers + 1))
