"""The stack `local`: servers of this machine, run as private processes, never as system services."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from safevideo_devstack.backends import install as backends_install
from safevideo_devstack.backends.install import fetch_jars, find, jars, java_version
from safevideo_devstack.backends.kafka import kafka_cluster
from safevideo_devstack.backends.mysql import MariaDBServer, MySQLServer, is_mysql
from safevideo_devstack.backends.redis import system_redis
from safevideo_devstack.backends.stack import (
    BackendFailed,
    BackendUnavailable,
    LocalDatabase,
    Options,
    Say,
    Server,
)

LEAST_JAVA = 17


@dataclass(frozen=True, slots=True)
class Requirement:
    """Something the stack is made of: its programs, and the Debian packages that bring them."""

    what: str
    programs: tuple[str, ...]
    packages: tuple[str, ...]


# Debian's core packages are the programs without the service and its account.
MARIADB = Requirement(
    "MariaDB",
    ("mariadbd", "mariadb-install-db", "my_print_defaults"),
    ("mariadb-server-core", "mariadb-client-core"),
)
REDIS = Requirement("Redis", ("redis-server",), ("redis-server",))
JAVA = Requirement(f"Java {LEAST_JAVA} or newer", ("java",), ("default-jre-headless",))
MAVEN = Requirement("Maven", ("mvn",), ("maven",))
PROMTOOL = Requirement("promtool", ("promtool",), ("prometheus",))
"""No part of the stack: it tests the alert rules."""


def install(say: Say, database: LocalDatabase) -> None:
    """Have everything the stack needs. On Debian as root it installs what is missing, MySQL excepted.

    Raises `BackendUnavailable` with the name of each missing part and what to type.
    """
    missing = _missing(database)
    if missing and backends_install.may_install():
        backends_install.install(_packages(missing), say)
        missing = _missing(database)
    if missing:
        raise BackendUnavailable(what_to_type(missing))
    if database == "mysql" and not is_mysql():
        raise BackendUnavailable("LOCAL_DATABASE=mysql takes the `mysqld` of MySQL; put one first on PATH.")
    if (found := java_version()) < LEAST_JAVA:
        raise BackendUnavailable(f"`java` is version {found}, {JAVA.what} is needed; put one first on PATH.")
    try:
        fetch_jars(say)
    except BackendFailed as error:
        raise BackendUnavailable(f"Kafka could not be fetched: {error}") from error


def provide_promtool(say: Say, *, may_install: bool) -> None:
    """Have promtool. On Debian as root it is installed where it is missing. Raises `BackendUnavailable`."""
    if find("promtool") is None and may_install and backends_install.may_install():
        backends_install.install(PROMTOOL.packages, say)
    if find("promtool") is None:
        raise BackendUnavailable(what_to_type([PROMTOOL]))


def servers(folder: Path, options: Options) -> tuple[Server, ...]:
    """The processes of the stack, on the ports of `options`, which must be allotted. Nothing is touched yet."""
    ports = options.ports
    return (
        *kafka_cluster(folder, ports, fast_start=options.fast_start),
        _database(folder, options),
        system_redis(folder, ports.redis, options.appendfsync),
    )


def what_to_type(missing: Sequence[Requirement]) -> str:
    """Names the missing parts and, on Debian, the command that installs them."""
    names = ", ".join(requirement.what for requirement in missing)
    if backends_install.is_debian():
        return f"{names} missing; type: sudo apt-get install --no-install-recommends {' '.join(_packages(missing))}"
    return f"{names} missing; install with your system's package manager"


def _database(folder: Path, options: Options) -> Server:
    if options.database == "mysql":
        return MySQLServer(folder / "mysql", options.ports.mysql)
    return MariaDBServer(folder / "mariadb", options.ports.mysql)


def _missing(database: LocalDatabase) -> list[Requirement]:
    needed = [MARIADB] if database == "mariadb" else []
    needed += [REDIS, JAVA] if jars().exists() else [REDIS, JAVA, MAVEN]
    return [requirement for requirement in needed if not all(map(find, requirement.programs))]


def _packages(missing: Sequence[Requirement]) -> list[str]:
    return [package for requirement in missing for package in requirement.packages]
