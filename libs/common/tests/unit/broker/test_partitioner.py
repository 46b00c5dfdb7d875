import pytest

from safevideo_common.broker.partitioner import partition_of

# From the tests of Kafka's Java client, where the digest is signed.
KAFKA_DIGESTS = {
    b"21": -973932308,
    b"foobar": -790332482,
    b"a-little-bit-long-string": -985981536,
    b"a-little-bit-longer-string": -1486304829,
    b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
    b"abc": 479470107,
}


@pytest.mark.parametrize(("key", "digest"), KAFKA_DIGESTS.items())
def test_partition_of_a_key_follows_the_digest_of_kafkas_java_client(key: bytes, digest: int) -> None:
    assert partition_of(key, 1 << 31) == digest & 0x7FFFFFFF
    assert partition_of(key, 12) == (digest & 0x7FFFFFFF) % 12


def test_partition_of_an_empty_key_exists() -> None:
    assert 0 <= partition_of(b"", 12) < 12


def test_partition_of_many_keys_covers_all_partitions() -> None:
    assert {partition_of(f"sg_{number}".encode(), 12) for number in range(500)} == set(range(12))
