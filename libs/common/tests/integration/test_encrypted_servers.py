"""Kafka, the database and Redis over TLS: real servers with a good, a wrong and an expired certificate."""

import gc
import logging
from asyncio.selector_events import _SelectorSocketTransport  # type: ignore[attr-defined]
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager

import aiomysql
import pytest
from redis.exceptions import RedisError
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from safevideo_common.broker.kafka import KafkaBroker
from safevideo_common.broker.kafka.security import KafkaSecurity
from safevideo_common.broker.types import Message, Topic, TopicPartition
from safevideo_common.cache.redis import open_redis
from safevideo_common.database.engine import Database
from safevideo_common.errors import BrokerUnavailable, DatabaseUnavailable
from safevideo_common.settings import KafkaSettings, load_settings
from safevideo_devstack.backends.stack import local_database
from safevideo_testkit.broker_helpers import DAY_MS
from safevideo_testkit.encrypted_servers import USER, EncryptedServers, running_encrypted_servers
from safevideo_testkit.eventually import DEADLINE_SECONDS, eventually
from sharegram_simulator.certificates import CertificateKind

pytestmark = pytest.mark.xdist_group("encrypted servers")

BAD = [("wrong_host", "mismatch"), ("expired", "certificate has expired")]
SECONDS = 5.0


@pytest.fixture(scope="module")
def servers(
    kafka_bootstrap_servers: str, mysql_server_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[EncryptedServers]:
    """Where there are a real Kafka and a real database, there are their programs."""
    with running_encrypted_servers(tmp_path_factory.mktemp("encrypted")) as running:
        yield running


@pytest.fixture(autouse=True)
async def connections_end() -> AsyncIterator[None]:
    """The drivers do not wait for the end of a TLS connection, which takes an answer of the server."""
    yield

    async def are_closed() -> bool:
        transports = [each for each in gc.get_objects() if type(each) is _SelectorSocketTransport]
        return all(each.get_extra_info("socket").fileno() < 0 for each in transports if each.is_closing())

    await eventually(are_closed)


def kafka(monkeypatch: pytest.MonkeyPatch, address: str, **settings: object) -> KafkaBroker:
    """A broker with the settings of an environment."""
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", address)
    for name, value in settings.items():
        monkeypatch.setenv(name.upper(), str(value))
    loaded = load_settings(KafkaSettings)
    return KafkaBroker(loaded.kafka_bootstrap_servers, KafkaSecurity.of(loaded))


async def published_and_read(broker: KafkaBroker, topic: str) -> bytes:
    await broker.create_topics([Topic(topic, 1, DAY_MS)])
    async with (
        broker.producer("test", acknowledged_within=DEADLINE_SECONDS) as producer,
        broker.reader("test") as reader,
        broker.subscribe(f"{topic}-group", [topic], "test") as subscription,
    ):
        _, offset = await producer.publish(Message(topic, b"key", b"over TLS"))
        (read,) = await reader.read(TopicPartition(topic, 0), offset, 1)

        async def fetched() -> bool:
            return bool(await subscription.fetch(max_records=1, timeout=0.5))

        await eventually(fetched)
        return read.value


async def test_kafka_over_tls_serves_each_kind_of_client(
    servers: EncryptedServers, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker = kafka(monkeypatch, servers.kafka("good"), kafka_security_protocol="SSL", kafka_ca_file=servers.ca)
    assert await published_and_read(broker, "over-tls") == b"over TLS"


@pytest.mark.parametrize(("kind", "cause"), BAD)
async def test_kafka_with_a_bad_certificate_is_refused_and_the_log_says_why(
    servers: EncryptedServers,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    kind: CertificateKind,
    cause: str,
) -> None:
    broker = kafka(monkeypatch, servers.kafka(kind), kafka_security_protocol="SSL", kafka_ca_file=servers.ca)
    with caplog.at_level(logging.WARNING), pytest.raises(BrokerUnavailable):
        await broker.probe()
    assert cause in caplog.text


async def test_kafka_of_a_ca_that_the_system_does_not_know_is_refused(
    servers: EncryptedServers, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(BrokerUnavailable):
        await kafka(monkeypatch, servers.kafka("good"), kafka_security_protocol="SSL").probe()


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-512"])
async def test_kafka_lets_a_user_in_by_password_alone(
    servers: EncryptedServers, monkeypatch: pytest.MonkeyPatch, mechanism: str
) -> None:
    login = {"kafka_sasl_mechanism": mechanism, "kafka_username": USER, "kafka_ca_file": servers.ca}
    address = servers.kafka("sasl")
    login["kafka_security_protocol"] = "SASL_SSL"
    broker = kafka(monkeypatch, address, **login, kafka_password=servers.kafka_password)
    assert await published_and_read(broker, f"by-{mechanism.lower()}") == b"over TLS"
    with pytest.raises(BrokerUnavailable):
        await kafka(monkeypatch, address, **login, kafka_password="kR9-another-password").probe()


async def test_kafka_lets_a_client_in_by_certificate(
    servers: EncryptedServers, monkeypatch: pytest.MonkeyPatch
) -> None:
    tls = {"kafka_security_protocol": "SSL", "kafka_ca_file": servers.ca}
    with pytest.raises(BrokerUnavailable):
        await kafka(monkeypatch, servers.kafka("mtls"), **tls).probe()
    await kafka(monkeypatch, servers.kafka("mtls"), **tls, kafka_cert_file=servers.client).probe()


def database(servers: EncryptedServers, parameters: str) -> AbstractAsyncContextManager[Database]:
    return Database.open(f"{servers.database.url}&{parameters}", pool_size=1, timeout=SECONDS)


async def test_database_over_tls_is_encrypted_and_renewed_certificates_count(servers: EncryptedServers) -> None:
    servers.show_database("good")
    for _ in range(2):
        async with database(servers, f"ssl_ca={servers.ca}") as opened, opened.read_connection() as connection:
            (_, cipher) = (await connection.execute(text("SHOW STATUS LIKE 'Ssl_cipher'"))).one()
            assert cipher
        servers.show_database("good")


@pytest.mark.parametrize(("kind", "cause"), BAD)
async def test_database_with_a_bad_certificate_is_refused(
    servers: EncryptedServers, kind: CertificateKind, cause: str
) -> None:
    if kind == "expired" and local_database() == "mysql":
        with pytest.raises(OperationalError, match="Invalid certificates"):  # the server takes none
            servers.show_database(kind)
        return
    servers.show_database(kind)
    async with database(servers, f"ssl_ca={servers.ca}") as opened:
        with pytest.raises(DatabaseUnavailable) as refused:
            await opened.probe()
    assert cause in str(refused.value)


async def test_database_of_a_ca_that_the_system_does_not_know_is_refused(servers: EncryptedServers) -> None:
    servers.show_database("good")
    async with database(servers, "ssl_mode=VERIFY_IDENTITY") as opened:
        with pytest.raises(DatabaseUnavailable, match="certificate verify failed"):
            await opened.probe()


async def test_database_without_tls_gets_no_password(servers: EncryptedServers, mysql_server_url: str) -> None:
    """MySQL makes a certificate by itself, which is refused; MariaDB has none and offers no TLS."""
    url = f"{mysql_server_url}&ssl_ca={servers.ca}"
    async with Database.open(url, pool_size=1, timeout=SECONDS) as opened:
        with pytest.raises(DatabaseUnavailable, match=r"offers no TLS|certificate verify failed"):
            await opened.probe()


def test_aiomysql_has_the_private_attributes() -> None:
    assert callable(aiomysql.Connection._connect)
    assert callable(aiomysql.Connection._request_authentication)


if local_database() == "mysql":

    @pytest.mark.parametrize("tls", [True, False])
    async def test_first_login_after_a_restart_of_mysql_succeeds(servers: EncryptedServers, tls: bool) -> None:
        """`FLUSH PRIVILEGES` empties the cache of `caching_sha2_password`, as a restart does."""
        servers.show_database("good")
        async with Database.open(servers.database.url) as plain, plain.transaction() as tx:
            await tx.execute(text("FLUSH PRIVILEGES"))
        url = f"{servers.database.url}&ssl_ca={servers.ca}" if tls else servers.database.url
        async with Database.open(url) as opened:
            await opened.probe()


def redis_url(servers: EncryptedServers, parameters: str = "") -> str:
    return f"rediss://127.0.0.1:{servers.redis_tls_port}{parameters}"


async def test_redis_over_tls_answers(servers: EncryptedServers) -> None:
    servers.show_redis("good")
    async with open_redis(redis_url(servers, f"?ssl_ca_certs={servers.ca}"), 0, seconds=SECONDS) as redis:
        assert await redis.ping()


@pytest.mark.parametrize(("kind", "cause"), BAD)
async def test_redis_with_a_bad_certificate_is_refused(
    servers: EncryptedServers, kind: CertificateKind, cause: str
) -> None:
    servers.show_redis(kind)
    async with open_redis(redis_url(servers, f"?ssl_ca_certs={servers.ca}"), 0, seconds=SECONDS) as redis:
        with pytest.raises(RedisError, match=cause):
            await redis.ping()


async def test_redis_of_a_ca_that_the_system_does_not_know_is_refused(servers: EncryptedServers) -> None:
    servers.show_redis("good")
    async with open_redis(redis_url(servers), 0, seconds=SECONDS) as redis:
        with pytest.raises(RedisError, match="certificate verify failed"):
            await redis.ping()
