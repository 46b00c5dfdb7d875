"""The inbox: it applies the events of the broker to the database, each event once.

The status of an event in one consumer group, column `status` of its inbox row:

    fetched ──▶ applied | stale | ignored                 the event has its effect, or has none
       │  └───▶ waiting ──▶ applied | stale | dead        it cannot be applied yet, or an earlier event of its
       │                                                  performer waits; `retries.py` retries it
       └──────▶ dead ──▶ waiting                          the event itself is wrong; `redrive.py` requeues it

Idempotency: the inbox row, the effect and the outbox messages are one transaction, and the offset is committed after
it. After a crash records may be read twice, and the inbox row of their event shows that it was processed.

The way of a batch through a consume loop (`consume_loop.py`); a group member (`group_member.py`) runs several loops:

    fetch ──▶ claim ──▶ load ─ decide ─ store ─ commit ──▶ commit offsets ──▶ fetch
                         ▲      │        │
                         │      └────────┴──▶ conflict, or database unavailable: retry the same batch
                         │      └───────────▶ an event fails: bisect the batch until it is alone, dead-letter it
                         └── the claim is lost after a rebalance: discard the batch
                             the DLQ limit is exceeded (`dead_letters.py`): leave the group and halt

Backpressure: a loop has one batch in flight, and the broker client prefetches a bounded number of bytes. Before a
rebalance, running batches get a short time to finish. This saves work; correctness does not depend on it: a process
that was frozen finds its events in the inbox of the new owner, and the broker rejects its offsets.
"""
