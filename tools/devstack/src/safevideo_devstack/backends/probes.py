"""Probes of servers, the same for every stack: each returns a version or addresses, or raises `NotReady`."""

import asyncio
import socket
from urllib.parse import urlsplit

import redis
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError
from sqlalchemy import create_engine, text
from sqlalchemy.engine import Connection, make_url
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

from safevideo_devstack.backends.stack import NotReady

SECONDS = 2.0


def mysql_version(url: str) -> str:
    """Return the version of MySQL or MariaDB in the server's own words. Raises `NotReady`."""
    try:
        with mysql_connection(url, seconds=SECONDS) as connection:
            return str(connection.scalar(text("SELECT VERSION()")))
    except SQLAlchemyError as error:
        raise NotReady(str(error)) from error


def mysql_connection(url: str, *, seconds: float = 30.0) -> Connection:
    """Open a blocking, autocommitting connection to the server behind an asynchronous URL.

    It waits at most `seconds` for each answer.
    """
    engine = create_engine(
        make_url(url).set(drivername="mysql+pymysql"),
        isolation_level="AUTOCOMMIT",
        poolclass=NullPool,
        connect_args={"connect_timeout": SECONDS, "read_timeout": seconds, "write_timeout": seconds},
    )
    return engine.connect()


def redis_version(url: str) -> str:
    """Return the version of Redis or Valkey. Raises `NotReady`."""
    address = urlsplit(url)
    _check_listening(address.hostname or "localhost", address.port or 6379)
    try:
        with redis.Redis.from_url(url, socket_timeout=SECONDS, socket_connect_timeout=SECONDS) as client:
            client.ping()  # refused while the dataset is loaded from disk; `INFO` is not
            about = client.info("server")
    except redis.RedisError as error:
        raise NotReady(str(error)) from error
    return str(about.get("valkey_version") or about["redis_version"])


def kafka_brokers(bootstrap_servers: str) -> set[str]:
    """Return the addresses of the brokers that the cluster counts as present. Raises `NotReady`."""
    host, _, port = bootstrap_servers.split(",")[0].rpartition(":")
    _check_listening(host, int(port))
    try:
        return asyncio.run(asyncio.wait_for(_kafka_brokers(bootstrap_servers), SECONDS))
    except (OSError, KafkaError, TimeoutError) as error:
        raise NotReady(str(error)) from error


def _check_listening(host: str, port: int) -> None:
    # Before the real client: of a server that still starts, Kafka's logs every refusal and Redis's leaks a socket.
    try:
        socket.create_connection((host, port), timeout=SECONDS).close()
    except OSError as error:
        raise NotReady(str(error)) from error


async def _kafka_brokers(bootstrap_servers: str) -> set[str]:
    client = AIOKafkaClient(bootstrap_servers=bootstrap_servers, client_id="safevideo-backends")
    try:
        await client.bootstrap()
        return {f"{broker.host}:{broker.port}" for broker in client.cluster.brokers()}
    finally:
        await client.close()
