"""Several processes on one port (`INGEST_WORKERS`).

    parent ── forks, waits for signals, starts again whoever dies
      ├── worker 1 ── event loop, listens on the port by itself (SO_REUSEPORT)
      └── worker 2 ── likewise: the kernel shares new connections out among those that live

A worker tells the parent every second that its event loop goes round. One that is silent for 30 s is killed and started
again like any other.

The parent has no event loop, no thread and no connection: it can be forked from at any time, and has nothing to die of.
"""
