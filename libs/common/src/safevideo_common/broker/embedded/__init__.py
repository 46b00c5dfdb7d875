"""The broker in one SQLite file, for a run without Kafka: `make run`, demos, tests on a laptop.

    event loop                                     writer thread                       reader thread
    producer ──append──▶ queue ──all that waits──▶ one transaction, fsync
        ◀──────────────── acknowledged ◀────────── committed
    subscription, reader ──────────────────────────────────────────────read──────────▶ a range of records

    broker.py     opens everything, and deletes old records
    clients.py    producer, subscription, reader
    metadata.py   partitions, watermarks, committed offsets and groups, in memory
    writer.py     the writer thread and the reader thread
    storage.py    SQL, on one of these threads

It implements the guarantees of the port and nothing else of Kafka. It survives `kill -9`. One process at a time may
open it.
"""

from safevideo_common.broker.embedded.broker import EmbeddedBroker, open_embedded_broker

__all__ = ["EmbeddedBroker", "open_embedded_broker"]
