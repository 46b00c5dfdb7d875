"""The wire contracts: the messages on the broker, one module per topic, and their common envelope."""
