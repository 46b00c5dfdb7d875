import time
from collections.abc import Callable

import pytest

from safevideo_devstack.backends.lifecycle import RunningBackends

Until = Callable[[Callable[[], object]], None]


@pytest.fixture
def until() -> Until:
    def wait(condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + 60
        while not condition():
            assert time.monotonic() < deadline, "waited for a minute"
            time.sleep(0.02)

    return wait


@pytest.fixture
def local(backends: RunningBackends) -> None:
    """For a test that starts a local stack of its own: this run has shown that it can be had here."""
    if backends.stack != "local":
        pytest.skip(f"this run has the {backends.stack} stack")
