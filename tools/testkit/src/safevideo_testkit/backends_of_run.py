"""The backends of one test run: brought up on first use, shown in one table, stopped when the run ends.

With pytest-xdist each worker has a set of its own, so that a test may kill its broker, freeze its database and empty
its Redis while other tests run. The controller starts and stops all sets.
"""

import os
import tempfile
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, nullcontext
from io import StringIO
from pathlib import Path
from typing import Any, Final

import pytest
from rich.console import Console

from safevideo_common.errors import StartupError
from safevideo_devstack.backends import Backends, BackendUnavailable, lifecycle, state
from safevideo_devstack.backends.cli import backends_table
from safevideo_devstack.backends.external import uses_external
from safevideo_devstack.backends.install import TEST_PROGRAMS, provide_test_program
from safevideo_devstack.backends.lifecycle import RunningBackends, parse_stack
from safevideo_devstack.backends.stack import StackChoice

PREFIX: Final = "safevideo-backends-"
"""Of the folders of runs, below the system's temporary folder. A run that was killed leaves its own to the next."""
WANTS: Final = {"kafka": "kafka_bootstrap_servers", "mysql": "mysql_server_url"} | dict(
    zip(TEST_PROGRAMS, TEST_PROGRAMS, strict=True)
)
"""The parts that a run may lack, and the fixture by which a test wants each."""
FOLDER: Final = "safevideo_backends"
"""The key of a worker's input that names the folder of its set."""
MISSING: Final = "missing"
"""The file in that folder in which the worker writes what its tests lack, for the controller to print."""


class BackendsOfRun:
    """The set of a process that runs tests. The plugin closes it last of all."""

    def __init__(self, session: pytest.Session) -> None:
        self._session = session
        self._owned = ExitStack()
        self._running: RunningBackends | None = None
        self._failure: StartupError | None = None

    def get(self) -> RunningBackends:
        """Return the set. Raises `StartupError` when it did not come up, each time without another attempt."""
        if self._failure:
            raise self._failure
        if self._running is None:
            try:
                self._running = self._of_worker() or self._up()
            except StartupError as error:
                self._failure = error
                raise
        return self._running

    def close(self) -> None:
        """Stop what was started here and remove its data."""
        self._owned.close()

    def _of_worker(self) -> RunningBackends | None:
        folder = worker_input(self._session.config).get(FOLDER)
        return None if folder is None else started_in(Path(folder))

    def _up(self) -> RunningBackends:
        running = up(new_folder(self._owned), self._session.config)
        print_table(self._session.config, running, skipped_suites(running, self._session))
        return running


class BackendsOfWorkers:
    """The sets of a run's workers. The plugin closes it last of all."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._owned = ExitStack()
        self._unassigned: list[Path] = []
        self._sets = 0
        self._is_shown = False

    def start(self, workers: int) -> None:
        """Bring up a set for each worker: the first alone, since it installs what is missing. Raises `StartupError`."""
        if workers > 1 and uses_external(named_stack()):
            raise StartupError("Several workers cannot share the external backends; type: make test ARGS=-n0")
        for name in TEST_PROGRAMS:
            has_test_program(name, self._config)
        first, *others = self._unassigned = [new_folder(self._owned) for _ in range(workers)]
        self._sets += workers
        up(first, self._config)
        with ThreadPoolExecutor(workers) as pool:
            list(pool.map(lambda folder: up(folder, self._config), others))

    def assign(self) -> str:
        """Return the folder of a set that no worker has; start one for a worker that takes the place of a dead one."""
        if not self._unassigned:
            self.start(1)
        return str(self._unassigned.pop(0))

    def show(self, folder: str) -> None:
        """Print the table once, with what the worker of `folder` has written about its tests."""
        if not self._is_shown:
            self._is_shown = True
            missing = Path(folder) / MISSING
            others = f"and as many for each of the other workers: {self._sets} sets in all"
            print_table(self._config, started_in(Path(folder)), [others, *missing.read_text().splitlines()])

    def close(self) -> None:
        """Stop all sets and remove their data."""
        self._owned.close()


def worker_input(config: pytest.Config) -> dict[str, Any]:
    """Return what the controller gave to this worker; empty in any other process."""
    values: dict[str, Any] = getattr(config, "workerinput", {})
    return values


def named_stack() -> StackChoice:
    """Return the stack that the environment names. Raises `BackendUnavailable`."""
    return parse_stack(os.environ.get("STACK") or "auto")


def real_ones_required() -> bool:
    """Return whether a part that is missing is a failure and not a reason to skip."""
    return os.environ.get("REQUIRE_REAL_BACKENDS") == "1"


def new_folder(owned: ExitStack) -> Path:
    """Make a folder for a set, which is stopped and removed with `owned`."""
    lifecycle.sweep(Path(tempfile.gettempdir()), PREFIX)
    folder = Path(owned.enter_context(tempfile.TemporaryDirectory(prefix=PREFIX, ignore_cleanup_errors=True)))
    owned.callback(lifecycle.down, folder, forget=True, grace_seconds=0.0)
    return folder


def up(folder: Path, config: pytest.Config) -> RunningBackends:
    """Bring up a set in `folder`. Raises `StartupError`."""
    return lifecycle.up(
        named_stack(), folder=folder, require_real=real_ones_required(), say=lambda line: print_lines(config, line)
    )


def started_in(folder: Path) -> RunningBackends:
    """Return the set that the controller has started in `folder`."""
    backends = state.get(folder).backends
    assert backends is not None, "a worker begins when its set is up"
    return RunningBackends.of(backends, folder)


def has_test_program(name: str, config: pytest.Config) -> bool:
    """Return whether the program is there. Installs it where that is possible and the stack may need installations."""
    try:
        provide_test_program(name, lambda line: print_lines(config, line), may_install=named_stack() != "embedded")
    except BackendUnavailable:
        return False
    return True


def wants_backends(item: pytest.Item) -> bool:
    """Return whether a collected test is known to want any backend."""
    return "backends" in getattr(item, "fixturenames", ()) or _wants(item, "kafka") or _wants(item, "mysql")


def skipped_suites(backends: Backends, session: pytest.Session) -> list[str]:
    """Return a line for each suite that is skipped, with the part that it lacks."""
    lines = []
    for part in WANTS:
        suites = Counter(item.location[0] for item in session.items if _wants(item, part))
        if suites and not _has(backends, part, session.config):
            lines += [f"skipped for want of {part}: {suite} ({tests} tests)" for suite, tests in suites.items()]
    return lines


def print_table(config: pytest.Config, backends: Backends, missing: Sequence[str]) -> None:
    """Print what came up, why nothing better did, and what is missing."""
    text = StringIO()
    console = Console(file=text, width=120)
    console.print(backends_table(backends))
    for line in missing:
        console.print(line, markup=False, highlight=False)
    print_lines(config, text.getvalue())


def print_lines(config: pytest.Config, lines: str) -> None:
    """Print past the capture of output: a fixture's would end up in the report of its test."""
    manager = config.pluginmanager
    capture, terminal = manager.getplugin("capturemanager"), manager.getplugin("terminalreporter")
    if terminal is None:
        return
    with capture.global_and_fixture_disabled() if capture else nullcontext():
        terminal.ensure_newline()
        for line in lines.splitlines():
            terminal.write_line(line)


def _has(backends: Backends, part: str, config: pytest.Config) -> bool:
    if part in TEST_PROGRAMS:
        return has_test_program(part, config)
    return bool(backends.kafka_bootstrap_servers) if part == "kafka" else backends.database_url.startswith("mysql")


def _wants(item: pytest.Item, part: str) -> bool:
    return WANTS[part] in getattr(item, "fixturenames", ()) or item.get_closest_marker(part) is not None
