"""The outbox: messages written in the transaction that causes them, and the relay that publishes them to the broker.

    outbox ──fetch the oldest rows──▶ a batch ──publish──▶ broker
       ◀───────── delete the rows, renew the lease ◀────── acknowledged

       └── block the rows of a partition that acknowledged nothing ──▶ a second task publishes them

Guarantee: each message is published at least once, and per key the first copies are in order.
Guarantee: a partition that takes no writes delays its own messages only, for as long as it lasts.

The process that holds the lease `outbox-relay` relays. The lease saves work; the order does not depend on it. A relay
always reads the oldest unpublished rows of a key first and publishes them in id order. Two concurrent relays can
publish duplicates, but the first copies are in order.

Across keys ids are not in order: a transaction with lower ids may commit after higher ids were published. Within a key
they are (`store.py`). The relay deletes the rows that it published, never a range of ids, so it skips no row.
"""
