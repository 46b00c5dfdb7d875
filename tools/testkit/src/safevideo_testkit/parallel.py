"""The pytest plugin for pytest-xdist: how many workers there are, and a set of backends for each of them.

`-n auto` runs tests side by side unless a person looks at some of them: with `-s`, `-k`, `-m` or paths it does not.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import pytest

from safevideo_common.errors import StartupError
from safevideo_devstack.backends.external import uses_external
from safevideo_testkit.backends_of_run import (
    FOLDER,
    MISSING,
    BackendsOfWorkers,
    named_stack,
    skipped_suites,
    started_in,
    worker_input,
)

SETS: Final = pytest.StashKey[BackendsOfWorkers]()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Return one worker more than there are cores, since many tests wait. External backends serve no worker."""
    option = config.option
    is_chosen = option.keyword or option.markexpr or config.args != config.getini("testpaths")
    if option.capture == "no" or is_chosen or uses_external(named_stack()):
        return 0
    return (os.cpu_count() or 1) + 1


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes(config: pytest.Config, specs: Sequence[object]) -> None:
    """Bring up a set of backends for each worker."""
    sets = config.stash[SETS] = BackendsOfWorkers(config)
    config.add_cleanup(sets.close)
    try:
        sets.start(len(specs))
    except StartupError as error:
        pytest.exit(str(error), returncode=pytest.ExitCode.TESTS_FAILED)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:  # xdist has no public type for it
    """Tell the worker which set it has."""
    node.workerinput[FOLDER] = node.config.stash[SETS].assign()


@pytest.hookimpl(tryfirst=True)  # before the controller hears of it
def pytest_collection_finish(session: pytest.Session) -> None:
    """Write down, in a worker, what its tests lack."""
    if (name := worker_input(session.config).get(FOLDER)) is not None:
        missing = skipped_suites(started_in(Path(name)), session)
        (Path(name) / MISSING).write_text("\n".join(missing))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_node_collection_finished(node: Any) -> None:
    """Print the table, before the first test runs."""
    node.config.stash[SETS].show(node.workerinput[FOLDER])
