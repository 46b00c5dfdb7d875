"""Backends for tests, `make run STACK=local`, benchmarks and chaos tests: a broker, a database and a cache.

`up` and `down` own the processes. `up` returns a handle of each: a supervisor checks `server.alive()` and calls
`server.start()`; a chaos test calls `server.paused()` or `server.kill()`.

A supervisor that owns the processes itself calls `install_programs`, `allocate_ports` and `servers_of`, then for each
server `prepare()`, `command()` and `wait_ready`.
"""

from safevideo_devstack.backends.install import install_programs
from safevideo_devstack.backends.lifecycle import RunningBackends, RunningServer, down, running, status, up
from safevideo_devstack.backends.ports import allocate_ports
from safevideo_devstack.backends.servers import servers_of, wait_ready
from safevideo_devstack.backends.stack import (
    BackendFailed,
    BackendInfo,
    Backends,
    BackendUnavailable,
    NotReady,
    Options,
    Ports,
    Server,
    Stack,
)

__all__ = [
    "BackendFailed",
    "BackendInfo",
    "BackendUnavailable",
    "Backends",
    "NotReady",
    "Options",
    "Ports",
    "RunningBackends",
    "RunningServer",
    "Server",
    "Stack",
    "allocate_ports",
    "down",
    "install_programs",
    "running",
    "servers_of",
    "status",
    "up",
    "wait_ready",
]
