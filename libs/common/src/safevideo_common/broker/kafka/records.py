"""Records as aiokafka returns them. Records of another producer are read too, or at least passed.

- Kafka says that the name of a header is UTF-8, and no broker checks it. aiokafka fails at the first name that is not.
- A topic may keep the compression of its producers. aiokafka fails at a batch of snappy, lz4 or zstd: it has gzip only.

It fails at each attempt, so nobody would get past that record. Private parts of aiokafka 0.14 are replaced here; the
test `test_aiokafka_has_the_private_parts_of_records` fails if an upgrade renames one of them.
"""

import struct
from collections.abc import Iterator
from itertools import islice
from operator import itemgetter
from typing import Any, Final, NamedTuple

from aiokafka import ConsumerRecord
from aiokafka.consumer import fetcher
from aiokafka.errors import UnsupportedCodecError
from aiokafka.record.default_records import _DefaultRecordBatchPy
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.record.util import decode_varint

from safevideo_common.broker.types import Record

_LENGTH_AT: Final = struct.calcsize(">q")
_LENGTH: Final = struct.Struct(">i")
_BEFORE_BATCH: Final = _LENGTH_AT + _LENGTH.size
_CODECS: Final = {2: "snappy", 3: "lz4", 4: "zstd"}
_header_value: Final = itemgetter(1)


class _UnreadableBatch(bytes):
    """The bytes of a whole batch, in the place of the value of its last record."""

    reason: str


def to_record(fetched: ConsumerRecord) -> Record:
    """Convert a record of aiokafka. Parts that another producer left out become empty."""
    headers = tuple(fetched.headers)
    if not all(map(_header_value, headers)):
        headers = tuple((name, value or b"") for name, value in headers)
    return Record(
        fetched.topic,
        fetched.partition,
        fetched.offset,
        fetched.timestamp,
        fetched.key or b"",
        fetched.value or b"",
        headers,
        fetched.value.reason if type(fetched.value) is _UnreadableBatch else "",
    )


def accept_any_batch() -> None:
    """Let all consumers of this process read or pass any batch. Further calls change nothing."""
    fetcher.MemoryRecords = TolerantRecords


class TolerantRecords:
    """The batches of a fetched partition, in the place of `MemoryRecords` of aiokafka."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._records = MemoryRecords(data)
        self._position = 0

    def size_in_bytes(self) -> int:
        """Return the size of all batches."""
        return len(self._data)

    def has_next(self) -> bool:
        """Return True if there is another whole batch."""
        return bool(self._records.has_next())

    def next_batch(self) -> "TolerantBatch":
        """Return the next batch. Raise errors of aiokafka for damaged bytes."""
        batch = self._records.next_batch()
        start = self._position
        (length,) = _LENGTH.unpack_from(self._data, start + _LENGTH_AT)
        self._position = start + _BEFORE_BATCH + length
        return TolerantBatch(batch, memoryview(self._data)[start : self._position])


class TolerantBatch:
    """A batch that aiokafka decodes as far as it can. The rest is decoded here."""

    __slots__ = ("_batch", "_data")

    def __init__(self, batch: Any, data: memoryview) -> None:
        self._batch = batch
        self._data = data

    def __getattr__(self, name: str) -> Any:
        return getattr(self._batch, name)

    def __iter__(self) -> Iterator[Any]:
        decoded = 0
        try:
            for record in self._batch:
                decoded += 1
                yield record
        except UnicodeDecodeError:
            yield from islice(_decode(self._data), decoded, None)
        except UnsupportedCodecError:
            yield _unreadable(self._data)


class _DecodedRecord(NamedTuple):
    offset: int
    timestamp: int
    timestamp_type: int
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes | None]]
    checksum: None = None


def _decode(data: memoryview) -> Iterator[_DecodedRecord]:
    """Decode all records of a batch. Bytes of a header name that are not UTF-8 become `\\x…`."""
    batch = _DefaultRecordBatchPy(data)
    batch._maybe_uncompress()
    fields = _Fields(bytes(batch._buffer), batch._pos)
    for _ in range(batch._num_records):
        fields.skip_to_record()
        timestamp = batch.first_timestamp + fields.number()
        offset = batch.base_offset + fields.number()
        key, value = fields.optional_bytes(), fields.optional_bytes()
        headers = [(fields.name(), fields.optional_bytes()) for _ in range(fields.number())]
        if batch.timestamp_type:  # of the broker: one for all
            timestamp = batch.max_timestamp
        yield _DecodedRecord(offset, timestamp, batch.timestamp_type, key, value, headers)


def _unreadable(data: memoryview) -> _DecodedRecord:
    """Return the batch in the place of its last record: who has passed that one has passed the batch."""
    batch = _DefaultRecordBatchPy(data)
    value, last = _UnreadableBatch(data), batch.next_offset - 1
    codec = _CODECS.get(batch.compression_type, f"codec {batch.compression_type}")
    value.reason = f"no worker reads {codec}, which compresses the batch of offsets {batch.base_offset} to {last}"
    return _DecodedRecord(last, batch.max_timestamp, batch.timestamp_type, None, value, [])


class _Fields:
    """The fields of consecutive records: numbers of variable length, and bytes after their length."""

    def __init__(self, buffer: bytes, position: int) -> None:
        self._buffer = buffer
        self._position = position

    def skip_to_record(self) -> None:
        """Skip the length of the record and its attributes, which are one byte."""
        self.number()
        self._position += 1

    def number(self) -> int:
        number, self._position = decode_varint(self._buffer, self._position)
        return int(number)

    def optional_bytes(self) -> bytes | None:
        length = self.number()
        if length < 0:
            return None
        start, self._position = self._position, self._position + length
        return self._buffer[start : self._position]

    def name(self) -> str:
        return (self.optional_bytes() or b"").decode(errors="backslashreplace")
