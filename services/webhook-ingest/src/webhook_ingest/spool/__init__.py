"""The spool: webhooks on the local disk, until Kafka acknowledges them.

```
SPOOL_DIR/<process>/lock                    flock, held as long as the process lives
SPOOL_DIR/<process>/<number>.spool          a segment: records one after the other; named by its first record
SPOOL_DIR/<process>/progress                the delivered position in the oldest segment
SPOOL_DIR/.new-<process>                    a directory in creation; removed if its process was killed
SPOOL_DIR/id                                the id of this disk, for reports of what waits on it
SPOOL_DIR/corrupt/<process>-<number>-<byte> unreadable bytes as they were found; the newest 64 MiB in 1,000 files
```

`Spool` (`spool.py`) is the interface of the event loop. `SpoolWriter` (`writer.py`) is the only thread that touches the
files, through `SegmentStore` (`store.py`). `SpoolDrainer` (`publishing/spool_drainer.py`) empties the spool.

*Guarantee*: an appended event is on disk (fsync) before its future has a result. Events of one process are delivered in
the order of `append`. An event stays on disk until `mark_delivered`.
*Under*: a crash or kill of the process or the machine, a full disk, a torn or damaged record. The disk itself survives.
*Not guaranteed*: delivery exactly once. After a crash the latest events are delivered again, with the same id.

Reasons and bounds: docs/adr/0006.
"""
