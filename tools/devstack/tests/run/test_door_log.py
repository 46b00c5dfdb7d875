from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from safevideo_common.observability.logs import LogSink, build_logger
from safevideo_devstack.run.event_feed import IngestLogTail

Write = Callable[..., None]
BEFORE = datetime.now(UTC) - timedelta(minutes=1)


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a line as the door does."""

    def line(service: str = "webhook-ingest", **details: object) -> None:
        sink = LogSink(tmp_path, stdout=False)
        build_logger(service, sink).info("Webhook signature valid", outcome="accepted", **details)
        sink.close()

    return line


def test_what_the_door_writes_is_read_once(tmp_path: Path, write: Write) -> None:
    door = IngestLogTail(tmp_path / "app.log", BEFORE)
    write(event_id='e="1" \\', type="performer.profile.updated", performer="sg_1")
    (arrival,) = door.read()
    assert (arrival.accepted, arrival.code, arrival.details["event_id"]) == (True, "-", 'e="1" \\')
    assert door.read() == []


def test_what_is_written_already_is_passed_over(tmp_path: Path, write: Write) -> None:
    write(event_id="old")
    door = IngestLogTail(tmp_path / "app.log", BEFORE)
    write(event_id="new")
    assert [arrival.details["event_id"] for arrival in door.read()] == ["new"]


def test_a_line_of_before_that_comes_late_is_passed_over(tmp_path: Path, write: Write) -> None:
    door = IngestLogTail(tmp_path / "app.log", datetime.now(UTC) + timedelta(minutes=1))
    write(event_id="late")
    assert door.read() == []


def test_lines_of_others_and_half_lines_are_no_arrivals(tmp_path: Path, write: Write) -> None:
    door = IngestLogTail(tmp_path / "app.log", BEFORE)
    write("gateway", event_id="1")
    write(event_id="2")
    whole = (tmp_path / "app.log").read_bytes()
    (tmp_path / "app.log").write_bytes(whole[:-5])
    assert door.read() == []
    (tmp_path / "app.log").write_bytes(whole)
    assert [arrival.details["event_id"] for arrival in door.read()] == ["2"]


def test_a_log_that_was_rotated_is_followed_from_its_beginning(tmp_path: Path, write: Write) -> None:
    write(event_id="old", type="a.rather.long.type")
    door = IngestLogTail(tmp_path / "app.log", BEFORE)
    (tmp_path / "app.log").replace(tmp_path / "app.log.1")
    write(event_id="new")
    assert [arrival.details["event_id"] for arrival in door.read()] == ["new"]
