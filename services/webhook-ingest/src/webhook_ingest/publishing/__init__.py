"""Publishing to Kafka, by way of the spool while Kafka is unavailable."""
