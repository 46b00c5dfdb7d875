"""The message broker: one port, two adapters.

    services ──▶ port.py ◀── kafka/      Apache Kafka
                         ◀── embedded/   one SQLite file, for a run without Kafka

    types.py         messages, records, topics
    port.py          Broker, Producer, Subscription, Reader, and what each guarantees
    delivery.py      bounds on messages in flight: how many, and for how long
    partitioner.py   key to partition, as every Kafka client does it
    open.py          chooses the adapter from the settings

Services import the port only.
"""
