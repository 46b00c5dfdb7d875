"""Where events are safe while the log is away: files on this machine's disk.

```
SPOOL_DIR/<process>/lock                    held with flock for as long as the process lives
SPOOL_DIR/<process>/<number>.spool          a segment: records one after the other; named by its first record
SPOOL_DIR/<process>/progress                how far the oldest segment has been delivered
SPOOL_DIR/.new-<process>                    just being made; or what a process that was killed then left, removed
SPOOL_DIR/corrupt/<process>-<number>-<byte> what could not be read, as it was found; the newest 64 MiB, in 1,000 files
```

One thread has the files (`scribe.py`, `files.py`), one object faces the event loop (`spool.py`), one task empties it
(`drain.py`). Why there is a spool, and why these bounds: docs/adr/0006.
"""
