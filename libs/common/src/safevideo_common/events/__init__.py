"""The wire contracts: what travels in the log, one module a topic, and the envelope they share."""
