"""The store reads events in the order of append, removes delivered ones, and saves unreadable bytes."""

import fcntl
import os
import stat
import threading
from collections.abc import Iterable
from pathlib import Path

from safevideo_common.broker.types import Message, TopicPartition
from webhook_ingest.spool import corrupt
from webhook_ingest.spool.directory import SpoolDirectory, remove_unfinished
from webhook_ingest.spool.segment import READ_BYTES, StoredEvent
from webhook_ingest.spool.store import SegmentStore


def messages(*values: bytes) -> list[Message]:
    return [Message("topic", b"key-" + value[:10], value) for value in values]


def values(events: Iterable[StoredEvent]) -> list[bytes]:
    return [each.event.message.value for each in events]


def segments(root: Path) -> list[Path]:
    return sorted(root.glob("*/*.spool"))


def left_behind(root: Path, *values: bytes, segment_bytes: int = 1 << 20) -> None:
    """Leave segments like a dead process: its lock is free."""
    store = SegmentStore(root, segment_bytes)
    for value in values:
        store.append(messages(value), 0)
    store.close()


def adopt_all(store: SegmentStore) -> dict[bytes, int]:
    store.lock()
    found: dict[bytes, int] = {}
    while (keys := store.adopt()) is not None:
        for key, count in keys.items():
            found[key] = found.get(key, 0) + count
    return found


def test_store_reads_each_event_once_in_order(tmp_path: Path) -> None:
    store = SegmentStore(tmp_path / "spool")
    assert store.append(messages(b"1", b"2", b"3"), 0) == 1
    assert store.append(messages(b"4"), 0) == 4
    assert values(store.read_batch(2).events) == [b"1", b"2"]
    assert values(store.read_batch(10).events) == [b"3", b"4"]
    assert store.read_batch(10) == ([], [])
    store.close()


def test_store_removes_segment_when_all_its_events_are_delivered(tmp_path: Path) -> None:
    store = SegmentStore(tmp_path, segment_bytes=1)
    for value in (b"1", b"2", b"3"):
        store.append(messages(value), 0)
    assert len(segments(tmp_path)) == 3
    events = store.read_batch(3).events
    assert not store.mark_delivered(events[1:])
    assert [path.stem[-1] for path in segments(tmp_path)] == ["1"]
    assert store.mark_delivered(events[:1])
    assert (segments(tmp_path), store.disk_bytes) == ([], 0)
    assert store.append(messages(b"4"), 0) == 4
    assert values(store.read_batch(10).events) == [b"4"]
    store.close()


def test_store_keeps_segment_with_unread_events(tmp_path: Path) -> None:
    store = SegmentStore(tmp_path)
    store.append(messages(b"1"), 0)
    events = store.read_batch(10).events
    store.append(messages(b"2"), 0)
    assert not store.mark_delivered(events)
    assert values(store.read_batch(10).events) == [b"2"]
    store.close()


def test_store_continues_at_saved_position(tmp_path: Path) -> None:
    store = SegmentStore(tmp_path)
    store.append(messages(b"1", b"2", b"3"), 0)
    events = store.read_batch(10).events
    store.mark_delivered([events[0], events[2]])  # the second failed
    store.close()
    store = SegmentStore(tmp_path)
    assert adopt_all(store) == {b"key-2": 1, b"key-3": 1}
    assert values(store.read_batch(10).events) == [b"2", b"3"]
    store.close()


def test_store_reads_from_the_start_when_saved_position_is_invalid(tmp_path: Path) -> None:
    left_behind(tmp_path, b"1", b"2")
    (folder,) = (path for path in tmp_path.iterdir())
    for invalid in (b"", b"\0" * 48, b"\xff\xfe", b"name", b"0.spool 9", b"x x x"):
        (folder / "progress").write_bytes(invalid)
        store = SegmentStore(tmp_path)
        adopt_all(store)
        assert values(store.read_batch(10).events) == [b"1", b"2"]
        store.close()
        (folder,) = (path for path in tmp_path.iterdir())


def test_store_leaves_no_directory_without_events(tmp_path: Path) -> None:
    store = SegmentStore(tmp_path)
    store.append(messages(b"1"), 0)
    store.mark_delivered(store.read_batch(1).events)
    store.close()
    assert list(tmp_path.iterdir()) == []


def test_store_files_are_readable_by_owner_only(tmp_path: Path) -> None:
    store = SegmentStore(tmp_path / "spool")
    store.append(messages(b"1"), 0)
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in [tmp_path / "spool", *(tmp_path / "spool").rglob("*")]}
    assert {mode for path, mode in modes.items() if path.is_dir()} == {0o700}
    assert {mode for path, mode in modes.items() if path.is_file()} == {0o600}
    store.close()


def test_store_adopts_dead_process_once_and_leaves_live_process_alone(tmp_path: Path) -> None:
    living, first, second = SegmentStore(tmp_path), SegmentStore(tmp_path), SegmentStore(tmp_path)
    living.append(messages(b"alive"), 0)
    left_behind(tmp_path, b"dead")
    assert adopt_all(first) == {b"key-dead": 1}
    assert adopt_all(second) == {}
    assert adopt_all(living) == {}
    assert values(first.read_batch(10).events) == [b"dead"]
    for store in (living, first, second):
        store.close()


def test_store_reads_adopted_segments_first_and_removes_their_directory(tmp_path: Path) -> None:
    left_behind(tmp_path, b"1", b"2", segment_bytes=1)
    store = SegmentStore(tmp_path)
    store.append(messages(b"3"), 0)
    adopt_all(store)
    events = store.read_batch(10).events
    assert values(events) == [b"1", b"2", b"3"]
    store.mark_delivered(events[:1])
    assert len(list(tmp_path.iterdir())) == 2
    store.mark_delivered(events[1:2])
    assert len(list(tmp_path.iterdir())) == 1
    store.close()


def test_store_ignores_other_directories(tmp_path: Path) -> None:
    for name in ("lost+found", "corrupt", ".new", "notes"):
        (tmp_path / name).mkdir()
    store = SegmentStore(tmp_path)
    result = store.lock()
    assert not result.directories
    assert not result.unusable
    assert len(list(tmp_path.iterdir())) == 4


def test_store_ignores_torn_record_and_reads_those_before_it(tmp_path: Path) -> None:
    left_behind(tmp_path, b"1", b"2")
    (segment,) = segments(tmp_path)
    os.truncate(segment, segment.stat().st_size - 1)
    store = SegmentStore(tmp_path)
    assert adopt_all(store) == {b"key-1": 1}
    batch = store.read_batch(10)
    assert values(batch.events) == [b"1"]
    assert [damaged.is_damage for damaged in batch.corrupt] == [False]
    assert store.mark_delivered(batch.events)
    store.close()
    assert list(tmp_path.iterdir()) == []


def test_store_saves_damaged_record_and_reads_the_others(tmp_path: Path) -> None:
    left_behind(tmp_path, b"first", b"second", b"third")
    (segment,) = segments(tmp_path)
    data = segment.read_bytes()
    at = data.index(b"second", data.index(b"key-second") + 10)
    segment.write_bytes(data[:at] + b"S" + data[at + 1 :])
    store = SegmentStore(tmp_path)
    adopt_all(store)
    batch = store.read_batch(10)
    assert values(batch.events) == [b"first", b"third"]
    (damaged,) = batch.corrupt
    assert (damaged.is_damage, damaged.path) == (True, segment)
    (saved,) = (tmp_path / "corrupt").iterdir()
    assert saved.read_bytes() == (data[:at] + b"S" + data[at + 1 :])[damaged.start : damaged.start + damaged.size]
    assert stat.S_IMODE(saved.stat().st_mode) == 0o600
    assert store.mark_delivered(batch.events)
    store.close()
    assert segments(tmp_path) == []


def test_store_moves_whole_segment_when_damage_cannot_be_copied(tmp_path: Path) -> None:
    left_behind(tmp_path, b"first", b"second", b"third")
    (segment,) = segments(tmp_path)
    data = segment.read_bytes().replace(b"second", b"SECOND")
    segment.write_bytes(data)
    (tmp_path / "corrupt").write_text("a file where the folder should be")
    store = SegmentStore(tmp_path)
    adopt_all(store)
    batch = store.read_batch(10)
    assert store.mark_delivered(batch.events)
    assert segments(tmp_path) == [segment]  # it could not even be moved
    (tmp_path / "corrupt").unlink()
    store.mark_delivered(())
    (saved,) = (tmp_path / "corrupt").iterdir()
    assert saved.read_bytes() == data
    store.close()


def test_store_reads_segments_that_are_larger_than_one_read(tmp_path: Path) -> None:
    large = [bytes([65 + number]) * 900_000 for number in range(8)]
    assert len(b"".join(large)) > 3 * READ_BYTES
    store = SegmentStore(tmp_path)
    store.append(messages(*large), 0)
    found: list[bytes] = []
    while batch := store.read_batch(3).events:
        found += values(batch)
    assert found == large
    store.close()


def test_store_reads_events_after_damage_longer_than_one_read(tmp_path: Path) -> None:
    left_behind(tmp_path, b"first", *[b"x" * 900_000] * 4, b"last", segment_bytes=1 << 24)
    (segment,) = segments(tmp_path)
    data = segment.read_bytes()
    begin, end = data.index(b"xxx"), data.rindex(b"xxx")
    segment.write_bytes(data[:begin] + b"\xff" * (end - begin) + data[end:])
    store = SegmentStore(tmp_path)
    adopt_all(store)
    found: list[bytes] = []
    while batch := store.read_batch(10).events:
        found += values(batch)
    assert found == [b"first", b"last"]
    store.close()


def test_store_reads_all_of_a_segment_before_the_next(tmp_path: Path) -> None:
    large = [bytes([65 + number]) * 900_000 for number in range(4)]
    left_behind(tmp_path, *large, segment_bytes=1 << 24)
    store = SegmentStore(tmp_path)
    adopt_all(store)
    store.append(messages(b"later"), 0)
    found: list[bytes] = []
    while batch := store.read_batch(10).events:
        found += values(batch)
    assert found == [*large, b"later"]
    store.close()


def test_store_reads_segments_of_dead_processes_in_order_of_creation(tmp_path: Path) -> None:
    left_behind(tmp_path, b"1", b"2", segment_bytes=1)
    (older,) = tmp_path.iterdir()
    second = SegmentStore(tmp_path)
    adopt_all(second)
    second.append(messages(b"3"), 0)
    second.mark_delivered(second.read_batch(1).events)
    second.close()
    os.utime(older)  # as whenever a file of it is removed
    third = SegmentStore(tmp_path)
    adopt_all(third)
    assert values(third.read_batch(10).events) == [b"2", b"3"]
    third.close()


def test_store_removes_unfinished_directories_of_killed_processes(tmp_path: Path) -> None:
    (tmp_path / ".new-1-0123456789ab").mkdir()
    (tmp_path / ".new-1-0123456789ab" / "lock").touch()
    (tmp_path / ".new-2-0123456789ab").mkdir()
    (tmp_path / ".new-check").touch()
    store = SegmentStore(tmp_path)
    store.lock()
    assert list(tmp_path.iterdir()) == []
    store.close()


def test_store_leaves_directories_in_creation_alone(tmp_path: Path) -> None:
    (tmp_path / ".new-1-0123456789ab").mkdir()
    store, maker = SegmentStore(tmp_path), os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    fcntl.flock(maker, fcntl.LOCK_SH)
    store.lock()
    assert [path.name for path in tmp_path.iterdir()] == [".new-1-0123456789ab"]
    os.close(maker)
    store.lock()
    assert list(tmp_path.iterdir()) == []
    store.close()


def test_directories_are_created_while_others_clean_up(tmp_path: Path) -> None:
    """Nothing that is being made is batch away, however often others look."""
    stop = threading.Event()

    def clean_up() -> None:
        while not stop.is_set():
            remove_unfinished(tmp_path)

    cleaner = threading.Thread(target=clean_up)
    cleaner.start()
    try:
        for _ in range(100):
            SpoolDirectory.create(tmp_path).close()
    finally:
        stop.set()
        cleaner.join()


def test_corrupt_directory_evicts_oldest_files(tmp_path: Path) -> None:
    for age, name in enumerate(("newest", "middle", "oldest")):
        corrupt.write(tmp_path, name, b"x" * 10)
        os.utime(tmp_path / "corrupt" / name, (1_000 - age, 1_000 - age))
    assert corrupt.evict_oldest(tmp_path) == (0, 0)
    assert corrupt.evict_oldest(tmp_path, max_bytes=25) == (1, 10)
    assert sorted(path.name for path in (tmp_path / "corrupt").iterdir()) == ["middle", "newest"]
    assert corrupt.evict_oldest(tmp_path, max_files=1) == (1, 10)
    assert [path.name for path in (tmp_path / "corrupt").iterdir()] == ["newest"]


def test_append_never_writes_to_a_file_that_exists(tmp_path: Path) -> None:
    """Such a file is a sealed segment that could not be removed: it is removed later, with all that is in it."""
    store = SegmentStore(tmp_path, segment_bytes=1)
    store.append(messages(b"1"), 0)
    leftover = segments(tmp_path)[0].with_name(f"{2:020d}.spool")
    leftover.write_bytes(b"sealed")
    store.append(messages(b"2"), 0)
    assert leftover.read_bytes() == b"sealed"
    leftover.unlink()
    store.close()
    again = SegmentStore(tmp_path)
    adopt_all(again)
    assert values(again.read_batch(10).events) == [b"1", b"2"]


def test_deferred_events_are_read_by_partition_in_order_and_keep_their_file(tmp_path: Path) -> None:
    store, here, there = SegmentStore(tmp_path, segment_bytes=150), TopicPartition("t", 1), TopicPartition("t", 2)
    for number in range(12):
        store.append(messages(b"%d" % number), 0)
    events = store.read_batch(12).events
    store.defer(events[1::3], here)
    store.defer(events[2::3], there)
    store.mark_delivered(events[::3])
    assert values(store.read_deferred(here, 3).events) == [b"1", b"4", b"7"]
    assert values(store.read_deferred(there, 9).events) == [b"2", b"5", b"8", b"11"]
    store.defer(store.read_deferred(there, 2).events, here)  # their partition was not known before
    assert values(store.read_deferred(here, 9).events) == [b"1", b"2", b"4", b"5", b"7", b"10"]
    assert not store.mark_delivered(store.read_deferred(here, 9).events)
    assert store.mark_delivered(store.read_deferred(there, 9).events)
    assert segments(tmp_path) == []


def test_deferred_event_that_becomes_unreadable_is_saved_and_the_others_are_read(tmp_path: Path) -> None:
    store, here = SegmentStore(tmp_path), TopicPartition("t", 1)
    store.append(messages(b"first", b"second"), 0)
    events = store.read_batch(2).events
    store.defer(events, here)
    with events[0].segment.path.open("r+b") as file:
        file.seek(events[0].start + 20)
        file.write(b"damage")
    batch = store.read_deferred(here, 9)
    assert values(batch.events) == [b"second"]
    assert [each.is_damage for each in batch.corrupt] == [True]
    assert store.mark_delivered(batch.events)
    assert len(list((tmp_path / "corrupt").iterdir())) == 1
