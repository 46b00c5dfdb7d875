"""The broker on Apache Kafka, with aiokafka.

    broker.py ──┬─▶ producer.py     one sender per partition, deadlines, batches
                ├─▶ consumer.py     group member: fetch, commit, lag   ──▶ assignment.py   fencing after a rebalance
                ├─▶ reader.py       ranges without a group
                └─▶ admin.py        topics

Each uses client.py: reconnecting, translation of errors, stop in bounded time.
"""

from safevideo_common.broker.kafka.broker import KafkaBroker

__all__ = ["KafkaBroker"]
