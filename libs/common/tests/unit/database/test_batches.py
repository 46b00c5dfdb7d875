"""Lists of keys, cut to what one statement takes."""

from safevideo_common.database.batches import MAX_KEYS_PER_STATEMENT, chunks


def test_keys_come_once_and_in_everybody_s_order() -> None:
    assert list(chunks(["b", "a", "b", "C"])) == [["C", "a", "b"]]


def test_no_keys_are_no_chunk() -> None:
    assert list(chunks([])) == []


def test_a_long_list_is_cut_and_nothing_is_lost() -> None:
    keys = [f"{number:05}" for number in range(2 * MAX_KEYS_PER_STATEMENT + 1)]
    cut = list(chunks(reversed(keys)))
    assert [len(chunk) for chunk in cut] == [MAX_KEYS_PER_STATEMENT, MAX_KEYS_PER_STATEMENT, 1]
    assert [key for chunk in cut for key in chunk] == keys
