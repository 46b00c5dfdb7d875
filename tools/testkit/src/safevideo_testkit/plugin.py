"""The pytest plugin: real backends for the tests that need them, brought up once a run.

`STACK=embedded pytest` (or `local`, `docker`, `given`) selects a stack by name; otherwise it is the first that is
available. With `REQUIRE_REAL_BACKENDS=1` a test without its backend fails instead of being skipped, and so does a run
in which a test was skipped for another reason.

A test requests a backend by its fixture. If it uses `request.getfixturevalue`, it needs the mark `kafka` or `mysql`,
for instance `pytest.param("kafka", marks=pytest.mark.kafka)`.

A fixture imports what takes long to import: some runs have no test that needs it.
"""

import asyncio
import gc
import shutil
import warnings
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final, NoReturn

import pytest

from safevideo_common.errors import StartupError
from safevideo_devstack.backends.install import TEST_PROGRAMS, find
from safevideo_devstack.backends.lifecycle import RunningBackends, RunningServer
from safevideo_devstack.backends.stack import BackendFailed
from safevideo_testkit.backends_of_run import (
    WANTS,
    BackendsOfRun,
    has_test_program,
    real_ones_required,
    wants_backends,
    worker_input,
)
from safevideo_testkit.databases import DatabaseCopies, created, dropped, emptied
from safevideo_testkit.no_skips import NoSkips

RUN: Final = pytest.StashKey[BackendsOfRun]()


def pytest_configure(config: pytest.Config) -> None:
    """Register the marks, and the plugin that fails on a skip where no test may be skipped."""
    for part in WANTS:
        config.addinivalue_line("markers", f"{part}: needs a real {part}, requested while the test runs")
    if real_ones_required() and not worker_input(config):
        config.pluginmanager.register(NoSkips())


@pytest.hookimpl(wrapper=True)
def pytest_runtestloop(session: pytest.Session) -> Iterator[None]:
    """Bring the backends up before the first test, if a collected test needs them."""
    run = session.config.stash[RUN] = BackendsOfRun(session)
    session.config.add_cleanup(run.close)  # after the last fixture, which may still need them when a run is interrupted
    if not session.config.option.collectonly and any(map(wants_backends, session.items)):
        _start_or_exit(run)
    return (yield)


@pytest.fixture(scope="session")
def backends(request: pytest.FixtureRequest) -> RunningBackends:
    """Return the backends of this run. Tests prefer one of the fixtures below."""
    return request.config.stash[RUN].get()


@pytest.fixture(scope="session")
def kafka_bootstrap_servers(backends: RunningBackends) -> str:
    """Return the addresses of a real Kafka. All tests of a run share it, so they use topics and keys of their own."""
    if not backends.kafka_bootstrap_servers:
        _skip_or_fail(f"no Kafka on the {backends.stack} stack")
    return backends.kafka_bootstrap_servers


@pytest.fixture(scope="session")
def mysql_server_url(backends: RunningBackends) -> str:
    """Return the URL of a real MySQL-family server, whose account may create databases."""
    if not backends.database_url.startswith("mysql"):
        _skip_or_fail(f"no MySQL-family server on the {backends.stack} stack")
    return backends.database_url


@pytest.fixture(scope="session")
def safevideo_command() -> Path:
    """Return the path of a `safevideo` that starts at once. Its folder may be put on PATH."""
    from safevideo_testkit.command import command_path

    return command_path()


@pytest.fixture(scope="session")
def promtool(request: pytest.FixtureRequest) -> str:
    """Return the program that tests rules of Prometheus."""
    return _test_program("promtool", request)


@pytest.fixture(scope="session")
def nginx(request: pytest.FixtureRequest) -> str:
    """Return the program nginx."""
    return _test_program("nginx", request)


@pytest.fixture(scope="session")
def chromium(request: pytest.FixtureRequest) -> str:
    """Return the browser, for Playwright."""
    return _test_program("chromium", request)


@pytest.fixture(scope="session")
def node(request: pytest.FixtureRequest) -> str:
    """Return Node.js, in a version that the certified identity provider runs on."""
    from safevideo_testkit.certified_provider import MIN_NODE, node_version

    program = _test_program("node", request)
    if (version := node_version(program)) < MIN_NODE:
        _skip_or_fail(f"Node.js is version {version}, {MIN_NODE} or newer is needed")
    return program


@pytest.fixture(scope="session")
def identity_provider_modules(node: str) -> Path:
    """Return the folder with the modules of a certified identity provider."""
    from safevideo_testkit.certified_provider import install_modules

    try:
        return install_modules(find("npm") or "npm")
    except BackendFailed as error:
        _skip_or_fail(f"no modules of the identity provider: {error}")


@pytest.fixture
def fresh_mysql_database(mysql_server_url: str) -> Iterator[str]:
    """Return the URL of an empty database. It is dropped when the test ends."""
    url = created(mysql_server_url)
    yield url
    dropped(url)


@pytest.fixture
def fresh_sqlite_url(tmp_path: Path) -> str:
    """Return the URL of an SQLite database that does not exist yet."""
    return _sqlite_url(tmp_path / "safevideo.db")


@pytest.fixture(scope="session")
def mysql_copies(mysql_server_url: str) -> Iterator[DatabaseCopies]:
    """Return copies of a migrated database. Migrations take longer than most tests."""
    from safevideo_common.database.migrate import migrate

    template_url = created(mysql_server_url)
    asyncio.run(migrate(template_url))
    with closing(DatabaseCopies(template_url)) as copies:
        yield copies
    dropped(template_url)


@pytest.fixture
def migrated_mysql_database(mysql_copies: DatabaseCopies) -> Iterator[str]:
    """Return the URL of a database with the schema and no rows. Another test gets it when this one ends."""
    url = mysql_copies.take()
    yield url
    mysql_copies.give_back(url)


@pytest.fixture(scope="session")
def migrated_sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a migrated SQLite database to copy."""
    from safevideo_common.database.migrate import migrate

    file = tmp_path_factory.mktemp("template") / "safevideo.db"
    asyncio.run(migrate(_sqlite_url(file)))
    return file


@pytest.fixture
def migrated_sqlite_url(migrated_sqlite_template: Path, tmp_path: Path) -> str:
    """Return the URL of an SQLite database with the schema and no rows."""
    return _sqlite_url(Path(shutil.copy(migrated_sqlite_template, tmp_path / "safevideo.db")))


@pytest.fixture
def redis_url(backends: RunningBackends) -> str:
    """Return the URL, without a database number, of a Redis with empty databases 0, 2 and 3."""
    emptied(backends.redis_url, ours=backends.stack != "external")
    return backends.redis_url


@pytest.fixture
def kafka_server(
    kafka_bootstrap_servers: str,
    backends: RunningBackends,
) -> Iterator[RunningServer]:
    """Return the broker, for tests that kill, freeze and start it. It is restored when the test ends."""
    with _breakable("kafka", backends) as server:
        yield server


@pytest.fixture
def mysql_server(
    mysql_server_url: str,
    backends: RunningBackends,
) -> Iterator[RunningServer]:
    """Return the database server, likewise."""
    with _breakable("mysql", backends) as server:
        yield server


@pytest.fixture
def redis_server(backends: RunningBackends) -> Iterator[RunningServer]:
    """Return Redis or Valkey, likewise."""
    with _breakable("redis", backends) as server:
        yield server


@contextmanager
def _breakable(part: str, backends: RunningBackends) -> Iterator[RunningServer]:
    try:
        server: RunningServer = getattr(backends, part)
    except LookupError as error:
        pytest.skip(str(error))
    # aiokafka and aiomysql leave a connection open when its first request is cancelled. Without this, the warning about
    # it would fail whatever test runs when it is collected.
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Unclosed (AIOKafka)?connection", ResourceWarning)
        yield server
        server.ensure_running()
        gc.collect()


def _sqlite_url(file: Path) -> str:
    return f"sqlite+aiosqlite:///{file}"


def _start_or_exit(run: BackendsOfRun) -> None:
    try:
        run.get()
    except StartupError as error:
        pytest.exit(str(error), returncode=pytest.ExitCode.TESTS_FAILED)


def _test_program(name: str, request: pytest.FixtureRequest) -> str:
    if not has_test_program(name, request.config):
        _skip_or_fail(f"no {name}; on Debian: apt-get install {' '.join(TEST_PROGRAMS[name].packages)}")
    return find(name) or name


def _skip_or_fail(reason: str) -> NoReturn:
    if real_ones_required():
        pytest.fail(f"{reason}, and REQUIRE_REAL_BACKENDS=1", pytrace=False)
    pytest.skip(reason)
