"""The event log on Apache Kafka, by way of aiokafka."""

from safevideo_common.broker.kafka.broker import KafkaBroker

__all__ = ["KafkaBroker"]
