"""A Kafka, a database and a Redis that speak TLS, each with a good certificate and with bad ones."""

import secrets
import shutil
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import redis
from sqlalchemy import text

from safevideo_devstack.backends import process
from safevideo_devstack.backends.kafka import KafkaServer
from safevideo_devstack.backends.mysql import MariaDBServer, MySQLFamilyServer, MySQLServer
from safevideo_devstack.backends.ports import free_port
from safevideo_devstack.backends.probes import mysql_connection
from safevideo_devstack.backends.redis import RedisServer, system_redis
from safevideo_devstack.backends.servers import output_of, wait_ready
from safevideo_devstack.backends.stack import Ports, Server, local_database
from sharegram_simulator.certificates import CertificateKind, Issuer, new_certificate, new_issuer

KINDS: Final[tuple[CertificateKind, ...]] = ("good", "wrong_host", "expired")
USER: Final = "safevideo"


@dataclass(frozen=True, slots=True)
class EncryptedServers:
    """The servers, while they run. `ca` signed all their certificates."""

    ca: Path
    client: Path
    """A certificate of a client, with its key."""
    kafka_listeners: dict[str, int]
    """The ports: one for each kind of certificate, `mtls` which asks for the client's, `sasl` for a password."""
    kafka_password: str
    database: MySQLFamilyServer
    redis: RedisServer
    redis_tls_port: int
    _folder: Path

    def kafka(self, listener: str) -> str:
        """Return host and port of a listener."""
        return f"127.0.0.1:{self.kafka_listeners[listener]}"

    def show_database(self, kind: CertificateKind) -> None:
        """Let the database show a certificate of this kind to new connections. MySQL raises for an expired one."""
        for part in ("certificate", "key"):
            shutil.copy(self._folder / f"{kind}.{part}", self._folder / f"shown.{part}")
        reload = "ALTER INSTANCE RELOAD TLS" if self.database.name == "mysql" else "FLUSH SSL"
        with mysql_connection(self.database.url) as connection:
            connection.execute(text(reload))

    def show_redis(self, kind: CertificateKind) -> None:
        """Let Redis show a certificate of this kind to new connections."""
        visible = {"tls-cert-file": f"{self._folder}/{kind}.certificate", "tls-key-file": f"{self._folder}/{kind}.key"}
        with redis.Redis.from_url(self.redis.url) as client:
            client.execute_command("CONFIG", "SET", *(word for pair in visible.items() for word in pair))


@contextmanager
def running_encrypted_servers(folder: Path) -> Iterator[EncryptedServers]:
    """Run the servers for the block, some 340 MB. Kafka takes the longest to start, about 3 s alone."""
    issuer = new_issuer("Test CA")
    _write_certificates(folder, issuer)
    password = secrets.token_hex(16)
    listeners = {name: free_port() for name in (*KINDS, "mtls", "sasl")}
    ports = Ports(kafka=(free_port(),), controllers=(free_port(),))
    kafka = KafkaServer(
        folder / "kafka",
        ports,
        node=1,
        format_arguments=("--add-scram", f"SCRAM-SHA-512=[name={USER},password={password}]"),
        settings=_kafka_settings(folder, ports, listeners, password),
    )
    tls_port = free_port()
    database_tls = {
        "ssl-ca": folder / "ca.pem",
        "ssl-cert": folder / "shown.certificate",
        "ssl-key": folder / "shown.key",
        "innodb_buffer_pool_size": "16M",
    }
    kind = MySQLServer if local_database() == "mysql" else MariaDBServer
    database = kind(folder / "database", free_port(), settings=database_tls)
    cache = system_redis(folder, free_port(), "everysec")
    cache = RedisServer(
        cache.folder,
        cache.port,
        cache.program,
        settings={
            "tls-port": tls_port,
            "tls-cert-file": folder / "good.certificate",
            "tls-key-file": folder / "good.key",
            "tls-ca-cert-file": folder / "ca.pem",
            "tls-auth-clients": "no",
        },
    )
    started: list[process.Process] = []
    servers: tuple[Server, ...] = (kafka, database, cache)
    try:
        with ThreadPoolExecutor(len(servers)) as pool:
            list(pool.map(lambda server: server.prepare(), servers))
        started += [process.spawn(each.name, each.command(), output_of(each), die_with_parent=True) for each in servers]
        for server, running in zip(servers, started, strict=True):
            wait_ready(server, lambda running=running: process.is_running(running))  # type: ignore[misc]
        yield EncryptedServers(
            folder / "ca.pem", folder / "client.pem", listeners, password, database, cache, tls_port, folder
        )
    finally:
        process.stop(started, 0.0)


def _write_certificates(folder: Path, issuer: Issuer) -> None:
    (folder / "ca.pem").write_bytes(issuer.pem)
    for kind in KINDS:
        made = new_certificate(kind, issuer)
        (folder / f"{kind}.certificate").write_bytes(made.certificate)
        (folder / f"{kind}.key").write_bytes(made.key)
        (folder / f"{kind}.pem").write_bytes(made.key + made.certificate)
    for part in ("certificate", "key"):
        shutil.copy(folder / f"good.{part}", folder / f"shown.{part}")
    client = new_certificate("good", issuer, USER)
    (folder / "client.pem").write_bytes(client.certificate + client.key)


def _kafka_settings(folder: Path, ports: Ports, listeners: Mapping[str, int], password: str) -> dict[str, object]:
    encrypted = ",".join(f"{name.upper()}://127.0.0.1:{port}" for name, port in listeners.items())
    plain, controller = (f"127.0.0.1:{port}" for port in (*ports.kafka, *ports.controllers))
    protocols = {"PLAINTEXT": "PLAINTEXT", "CONTROLLER": "PLAINTEXT", "SASL": "SASL_SSL"}
    protocols |= {name.upper(): "SSL" for name in (*KINDS, "mtls")}
    login = "org.apache.kafka.common.security"
    settings: dict[str, object] = {
        "listeners": f"PLAINTEXT://{plain},CONTROLLER://{controller},{encrypted}",
        "advertised.listeners": f"PLAINTEXT://{plain},{encrypted}",
        "listener.security.protocol.map": ",".join(f"{name}:{protocol}" for name, protocol in protocols.items()),
        "inter.broker.listener.name": "PLAINTEXT",
        "listener.name.mtls.ssl.client.auth": "required",
        "listener.name.mtls.ssl.truststore.type": "PEM",
        "listener.name.mtls.ssl.truststore.location": folder / "ca.pem",
        "listener.name.sasl.sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-512",
        "listener.name.sasl.plain.sasl.jaas.config": (
            f'{login}.plain.PlainLoginModule required user_{USER}="{password}";'
        ),
        "listener.name.sasl.scram-sha-512.sasl.jaas.config": f"{login}.scram.ScramLoginModule required;",
    }
    for listener in listeners:
        kind = listener if listener in KINDS else "good"
        settings[f"listener.name.{listener}.ssl.keystore.type"] = "PEM"
        settings[f"listener.name.{listener}.ssl.keystore.location"] = folder / f"{kind}.pem"
    return settings
