"""Several processes on one port (`INGEST_WORKERS`).

    parent ── forks, waits for signals, starts again whoever dies
      ├── worker 1 ── event loop, listens on the port by itself (SO_REUSEPORT)
      └── worker 2 ── likewise: the kernel shares new connections out among those that live

The parent has no event loop, no thread and no connection: it can be forked from at any time, and has nothing to die of.
"""
