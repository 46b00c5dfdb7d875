from pathlib import Path

from safevideo_devstack.run.state_files import MAX_LOG_BYTES, Paths


def test_a_log_that_has_grown_large_takes_the_place_of_its_predecessor(tmp_path: Path) -> None:
    place = Paths(tmp_path / ".run", "embedded")
    place.make()
    large, small = place.logs / "app.log", place.logs / "error.log"
    small.write_text("kept")
    for content in (b"older", b"newer"):
        large.write_bytes(content)
        with large.open("r+b") as file:
            file.truncate(MAX_LOG_BYTES + 1)
        place.set_large_logs_aside()
    assert not large.exists()
    with (place.logs / "app.log.1").open("rb") as kept:
        assert kept.read(5) == b"newer"
    assert small.read_text() == "kept"
