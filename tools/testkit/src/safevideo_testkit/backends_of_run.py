"""The backends of one test run: brought up on first use, told about in one table, taken down when the run ends."""

import os
import tempfile
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack, nullcontext
from io import StringIO
from pathlib import Path
from typing import Final

import pytest
from rich.console import Console

from safevideo_common.errors import StartupError
from safevideo_devstack.backends import Backends, RunningBackends, control
from safevideo_devstack.backends.choice import named
from safevideo_devstack.backends.table import render

PREFIX: Final = "safevideo-backends-"
"""Of the folders of runs, below the system's temporary folder. A run that was killed leaves its own to the next."""
WANTS: Final = {"kafka": "kafka_bootstrap_servers", "mysql": "mysql_server_url"}
"""The parts that a stack may lack, and the fixture by which a test wants each."""


class BackendsOfRun:
    """Owned by the plugin, which closes it last of all."""

    def __init__(self, session: pytest.Session) -> None:
        self._session = session
        self._owned = ExitStack()
        self._running: RunningBackends | None = None
        self._failure: StartupError | None = None

    def get(self) -> RunningBackends:
        """The backends of this run. Raises `StartupError` when they did not come up, each time without another try."""
        if self._failure:
            raise self._failure
        if self._running is None:
            try:
                self._running = self._up()
            except StartupError as error:
                self._failure = error
                raise
            self._say(table(self._running, self._session.items))
        return self._running

    def close(self) -> None:
        """Stop them and forget their data."""
        self._owned.close()

    def _up(self) -> RunningBackends:
        control.sweep(Path(tempfile.gettempdir()), PREFIX)
        folder = self._owned.enter_context(tempfile.TemporaryDirectory(prefix=PREFIX, ignore_cleanup_errors=True))
        stack = named(os.environ.get("STACK") or "auto")
        running = control.running(stack, folder=Path(folder), require_real=real_ones_required(), say=self._say)
        return self._owned.enter_context(running)

    def _say(self, lines: str) -> None:
        manager = self._session.config.pluginmanager
        capture, terminal = manager.getplugin("capturemanager"), manager.getplugin("terminalreporter")
        if terminal is None:
            return
        # A fixture's output would end up in the report of its test.
        with capture.global_and_fixture_disabled() if capture else nullcontext():
            terminal.ensure_newline()
            for line in lines.splitlines():
                terminal.write_line(line)


def real_ones_required() -> bool:
    """Whether a part that is missing is a failure and not a reason to skip."""
    return os.environ.get("REQUIRE_REAL_BACKENDS") == "1"


def wants_backends(item: pytest.Item) -> bool:
    """Whether a collected test is known to want any backend."""
    return "backends" in getattr(item, "fixturenames", ()) or any(_wants(item, part) for part in WANTS)


def table(backends: Backends, items: Sequence[pytest.Item]) -> str:
    """What came up, why nothing better did, and which suites of `items` are skipped for want of what part."""
    text = StringIO()
    console = Console(file=text, width=120)
    console.print(render(backends))
    for part in (part for part in WANTS if not _has(backends, part)):
        suites = Counter(item.location[0] for item in items if _wants(item, part))
        for suite, tests in suites.items():
            console.print(f"skipped for want of {part}: {suite} ({tests} tests)", markup=False, highlight=False)
    return text.getvalue()


def _has(backends: Backends, part: str) -> bool:
    return bool(backends.kafka_bootstrap_servers) if part == "kafka" else backends.database_url.startswith("mysql")


def _wants(item: pytest.Item, part: str) -> bool:
    return WANTS[part] in getattr(item, "fixturenames", ()) or item.get_closest_marker(part) is not None
