"""The partition of a key, by the rule of Kafka's Java client: every other producer computes the same one."""

from functools import lru_cache

from aiokafka.partitioner import murmur2


@lru_cache(maxsize=65_536)
def partition_of(key: bytes, partitions: int) -> int:
    """Return the partition, from 0 on, of messages of `key`. Keys repeat, so results are cached."""
    return int((murmur2(key) & 0x7FFFFFFF) % partitions)
