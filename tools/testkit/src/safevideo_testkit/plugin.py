"""The pytest plugin: real backends for the tests that want them, brought up once a run.

`STACK=embedded pytest` (or `local`, `docker`, `given`) asks for a stack by name; otherwise it is the first that can be
had. With `REQUIRE_REAL_BACKENDS=1` a test that wants a part which is not there fails instead of being skipped, and a
run fails in which a test was skipped for another reason.

A test wants a part by using its fixture. One that finds out while it runs, with `request.getfixturevalue`, says so by
the mark `kafka` or `mysql`, for instance `pytest.param("kafka", marks=pytest.mark.kafka)`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

from safevideo_common.errors import StartupError
from safevideo_devstack.backends.install import find
from safevideo_devstack.backends.lifecycle import RunningBackends, RunningServer
from safevideo_testkit.backends_of_run import (
    WANTS,
    BackendsOfRun,
    has_promtool,
    real_ones_required,
    wants_backends,
    worker_input,
)
from safevideo_testkit.databases import created, dropped, emptied
from safevideo_testkit.no_skips import NoSkips

RUN: Final = pytest.StashKey[BackendsOfRun]()


def pytest_configure(config: pytest.Config) -> None:
    """Register the marks, and what fails on a skip where nothing may be skipped."""
    for part in WANTS:
        config.addinivalue_line("markers", f"{part}: wants a real {part}, found out while the test runs")
    if real_ones_required() and not worker_input(config):
        config.pluginmanager.register(NoSkips())


@pytest.hookimpl(wrapper=True)
def pytest_runtestloop(session: pytest.Session) -> Iterator[None]:
    """Bring the backends up before the first test, when any test is known to want them."""
    run = session.config.stash[RUN] = BackendsOfRun(session)
    session.config.add_cleanup(run.close)  # after the last fixture, which may still need them when a run is broken off
    if not session.config.option.collectonly and any(map(wants_backends, session.items)):
        _start_or_exit(run)
    return (yield)


@pytest.fixture(scope="session")
def backends(request: pytest.FixtureRequest) -> RunningBackends:
    """The backends of this run; tests rather use one of the fixtures below."""
    return request.config.stash[RUN].get()


@pytest.fixture(scope="session")
def kafka_bootstrap_servers(backends: RunningBackends) -> str:
    """Addresses of a real Kafka, which all tests of the run share: they name topics and groups of their own."""
    if not backends.kafka_bootstrap_servers:
        _do_without(f"no Kafka on the {backends.stack} stack")
    return backends.kafka_bootstrap_servers


@pytest.fixture(scope="session")
def mysql_server_url(backends: RunningBackends) -> str:
    """Asynchronous URL of a real MySQL-family server, whose account may make databases."""
    if not backends.database_url.startswith("mysql"):
        _do_without(f"no MySQL-family server on the {backends.stack} stack")
    return backends.database_url


@pytest.fixture(scope="session")
def promtool(request: pytest.FixtureRequest) -> str:
    """The program that tests rules of Prometheus."""
    if not has_promtool(request.config):
        _do_without("no promtool; on Debian: apt-get install prometheus")
    return find("promtool") or "promtool"


@pytest.fixture
def fresh_mysql_database(mysql_server_url: str) -> Iterator[str]:
    """Asynchronous URL of a new, empty database, which is dropped when the test ends."""
    url = created(mysql_server_url)
    yield url
    dropped(url)


@pytest.fixture
def fresh_sqlite_url(tmp_path: Path) -> str:
    """Asynchronous URL of an SQLite database that does not exist yet."""
    return f"sqlite+aiosqlite:///{tmp_path / 'safevideo.db'}"


@pytest.fixture
def redis_url(backends: RunningBackends) -> str:
    """URL, without a database number, of a Redis whose databases 0, 2 and 3 are empty when the test begins."""
    emptied(backends.redis_url, ours=backends.stack != "given")
    return backends.redis_url


@pytest.fixture
def kafka_server(
    kafka_bootstrap_servers: str,
    backends: RunningBackends,
) -> Iterator[RunningServer]:
    """The broker, to be killed, frozen and started again; in order again when the test ends."""
    with _breakable("kafka", backends) as server:
        yield server


@pytest.fixture
def mysql_server(
    mysql_server_url: str,
    backends: RunningBackends,
) -> Iterator[RunningServer]:
    """The database server, likewise."""
    with _breakable("mysql", backends) as server:
        yield server


@pytest.fixture
def redis_server(backends: RunningBackends) -> Iterator[RunningServer]:
    """Redis or Valkey, likewise."""
    with _breakable("redis", backends) as server:
        yield server


@contextmanager
def _breakable(part: str, backends: RunningBackends) -> Iterator[RunningServer]:
    try:
        server: RunningServer = getattr(backends, part)
    except LookupError as error:
        pytest.skip(str(error))
    yield server
    server.heal()


def _start_or_exit(run: BackendsOfRun) -> None:
    try:
        run.get()
    except StartupError as error:
        pytest.exit(str(error), returncode=pytest.ExitCode.TESTS_FAILED)


def _do_without(reason: str) -> None:
    if real_ones_required():
        pytest.fail(f"{reason}, and REQUIRE_REAL_BACKENDS=1", pytrace=False)
    pytest.skip(reason)
