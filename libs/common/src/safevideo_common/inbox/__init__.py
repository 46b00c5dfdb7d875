"""From the log into the database: each event has one effect, whatever dies in between.

An event's life in one consumer group (the inbox row's `status`):

    fetched ──▶ applied | stale | ignored                 it has had its effect, or has none
       │  └───▶ waiting ──▶ applied | stale | dead        it cannot be applied yet, or queues behind one that cannot
       └──────▶ dead ──▶ waiting                          what is wrong lies in the event, until an operator redrives it

    waiting: tried again when its time has come (`retries.py`), dead when its tries are used up

The inbox row and the effect are one transaction, and the offset is committed after it. So a crash at any point costs
records that are read twice, and the inbox recognises those.

A batch's way through one loop (`loop.py`), of which a member runs several (`member.py`):

    fetch ──▶ hold ──▶ load ─ decide ─ store ─ commit ──▶ offsets ──▶ fetch
                         ▲      │        │
                         │      └────────┴──▶ a conflict, a database away: the batch again, unchanged
                         │      └───────────▶ an event raises: the halves, until it is alone and dead
                         └── a claim that is void (the partitions changed hands): the batch is given up
                             too many dead (`dead_share.py`): the member leaves its group and halts

Nothing is taken that is not worked on: a loop has one batch in hand, and of what it does not ask for the log's client
reads a bounded number of bytes ahead. Before partitions change hands the batches in hand get a moment to end; after it
their claim is void. That saves work and is not what correctness rests on: a process that was frozen and wakes up finds
its events in the inbox, by then another member's, and its offsets are refused by the broker.
"""
