"""The files: what is appended is given out in order, what is delivered is removed, what is unreadable is set aside."""

import fcntl
import os
import stat
import threading
from collections.abc import Iterable
from pathlib import Path

from safevideo_common.broker.types import Message
from webhook_ingest.spool import corrupt
from webhook_ingest.spool.directory import SpoolDirectory, remove_unfinished
from webhook_ingest.spool.segment import PIECE_BYTES, StoredEvent
from webhook_ingest.spool.store import SegmentStore


def messages(*values: bytes) -> list[Message]:
    return [Message("topic", b"key-" + value[:10], value) for value in values]


def values(placed: Iterable[StoredEvent]) -> list[bytes]:
    return [each.kept.message.value for each in placed]


def segments(root: Path) -> list[Path]:
    return sorted(root.glob("*/*.spool"))


def left_behind(root: Path, *values: bytes, segment_bytes: int = 1 << 20) -> None:
    """Files as a dead process leaves them: its lock is free."""
    files = SegmentStore(root, segment_bytes)
    for value in values:
        files.append(messages(value), 0)
    files.close()


def adopt_all(files: SegmentStore) -> dict[bytes, int]:
    files.claim()
    found: dict[bytes, int] = {}
    while (keys := files.admit()) is not None:
        for key, count in keys.items():
            found[key] = found.get(key, 0) + count
    return found


def test_events_are_given_out_once_and_in_order(tmp_path: Path) -> None:
    files = SegmentStore(tmp_path / "spool")
    assert files.append(messages(b"1", b"2", b"3"), 0) == 1
    assert files.append(messages(b"4"), 0) == 4
    assert values(files.take(2).placed) == [b"1", b"2"]
    assert values(files.take(10).placed) == [b"3", b"4"]
    assert files.take(10) == ([], [])
    files.close()


def test_a_file_is_removed_when_all_of_it_is_delivered(tmp_path: Path) -> None:
    files = SegmentStore(tmp_path, segment_bytes=1)
    for value in (b"1", b"2", b"3"):
        files.append(messages(value), 0)
    assert len(segments(tmp_path)) == 3
    placed = files.take(3).placed
    assert not files.deliver(placed[1:])
    assert [path.stem[-1] for path in segments(tmp_path)] == ["1"]
    assert files.deliver(placed[:1])
    assert (segments(tmp_path), files.disk_bytes) == ([], 0)
    assert files.append(messages(b"4"), 0) == 4
    assert values(files.take(10).placed) == [b"4"]
    files.close()


def test_what_was_appended_since_keeps_the_file(tmp_path: Path) -> None:
    files = SegmentStore(tmp_path)
    files.append(messages(b"1"), 0)
    placed = files.take(10).placed
    files.append(messages(b"2"), 0)
    assert not files.deliver(placed)
    assert values(files.take(10).placed) == [b"2"]
    files.close()


def test_a_new_start_goes_on_where_delivery_ended(tmp_path: Path) -> None:
    files = SegmentStore(tmp_path)
    files.append(messages(b"1", b"2", b"3"), 0)
    placed = files.take(10).placed
    files.deliver([placed[0], placed[2]])  # the second failed
    files.close()
    files = SegmentStore(tmp_path)
    assert adopt_all(files) == {b"key-2": 1, b"key-3": 1}
    assert values(files.take(10).placed) == [b"2", b"3"]
    files.close()


def test_progress_that_makes_no_sense_costs_a_second_delivery_and_no_more(tmp_path: Path) -> None:
    left_behind(tmp_path, b"1", b"2")
    (folder,) = (path for path in tmp_path.iterdir())
    for nonsense in (b"", b"\0" * 48, b"\xff\xfe", b"name", b"0.spool 9", b"x x x"):
        (folder / "progress").write_bytes(nonsense)
        files = SegmentStore(tmp_path)
        adopt_all(files)
        assert values(files.take(10).placed) == [b"1", b"2"]
        files.close()
        (folder,) = (path for path in tmp_path.iterdir())


def test_a_process_without_events_leaves_nothing_behind(tmp_path: Path) -> None:
    files = SegmentStore(tmp_path)
    files.append(messages(b"1"), 0)
    files.deliver(files.take(1).placed)
    files.close()
    assert list(tmp_path.iterdir()) == []


def test_only_the_owner_can_read_it(tmp_path: Path) -> None:
    files = SegmentStore(tmp_path / "spool")
    files.append(messages(b"1"), 0)
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in [tmp_path / "spool", *(tmp_path / "spool").rglob("*")]}
    assert {mode for path, mode in modes.items() if path.is_dir()} == {0o700}
    assert {mode for path, mode in modes.items() if path.is_file()} == {0o600}
    files.close()


def test_the_spool_of_a_living_process_is_left_alone_and_that_of_a_dead_one_is_adopted_by_one(tmp_path: Path) -> None:
    living, first, second = SegmentStore(tmp_path), SegmentStore(tmp_path), SegmentStore(tmp_path)
    living.append(messages(b"alive"), 0)
    left_behind(tmp_path, b"dead")
    assert adopt_all(first) == {b"key-dead": 1}
    assert adopt_all(second) == {}
    assert adopt_all(living) == {}
    assert values(first.take(10).placed) == [b"dead"]
    for files in (living, first, second):
        files.close()


def test_what_was_adopted_comes_before_ones_own_and_its_folder_goes_when_it_is_delivered(tmp_path: Path) -> None:
    left_behind(tmp_path, b"1", b"2", segment_bytes=1)
    files = SegmentStore(tmp_path)
    files.append(messages(b"3"), 0)
    adopt_all(files)
    placed = files.take(10).placed
    assert values(placed) == [b"1", b"2", b"3"]
    files.deliver(placed[:1])
    assert len(list(tmp_path.iterdir())) == 2
    files.deliver(placed[1:2])
    assert len(list(tmp_path.iterdir())) == 1
    files.close()


def test_other_folders_are_none_of_its_business(tmp_path: Path) -> None:
    for name in ("lost+found", "corrupt", ".new", "notes"):
        (tmp_path / name).mkdir()
    files = SegmentStore(tmp_path)
    claimed = files.claim()
    assert not claimed.segments
    assert not claimed.unusable
    assert len(list(tmp_path.iterdir())) == 4


def test_a_torn_tail_is_dropped_and_what_stands_before_it_is_given_out(tmp_path: Path) -> None:
    left_behind(tmp_path, b"1", b"2")
    (segment,) = segments(tmp_path)
    os.truncate(segment, segment.stat().st_size - 1)
    files = SegmentStore(tmp_path)
    assert adopt_all(files) == {b"key-1": 1}
    taken = files.take(10)
    assert values(taken.placed) == [b"1"]
    assert [lost.is_damage for lost in taken.lost] == [False]
    assert files.deliver(taken.placed)
    files.close()
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_record_is_set_aside_and_the_others_are_given_out(tmp_path: Path) -> None:
    left_behind(tmp_path, b"first", b"second", b"third")
    (segment,) = segments(tmp_path)
    data = segment.read_bytes()
    at = data.index(b"second", data.index(b"key-second") + 10)
    segment.write_bytes(data[:at] + b"S" + data[at + 1 :])
    files = SegmentStore(tmp_path)
    adopt_all(files)
    taken = files.take(10)
    assert values(taken.placed) == [b"first", b"third"]
    (lost,) = taken.lost
    assert (lost.is_damage, lost.path) == (True, segment)
    (aside,) = (tmp_path / "corrupt").iterdir()
    assert aside.read_bytes() == (data[:at] + b"S" + data[at + 1 :])[lost.start : lost.start + lost.size]
    assert stat.S_IMODE(aside.stat().st_mode) == 0o600
    assert files.deliver(taken.placed)
    files.close()
    assert segments(tmp_path) == []


def test_a_damaged_file_is_kept_whole_when_the_damage_cannot_be_copied(tmp_path: Path) -> None:
    left_behind(tmp_path, b"first", b"second", b"third")
    (segment,) = segments(tmp_path)
    data = segment.read_bytes().replace(b"second", b"SECOND")
    segment.write_bytes(data)
    (tmp_path / "corrupt").write_text("a file where the folder should be")
    files = SegmentStore(tmp_path)
    adopt_all(files)
    taken = files.take(10)
    assert files.deliver(taken.placed)
    assert segments(tmp_path) == [segment]  # it could not even be moved
    (tmp_path / "corrupt").unlink()
    files.deliver(())
    (aside,) = (tmp_path / "corrupt").iterdir()
    assert aside.read_bytes() == data
    files.close()


def test_files_larger_than_what_is_read_at_once_are_read_to_their_end(tmp_path: Path) -> None:
    large = [bytes([65 + number]) * 900_000 for number in range(8)]
    assert len(b"".join(large)) > 3 * PIECE_BYTES
    files = SegmentStore(tmp_path)
    files.append(messages(*large), 0)
    found: list[bytes] = []
    while taken := files.take(3).placed:
        found += values(taken)
    assert found == large
    files.close()


def test_damage_longer_than_what_is_read_at_once_costs_only_itself(tmp_path: Path) -> None:
    left_behind(tmp_path, b"first", *[b"x" * 900_000] * 4, b"last", segment_bytes=1 << 24)
    (segment,) = segments(tmp_path)
    data = segment.read_bytes()
    begin, end = data.index(b"xxx"), data.rindex(b"xxx")
    segment.write_bytes(data[:begin] + b"\xff" * (end - begin) + data[end:])
    files = SegmentStore(tmp_path)
    adopt_all(files)
    found: list[bytes] = []
    while taken := files.take(10).placed:
        found += values(taken)
    assert found == [b"first", b"last"]
    files.close()


def test_a_file_does_not_overtake_the_rest_of_a_larger_one(tmp_path: Path) -> None:
    large = [bytes([65 + number]) * 900_000 for number in range(4)]
    left_behind(tmp_path, *large, segment_bytes=1 << 24)
    files = SegmentStore(tmp_path)
    adopt_all(files)
    files.append(messages(b"later"), 0)
    found: list[bytes] = []
    while taken := files.take(10).placed:
        found += values(taken)
    assert found == [*large, b"later"]
    files.close()


def test_what_several_processes_left_is_given_out_in_the_order_in_which_they_began(tmp_path: Path) -> None:
    left_behind(tmp_path, b"1", b"2", segment_bytes=1)
    (older,) = tmp_path.iterdir()
    second = SegmentStore(tmp_path)
    adopt_all(second)
    second.append(messages(b"3"), 0)
    second.deliver(second.take(1).placed)
    second.close()
    os.utime(older)  # as whenever a file of it is removed
    third = SegmentStore(tmp_path)
    adopt_all(third)
    assert values(third.take(10).placed) == [b"2", b"3"]
    third.close()


def test_what_a_process_left_that_was_killed_while_it_made_it_is_removed(tmp_path: Path) -> None:
    (tmp_path / ".new-1-0123456789ab").mkdir()
    (tmp_path / ".new-1-0123456789ab" / "lock").touch()
    (tmp_path / ".new-2-0123456789ab").mkdir()
    (tmp_path / ".new-check").touch()
    files = SegmentStore(tmp_path)
    files.claim()
    assert list(tmp_path.iterdir()) == []
    files.close()


def test_what_is_just_being_made_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / ".new-1-0123456789ab").mkdir()
    files, maker = SegmentStore(tmp_path), os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    fcntl.flock(maker, fcntl.LOCK_SH)
    files.claim()
    assert [path.name for path in tmp_path.iterdir()] == [".new-1-0123456789ab"]
    os.close(maker)
    files.claim()
    assert list(tmp_path.iterdir()) == []
    files.close()


def test_folders_are_made_while_others_tidy_up(tmp_path: Path) -> None:
    """Nothing that is being made is taken away, however often others look."""
    stop = threading.Event()

    def tidy() -> None:
        while not stop.is_set():
            remove_unfinished(tmp_path)

    tidying = threading.Thread(target=tidy)
    tidying.start()
    try:
        for _ in range(100):
            SpoolDirectory.make(tmp_path).close()
    finally:
        stop.set()
        tidying.join()


def test_of_what_was_set_aside_the_oldest_go(tmp_path: Path) -> None:
    for age, name in enumerate(("newest", "middle", "oldest")):
        corrupt.write(tmp_path, name, b"x" * 10)
        os.utime(tmp_path / "corrupt" / name, (1_000 - age, 1_000 - age))
    assert corrupt.keep_within(tmp_path) == (0, 0)
    assert corrupt.keep_within(tmp_path, max_bytes=25) == (1, 10)
    assert sorted(path.name for path in (tmp_path / "corrupt").iterdir()) == ["middle", "newest"]
    assert corrupt.keep_within(tmp_path, max_files=1) == (1, 10)
    assert [path.name for path in (tmp_path / "corrupt").iterdir()] == ["newest"]
