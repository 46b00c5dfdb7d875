"""Lists of keys, cut to what one statement takes."""

from safevideo_common.database.batches import MAX_KEYS_PER_STATEMENT, chunks


def test_chunks_are_distinct_and_sorted() -> None:
    assert list(chunks(["b", "a", "b", "C"])) == [["C", "a", "b"]]


def test_chunks_of_no_keys_are_empty() -> None:
    assert list(chunks([])) == []


def test_chunks_split_a_long_list_without_a_loss() -> None:
    keys = [f"{number:05}" for number in range(2 * MAX_KEYS_PER_STATEMENT + 1)]
    cut = list(chunks(reversed(keys)))
    assert [len(chunk) for chunk in cut] == [MAX_KEYS_PER_STATEMENT, MAX_KEYS_PER_STATEMENT, 1]
    assert [key for chunk in cut for key in chunk] == keys
