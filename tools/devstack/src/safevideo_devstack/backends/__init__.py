"""Backends for tests, `make run STACK=local`, benchmarks and chaos: a log, a database and a cache.

`up` and `down` own the processes. What `up` returns has a hold on each of them: a supervisor looks whether
`server.alive()` and says `server.start()`; a drill says `server.paused()` or `server.kill()`. A supervisor that wants
to own the processes itself calls `install`, `allot` and `servers_of`, then for each server `prepare()`, `command()`
and `wait_ready`.
"""

from safevideo_devstack.backends.lifecycle import RunningBackends, RunningServer, down, running, status, up
from safevideo_devstack.backends.local import install
from safevideo_devstack.backends.ports import allot
from safevideo_devstack.backends.processes import servers_of
from safevideo_devstack.backends.stack import (
    BackendFailed,
    Backends,
    BackendUnavailable,
    NotReady,
    Options,
    Part,
    Ports,
    Server,
    Stack,
)
from safevideo_devstack.backends.starting import wait_ready

__all__ = [
    "BackendFailed",
    "BackendUnavailable",
    "Backends",
    "NotReady",
    "Options",
    "Part",
    "Ports",
    "RunningBackends",
    "RunningServer",
    "Server",
    "Stack",
    "allot",
    "down",
    "install",
    "running",
    "servers_of",
    "status",
    "up",
    "wait_ready",
]
