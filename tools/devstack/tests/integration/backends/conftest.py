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
    """Skip unless this run has the local stack: then a test can start another one."""
    if backends.stack != "local":
        pytest.skip(f"this run has the {backends.stack} stack")
