"""From the outbox to the log, at least once, and in order within each key.

    outbox ──oldest by id──▶ a round ──publish_all──▶ log
       ◀────── delete by id, extend the lease ◀────── acknowledged

Of all processes one relays at a time: who holds the lease `outbox-relay`. It is a matter of cost and not of order: two
that relay at once, since one was frozen and does not know that its lease is over, make duplicates and no more. Whoever
publishes a message has read it together with all earlier ones of its key that were not known to be in the log, and
publishes those before it. So first occurrences stand in order, whatever dies or freezes in between.

Ids are not in order across keys: a transaction with lower ids may commit after one with higher ones was relayed. Within
a key they are (`database/outbox.py`), and rows are deleted one by one, so nothing is passed over.
"""

from safevideo_common.outbox.relay import run_outbox_relay

__all__ = ["run_outbox_relay"]
