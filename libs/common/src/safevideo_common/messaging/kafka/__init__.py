"""The event log on Apache Kafka, by way of aiokafka."""

from safevideo_common.messaging.kafka.log import KafkaLog

__all__ = ["KafkaLog"]
