"""The checkpoint of a replay: results of several partitions are merged."""

from safevideo_common.replay.plan import Coverage, ReplayCheckpoint, parse_checkpoint

COMPLETE = Coverage(None, None, is_complete=True)


def test_merge_adds_the_results_of_a_partition() -> None:
    whole = ReplayCheckpoint({"0": 5, "1": 0}, {"0": 15, "1": 4}, 14, COMPLETE)
    first, second = whole.for_partition(0), whole.for_partition(1)
    first.skip_deleted(0, 8)
    first.count({"a": 2}, {"applied": 2})
    first.advance_to(0, 11)
    second.count({"a": 1, "b": 3}, {"stale": 4})
    second.advance_to(1, 4)
    assert (whole.processed, first.processed, second.processed) == (0, 6, 4)
    assert whole.document() == ReplayCheckpoint({"0": 5, "1": 0}, {"0": 15, "1": 4}, 14, COMPLETE).document()
    whole.merge(second, max_performers=1)
    whole.merge(first, max_performers=1)
    assert whole.processed == 10
    assert (whole.next, whole.events) == ({"0": 11, "1": 4}, 6)
    assert (whole.by_type, whole.by_outcome) == ({"a": 3, "b": 3}, {"stale": 4, "applied": 2})
    assert whole.coverage == Coverage(None, None, is_complete=False, deleted_meanwhile=3)
    assert whole.is_exact


def test_merge_keeps_the_first_performers_and_counts_all() -> None:
    whole = ReplayCheckpoint({"0": 0, "1": 0}, {"0": 1, "1": 1}, 2, COMPLETE)
    for number, names in enumerate((["sg_1", "sg_2"], ["sg_3", "sg_4"])):
        part = whole.for_partition(number)
        part.performers = [{"performerId": name} for name in names]
        part.performers_changing, part.is_exact = len(names), number == 0
        whole.merge(part, max_performers=3)
    assert [each["performerId"] for each in whole.performers] == ["sg_1", "sg_2", "sg_3"]
    assert (whole.performers_changing, whole.is_exact) == (4, False)
    assert parse_checkpoint(whole.document()) == whole
