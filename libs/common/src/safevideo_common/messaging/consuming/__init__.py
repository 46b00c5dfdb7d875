"""From the log into the database: each event has one effect, whatever dies in between.

An event's life in one consumer group (the inbox row's `status`):

    fetched ──▶ applied | stale | ignored                 it has had its effect, or has none
       │  └───▶ waiting ──▶ applied | stale | dead        it cannot be applied yet, or queues behind one that cannot
       └──────▶ dead                                      what is wrong lies in the event itself

The inbox row and the effect are one transaction, and the offset is committed after it. So a crash at any point costs
records that are read twice, and the inbox recognises those.
"""
