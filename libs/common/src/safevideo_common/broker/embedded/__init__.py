"""The event log in one SQLite file, for a run without Kafka: `make run`, demos, tests on a laptop.

    event loop                                    writer thread                      reader thread
    publisher ──append──▶ queue ──all that wait──▶ one transaction, fsync
        ◀──────────────── acknowledged ◀────────── committed
    subscription, reader ────────────────────────────────────────────read──────────▶ a range of records

Not a toy Kafka: what the port promises and no more. It survives `kill -9`; one process at a time has it open.
"""

from safevideo_common.broker.embedded.broker import EmbeddedBroker, open_embedded_broker

__all__ = ["EmbeddedBroker", "open_embedded_broker"]
